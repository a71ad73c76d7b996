"""Charts of runs, in which every point says which run it is."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.laws.jacobian import Array
from mixlaw.report.explore.charts import (
    Chart,
    chart_of,
    count_ticks,
    empty_figure,
    legend_below,
    say_on_hover,
    zero_line,
)
from mixlaw.report.material import Material, needed
from mixlaw.report.phase_text import part_of_run
from mixlaw.report.plots_laws import colours, label_of
from mixlaw.report.rows import relative_residuals, runs_over_tokens
from mixlaw.tables.columns import LOSS
from mixlaw.tables.phase_mixtures import phases_of
from mixlaw.tables.table import Table
from mixlaw.tables.units import axis
from mixlaw.text import count_text, percent

MOST_POINTS = 1500  # of a chart, so that a page stays small
MOST_NAMED = 8  # entries of a legend
MOST_DOMAINS = 4  # named in the text on a mixture, the largest
RUN = {"run": "@run", "N": "@n", "D": "@d", "mixture": "@mixture"}
POINT = RUN | {"target": "@target", "measured": "@observed{0.0000}", "predicted": "@predicted{0.0000}"}


def run_charts(m: Material, names: set[str]) -> dict[str, Chart]:
    """Return those of the named figures that have a chart, by name: predicted, residuals, tokens."""
    made = dict[str, Chart]()
    if {"predicted", "residuals"} & names:
        points, against = _points(m)
        made |= {"predicted": _predicted(m, points), "residuals": _residuals(m, points, against)}
    if "tokens" in names:
        made["tokens"] = _over_tokens(m)
    return {name: chart for name, chart in made.items() if name in names}


def _points(m: Material) -> tuple[pd.DataFrame, str]:
    """Return predictions of rows with measured losses, their residuals, the texts on their runs, and their colours."""
    known, against = relative_residuals(m.fit, m.runs)
    if len(known) > MOST_POINTS:
        known = known.iloc[np.linspace(0, len(known) - 1, MOST_POINTS).round().astype(int)]
    palette = colours(m.fit.targets)
    about = _about(m.runs, m.runs.frame[m.runs.frame["row"].isin(known["row"])]).set_index("row")
    return known.assign(colour=known["target"].map(palette)).join(about, on="row"), against


def _about(table: Table, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the texts that identify rows: run, N, D and mixture."""
    about = {"row": frame["row"], "run": frame["run_id"].astype(str)}
    counts = {"n": frame["n_params"].map(count_text), "d": frame["n_tokens"].map(count_text)}
    return pd.DataFrame(about | counts | {"mixture": _mixtures(replace(table, frame=frame))})


def _mixtures(table: Table) -> list[str]:
    """Return the text on the mixture of every row, or on the mixtures of its phases."""
    phases = phases_of(table)
    texts = [_mixture(table.domains, h) for h in table.mixtures]
    if phases is None:
        return texts
    for row in np.flatnonzero(phases.changed):
        parts = zip(part_of_run(phases.until[row]), phases.weights[row], phases.shares[row], strict=True)
        texts[row] = "; ".join(f"{part}: {_mixture(table.domains, h)}" for part, h, share in parts if share > 0)
    return texts


def _mixture(domains: list[str], weights: Array) -> str:
    largest = sorted(zip(domains, weights, strict=True), key=lambda pair: -pair[1])[:MOST_DOMAINS]
    return ", ".join(f"{name} {percent(weight)}" for name, weight in largest if weight > 0)


def _predicted(m: Material, points: pd.DataFrame) -> Chart:
    unit = m.fit.unit_of()
    plot = empty_figure(axis("measured", unit), axis("predicted", unit))
    ends = [float(points["observed"].min()), float(points["observed"].max())]
    plot.line(ends, ends, color="gray", line_dash="dashed")
    source = _source(points)
    plot.segment("observed", "low", "observed", "high", source=source, color="colour", alpha=0.5)
    _draw(plot, "observed", "predicted", source, points)
    return chart_of("predicted", f"{m.fit.name} law on {m.seen}{_some(points)}", plot)


def _residuals(m: Material, points: pd.DataFrame, against: str) -> Chart:
    counts = against != "loss"
    label = label_of(against, m.fit.unit_of())
    plot = empty_figure(label, "predicted - measured [%]", x_axis_type="log" if counts else "linear")
    zero_line(plot, "width")
    _draw(plot, "against", "residual", _source(points), points)
    if counts:
        count_ticks(plot, points["against"])
    return chart_of("residuals", f"{m.fit.name} law: relative residuals{_some(points)}", plot)


def _over_tokens(m: Material) -> Chart:
    table, target = needed(m.table, "--table TABLE"), m.target
    plot = empty_figure("training tokens D", axis("", m.fit.target(target).unit), x_axis_type="log")
    shown = list(runs_over_tokens(table, m.fit, target))
    palette = colours(dict.fromkeys(size for size, _, _ in shown))
    rows = []
    for size, run, curve in shown:
        plot.line(_light(curve["n_tokens"]), _light(curve["predicted"]), color=palette[size])
        at = curve[curve["changes"]]
        plot.scatter(_light(at["n_tokens"]), _light(at["predicted"]), marker="x", size=9, line_width=2, color="gray")
        about = _about(table, run).assign(target=count_text(size), colour=palette[size])
        rows.append(about.assign(observed=run[LOSS + target], n_tokens=run["n_tokens"]))
    points = pd.concat(rows)
    dots = _draw(plot, "n_tokens", "observed", _source(points), points)
    say_on_hover(plot, dots, RUN | {"measured": "@observed{0.0000}"})
    count_ticks(plot, points["n_tokens"])
    changed = any(curve["changes"].any() for _, _, curve in shown)
    crosses = "; crosses: the mixture changes" if changed else ""
    return chart_of("tokens", f"{target}: points measured, lines {m.fit.name} law{crosses}", plot)


def _draw(plot: Any, x: str, y: str, source: Any, points: pd.DataFrame) -> Any:
    """Draw points in their colours, with a legend of their targets if these are few; return their renderer."""
    few = 1 < points["target"].nunique() <= MOST_NAMED
    named = {"legend_group": "target"} if few else {}
    dots = plot.scatter(x, y, source=source, size=6, alpha=0.6, color="colour", **named)
    say_on_hover(plot, dots, POINT)
    if few:
        legend_below(plot)
    return dots


def _source(points: pd.DataFrame) -> Any:
    """Return the columns of points, numbers in 32 bits."""
    from bokeh.models import ColumnDataSource

    return ColumnDataSource({name: _light(column) for name, column in points.items() if name not in ("row", "law")})


def _light(column: "pd.Series[Any]") -> Array | list[str]:
    return column.to_numpy(np.float32) if column.dtype.kind in "fiu" else column.astype(str).tolist()


def _some(points: pd.DataFrame) -> str:
    return f" ({MOST_POINTS} of its points)" if len(points) == MOST_POINTS else ""
