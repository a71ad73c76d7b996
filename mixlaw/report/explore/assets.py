"""Scripts of the page as one text."""

from importlib.resources import files

from markupsafe import Markup


def scripts(*names: str) -> Markup:
    """Return script files, one after the other, as the text of a script element."""
    folder = files("mixlaw.report.explore") / "js"
    return Markup("\n".join((folder / name).read_text(encoding="utf-8") for name in names))
