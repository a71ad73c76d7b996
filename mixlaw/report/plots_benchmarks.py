"""Figures of benchmarks: scores over losses with the fitted curve, and how well runs distinguish mixtures by target."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mixlaw.advice.recommendation import records
from mixlaw.benchmarks.curve import ScoreCurve
from mixlaw.benchmarks.points import Points
from mixlaw.report.plots_laws import COLOURS, MANY_BARS, SIZE, axes, colours, legend, legend_above, short
from mixlaw.tables.units import NATS, axis, difference
from mixlaw.text import count_text

BEYOND = 0.25  # of the range of losses, to which curves are drawn beyond the best run
MOST_COLUMNS = 3
LEAST_SPAN = 0.05  # of the axis of scores
ROW = 0.34  # inches of a bar


def score_curve(ax: Axes | None, curve: ScoreCurve) -> Axes:
    """Draw a curve with the 90 % interval of new runs, chance, and the runs by size; better is to the right."""
    ax = axes(ax)
    low, high = curve.losses
    loss = np.linspace(high, max(low - BEYOND * (high - low), 0.0), 200)
    found = curve.predict(loss)
    colour = COLOURS[7] if curve.reason else COLOURS[0]
    ax.fill_between(loss, found["low"], found["high"], color=colour, alpha=0.15, lw=0, label="90 % of new runs")
    ax.plot(loss, found["score"], "--" if curve.reason else "-", color=colour, label="fitted curve")
    ax.axhline(curve.chance, color="0.4", ls=":", lw=1, label="chance")
    _runs(ax, curve.points)
    _at_least(ax, LEAST_SPAN)
    ax.invert_xaxis()
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    title = f"{short(curve.name)}: not predictable" if curve.reason else short(curve.name)
    ax.set(xlabel=axis("", curve.unit, short(curve.target)), ylabel="score", title=title)
    legend(ax, "upper left")
    return ax


def _at_least(ax: Axes, span: float) -> None:
    """Widen the axis of scores to a span, so that its labels differ."""
    low, high = ax.get_ylim()
    if high - low < span:
        ax.set_ylim((low + high - span) / 2, (low + high + span) / 2)


def _runs(ax: Axes, points: Points) -> None:
    sizes = {size: float(np.median(points.n_params[points.size == size])) for size in np.unique(points.size)}
    for size, colour in colours(sizes).items():
        at = points.size == size
        label = f"N = {count_text(sizes[size])}"
        ax.plot(points.loss[at], points.score[at], "o", ms=3.5, color=colour, alpha=0.7, mew=0, label=label, zorder=1)


def signals(ax: Axes | None, found: pd.DataFrame, units: Mapping[str, str]) -> Axes:
    """Draw the ratio of signal to noise of every target, the largest on top; bars below 1 drown in the noise.

    Parameters
    ----------
    found : target, signal, noise and snr, see `mixlaw.advice.snr.signals`
    units : target -> its unit
    """
    rows = records(found.sort_values("snr", ascending=False, kind="stable"))
    ax = axes(ax, (SIZE[0], max(2.4, ROW * len(rows) + 1.4)))
    colour = [COLOURS[0] if row["snr"] >= 1 else COLOURS[7] for row in rows]
    bars = ax.barh(range(len(rows)), [row["snr"] for row in rows], 0.6, color=colour)
    ax.axvline(1, color=COLOURS[1], ls="--", lw=1.2, label="noise of one run")
    if len(rows) <= MANY_BARS:
        ax.bar_label(bars, [_signal(row, units.get(row["target"], NATS)) for row in rows], fontsize=8, padding=4)
    ax.set_yticks(range(len(rows)), [short(row["target"]) for row in rows])
    ax.set(
        xlabel="signal / noise", xlim=(0, 1.6 * max(1.0, *(row["snr"] for row in rows))), ylim=(len(rows) - 0.4, -0.6)
    )
    ax.set_title("How well the runs tell mixtures apart")
    ax.grid(axis="y", visible=False)
    legend_above(ax)
    return ax


def _signal(row: Mapping[str, Any], unit: str) -> str:
    return difference(f"{row['snr']:.3g}: {row['signal']:.3g} / {row['noise']:.2g}", unit)


def score_curves(curves: Sequence[ScoreCurve]) -> Figure:
    """Return one figure with the curves of several benchmarks."""
    columns = min(len(curves), MOST_COLUMNS)
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(SIZE[0] * columns, SIZE[1] * rows), layout="constrained")
    spaces = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for ax, curve in zip(spaces, curves, strict=False):
        score_curve(ax, curve)
    for ax in spaces[len(curves) :]:
        ax.set_axis_off()
    return figure
