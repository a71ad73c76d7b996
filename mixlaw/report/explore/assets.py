"""Script files: our own, and that of Bokeh."""

import base64
import gzip
from collections.abc import Iterable
from importlib.resources import files

from markupsafe import Markup

OWN = (
    *("text.js", "law.js", "draws.js", "gain.js", "mixture.js", "limits.js"),
    *("outcome.js", "scores.js", "explore.js", "charts.js", "main.js"),
)


def scripts(names: Iterable[str] = OWN) -> Markup:
    """Return our script files, one after the other, as the text of a script element."""
    folder = files("mixlaw.report.explore") / "js"
    return Markup("\n".join((folder / name).read_text(encoding="utf-8") for name in names))


def packed_bokeh() -> tuple[str, str]:
    """Return the version of Bokeh and the part of its script that draws plots, compressed (gzip) and in base64."""
    import bokeh
    from bokeh.resources import Resources

    script = Resources(mode="inline", components=["bokeh"]).js_raw[0]
    return bokeh.__version__, base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode()
