"""What a page of HTML is made of that needs nothing else: no network, no script, no other file."""

import base64
import html
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure

import mixlaw
from mixlaw.errors import ConfigError

WIDE = 1.7  # figures whose width is more than this times their height take a whole row

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
.answer { font-size: 1.15rem; padding: 1rem 1.2rem; border: 1px solid var(--line); border-radius: 8px; }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 460px), 1fr)); gap: 1rem; }
figure { margin: 0; background: white; border: 1px solid var(--line); border-radius: 8px; padding: .5rem; }
figure svg, figure img { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid var(--soft); }
figure.wide { grid-column: 1 / -1; }
th:first-child, td:first-child { text-align: left; }
code { background: var(--soft); padding: .1rem .3rem; border-radius: 4px; overflow-wrap: anywhere; }
summary { cursor: pointer; }
.bar { display: flex; height: 1rem; gap: 2px; border-radius: 8px; overflow: hidden; } .bar span { min-width: 3px; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; padding: 0; }
.key i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em; }
</style></head><body>
$body
<p><small>Made by mixlaw $version.$remark</small></p>
</body></html>
""")


def write_page(out: Path, title: str, parts: Iterable[str], remark: str = "") -> None:
    """Write one self-contained HTML file; `parts` are HTML already, `title` and `remark` are text."""
    body = "\n".join([f"<h1>{html.escape(title)}</h1>", *parts])
    known = {"version": mixlaw.__version__, "remark": f" {html.escape(remark)}" if remark else ""}
    out.write_text(PAGE.substitute(title=html.escape(title), body=body, **known), encoding="utf-8")


def figure_of(ax: Axes) -> Figure:
    """Return the figure that Axes are in."""
    return cast(Figure, ax.figure)


def side_by_side(figures: Mapping[str, str], *names: str) -> str:
    """Return those of some figures that there are, side by side where there is room."""
    return f'<div class="figures">{"".join(figures[name] for name in names if name in figures)}</div>'


def scroll(table: str) -> str:
    """Return a table that scrolls by itself where it is wider than the page."""
    return f'<div class="scroll">{table}</div>'


def png(path: Path) -> str:
    """Return a picture as HTML that needs no other file.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    return _embedded(raw, "png", "predictions beside the truth", wide=True)


def drawn(ax: Axes) -> str:
    """Return a figure as HTML that needs no other file."""
    buffer, figure = io.BytesIO(), figure_of(ax)
    width, height = figure.get_size_inches()
    figure.savefig(buffer, format="svg", dpi=110, metadata={"Date": None})
    return _embedded(buffer.getvalue(), "svg+xml", ax.get_title().strip(), wide=width > WIDE * height)


def _embedded(raw: bytes, kind: str, title: str, wide: bool) -> str:
    data, shape = base64.b64encode(raw).decode(), ' class="wide"' if wide else ""
    return f'<figure{shape}><img alt="{html.escape(title)}" src="data:image/{kind};base64,{data}"></figure>'
