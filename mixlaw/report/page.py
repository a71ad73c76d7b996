"""What a page of HTML is made of that needs nothing else: no network, no script, no other file."""

import base64
import html
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template
from typing import cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure

import mixlaw
from mixlaw.errors import ConfigError

WIDE = 7.5  # figures of more inches take a whole row
MOST_SHORT = 3  # pages with fewer headings need no list of them

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2rem auto; padding: 0 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .9rem; margin: 1rem 0; }
.answer { font-size: 1.15rem; padding: 1rem 1.2rem; border: 1px solid var(--line); border-radius: 8px; }
.answer p { margin: 0 0 .6rem; } .answer p:last-child { margin: 0; } .answer small { display: block; }
.note { padding: .5rem 1.2rem; border-left: 4px solid #E69F00; background: var(--soft); }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 460px), 1fr)); gap: 1rem;
  grid-auto-flow: dense; align-items: start; margin: 1rem 0; }
figure { margin: 0; background: white; border: 1px solid var(--line); border-radius: 8px; padding: .5rem; }
figure svg, figure img { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; margin: 1rem 0; /* a shadow on the right until the end is reached */
  background: linear-gradient(to left, Canvas 40%, transparent) right / 2.5rem 100% no-repeat local,
    linear-gradient(to left, var(--line), transparent) right / .8rem 100% no-repeat; }
h3 + .scroll { margin-top: .4rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; text-align: right; border-bottom: 1px solid var(--soft); white-space: nowrap;
  vertical-align: top; }
td.long { white-space: normal; overflow-wrap: anywhere; min-width: 16rem; }
figure.wide { grid-column: 1 / -1; overflow-x: auto; } figure.wide img { min-width: 640px; }
th:first-child, td:first-child, th.text, td.text, th.long, td.long { text-align: left; }
.scroll th:first-child, .scroll td:first-child { position: sticky; left: 0; background: Canvas; }
dt { font-weight: bold; } dd { margin: 0 0 .4rem 1.2rem; }
code { background: var(--soft); padding: .1rem .3rem; border-radius: 4px; overflow-wrap: anywhere; }
summary { cursor: pointer; }
.bar { display: flex; height: 1rem; gap: 2px; border-radius: 8px; overflow: hidden; } .bar span { min-width: 3px; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; list-style: none; padding: 0; }
.key i { display: inline-block; width: .8em; height: .8em; border-radius: 2px; margin-right: .4em; }
@media (prefers-color-scheme: dark) { figure { background: #e6e6e6; } figure img { filter: brightness(.9); } }
@media (max-width: 500px) { body { margin: 1rem auto; } .answer { font-size: 1rem; padding: .8rem; }
  figure { padding: .2rem; } th, td { padding: .25rem .5rem; } }
@media print { nav { display: none; } figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .scroll, figure.wide { overflow: visible; } .bar, .key i { print-color-adjust: exact; } }
</style></head><body>
$body
<p><small>Made by mixlaw $version.$remark</small></p>
</body></html>
""")


def write_page(out: Path, title: str, parts: Iterable[str], remark: str = "") -> None:
    """Write one self-contained HTML file; `parts` are HTML already, `title` and `remark` are text.

    Its headings can be jumped to from the top, and no line ends between a number and its percent sign.
    """
    text = "\n".join(parts).replace(" %", "\u00a0%")
    names = re.findall("<h2>(.*?)</h2>", text)
    for name in names:
        text = text.replace(f"<h2>{name}</h2>", f'<h2 id="{anchor(name)}">{name}</h2>')
    links = "".join(f'<a href="#{anchor(name)}">{name}</a>' for name in names)
    top = f"<nav>{links}</nav>" if len(names) >= MOST_SHORT else ""
    body = f"<h1>{html.escape(title)}</h1>{top}\n{text}"
    known = {"version": mixlaw.__version__, "remark": f" {html.escape(remark)}" if remark else ""}
    out.write_text(PAGE.substitute(title=html.escape(title), body=body, **known), encoding="utf-8")


def anchor(heading: str) -> str:
    """Return what a heading is called in a link.

    >>> anchor("What to run next?")
    'what-to-run-next'
    """
    return re.sub(r"\W+", "-", heading.lower()).strip("-")


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
    figure.savefig(buffer, format="svg", dpi=110, metadata={"Date": None})
    return _embedded(buffer.getvalue(), "svg+xml", ax.get_title().strip(), wide=figure.get_size_inches()[0] > WIDE)


def _embedded(raw: bytes, kind: str, title: str, wide: bool) -> str:
    data, shape = base64.b64encode(raw).decode(), ' class="wide"' if wide else ""
    return f'<figure{shape}><img alt="{html.escape(title)}" src="data:image/{kind};base64,{data}"></figure>'
