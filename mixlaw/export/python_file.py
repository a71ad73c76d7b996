"""A Python file for libraries whose mixtures are made by a call: the domains as literals, and a short function."""

from mixlaw.export.blend import Blend


def python_file(blend: Blend, imports: str, function: str) -> str:
    """Return Python source that defines `SOURCES`, domain -> (path, share of the samples), and a function.

    Parameters
    ----------
    imports, function : source code before and after `SOURCES`
    """
    rows = "".join(f"    {d.name!r}: ({d.path!r}, {d.share!r}),\n" for d in blend.domains)
    return f"{imports}\n\nSOURCES = {{  # domain: (path, share of the samples)\n{rows}}}\n\n\n{function}"
