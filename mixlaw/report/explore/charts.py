"""Interactive charts by Bokeh, as the JSON that its script draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mixlaw.report.explore.payload import Explorer
from mixlaw.report.plots_laws import COLOURS
from mixlaw.tables.units import MIXED, brackets

if TYPE_CHECKING:
    from bokeh.plotting import figure as Figure

HEIGHT, LINE = 380, 22  # pixels of a chart, and of a name on its axis
LIVE = "gains"  # name of the source that the explorer updates


@dataclass(frozen=True)
class Chart:
    """A chart of a page.

    Attributes
    ----------
    name : the end of its element's id
    title : the alternative text
    item : the JSON of Bokeh's `embed_item`
    wide : whether it takes a whole row of the page
    """

    name: str
    title: str
    item: dict[str, Any]
    wide: bool = False


def gains_chart(explorer: Explorer) -> Chart:
    """Return the chart of the gain of every target with its interval, which the explorer updates."""
    from bokeh.models import ColumnDataSource, Span

    names = list(explorer.fit.targets)
    rows: dict[str, Sequence[Any]] = {"target": names, **{key: [0.0] * len(names) for key in ("gain", "low", "high")}}
    source = ColumnDataSource(rows, name=LIVE)
    unit = explorer.fit.unit_of()
    label = f"gain {brackets(unit)}" if unit != MIXED else "gain, in each target's unit"
    plot = _figure(label, "", height=LINE * len(names) + 90, y_range=names[::-1], tools="hover,save")
    plot.add_layout(Span(location=0, dimension="height", line_dash="dashed", line_color="gray"))
    plot.segment("low", "target", "high", "target", source=source, line_width=3, color=COLOURS[0])
    dots = plot.scatter("gain", "target", source=source, size=9, color=COLOURS[0])
    plot.hover.tooltips = [
        ("target", "@target"),
        ("gain", "@gain{+0.0000}"),
        ("interval", "@low{+0.0000} to @high{+0.0000}"),
    ]
    plot.hover.renderers = [dots]
    return _chart("gains", "Gain of every target over the baseline", plot)


def _figure(x: str, y: str, **look: Any) -> "Figure":
    """Return an empty figure with labels of its axes."""
    from bokeh.plotting import figure

    look = {"height": HEIGHT, "sizing_mode": "stretch_width", "toolbar_location": "above"} | look
    return figure(x_axis_label=x, y_axis_label=y, background_fill_color=None, border_fill_color=None, **look)


def _chart(name: str, title: str, plot: "Figure", wide: bool = False) -> Chart:
    from bokeh.embed import json_item

    return Chart(name, title, dict(json_item(plot)), wide)
