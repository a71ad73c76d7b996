"""Script files: our own, and that of Bokeh."""

from collections.abc import Iterable
from importlib.resources import files

from markupsafe import Markup

OWN = ("text.js", "law.js", "draws.js", "gain.js", "mixture.js", "limits.js", "explore.js", "charts.js", "main.js")


def scripts(names: Iterable[str] = OWN) -> Markup:
    """Return our script files, one after the other, as the text of a script element."""
    folder = files("mixlaw.report.explore") / "js"
    return Markup("\n".join((folder / name).read_text(encoding="utf-8") for name in names))


def bokeh_script() -> Markup:
    """Return the part of Bokeh's script that draws plots, as the text of a script element."""
    from bokeh.resources import Resources

    return Markup(Resources(mode="inline", components=["bokeh"]).js_raw[0])
