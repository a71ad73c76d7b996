"""Interactive charts by Bokeh, as the JSON that its script draws. Bokeh is imported when the first one is made."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixlaw.report.explore.payload import Explorer
from mixlaw.report.plots_laws import COLOURS
from mixlaw.tables.units import MIXED, brackets
from mixlaw.text import count_text

HEIGHT, LINE = 380, 22  # pixels of a chart, and of a name on its axis
TOOLS = "hover,box_zoom,reset,save"


@dataclass(frozen=True)
class Chart:
    """A chart of a page.

    Attributes
    ----------
    name : the end of its element's id
    title : the text above it
    item : the JSON of Bokeh's `embed_item`
    wide : whether it takes a whole row of the page
    """

    name: str
    title: str
    item: dict[str, Any]
    wide: bool = False


def gains_chart(explorer: Explorer) -> Chart:
    """Return the chart of the gain of every target with its interval, which the explorer updates."""
    from bokeh.models import ColumnDataSource

    names = list(explorer.fit.targets)
    rows: dict[str, Sequence[Any]] = {"target": names, **{key: [0.0] * len(names) for key in ("gain", "low", "high")}}
    source = ColumnDataSource(rows, name="gains")
    unit = explorer.fit.unit_of()
    label = f"gain {brackets(unit)}" if unit != MIXED else "gain, in each target's unit"
    plot = empty_figure(label, "", height=LINE * len(names) + 90, y_range=names[::-1])
    zero_line(plot, "height")
    plot.segment("low", "target", "high", "target", source=source, line_width=3, color=COLOURS[0])
    dots = plot.scatter("gain", "target", source=source, size=9, color=COLOURS[0])
    span = "@low{+0.0000} to @high{+0.0000}"
    say_on_hover(plot, dots, {"target": "@target", "gain": "@gain{+0.0000}", "interval": span})
    return chart_of("gains", "Gain of every target over the baseline", plot)


def empty_figure(x: str, y: str, **look: Any) -> Any:
    """Return a figure without data, with labels of its axes."""
    from bokeh.plotting import figure

    look = {"height": HEIGHT, "sizing_mode": "stretch_width", "tools": TOOLS} | look
    return figure(x_axis_label=x, y_axis_label=y, background_fill_color=None, border_fill_color=None, **look)


def say_on_hover(plot: Any, dots: Any, shown: Mapping[str, str]) -> None:
    """Show a table of name -> Bokeh's template of a value for the point under the pointer."""
    plot.hover.renderers, plot.hover.tooltips = [dots], list(shown.items())


def legend_below(plot: Any) -> None:
    """Move the legend below the figure, where it hides no points."""
    [legend] = plot.legend
    legend.update(orientation="horizontal", ncols=4, border_line_color=None, background_fill_color=None, margin=0)
    legend.label_text_font_size = "11px"
    plot.add_layout(legend, "below")


def zero_line(plot: Any, dimension: str) -> None:
    """Draw a dashed line at zero, "width" or "height" of the figure."""
    from bokeh.models import Span

    plot.add_layout(Span(location=0, dimension=dimension, line_dash="dashed", line_color="gray"))


def count_ticks(plot: Any, counts: Iterable[float]) -> None:
    """Put ticks such as 1.4B on a logarithmic x axis of these counts."""
    low, high = min(counts), max(counts)
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)
    steps = (1, 2, 5) if high < 1000 * low else (1,)
    ticks = sorted(power * step for power in powers for step in steps)
    plot.xaxis.ticker = ticks
    plot.xaxis.major_label_overrides = {tick: count_text(tick) for tick in ticks}


def chart_of(name: str, title: str, plot: Any, wide: bool = False) -> Chart:
    """Return a figure as a chart of a page."""
    from bokeh.embed import json_item

    return Chart(name, title, dict(json_item(plot)), wide)
