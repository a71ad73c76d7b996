"""The figure and the table of a trade-off between two targets, or between the objective and the distance from today."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mixlaw.advice.constraints import RECOMMENDED, WORST
from mixlaw.advice.recommendation import Recommendation, records
from mixlaw.advice.tradeoff import DISTANCE, OF_OBJECTIVE, Tradeoff
from mixlaw.report.plots_laws import COLOURS, axes, legend_above, short
from mixlaw.report.plots_mixture import MARKS
from mixlaw.report.study import mixture_text
from mixlaw.tables.units import axis
from mixlaw.text import percent

AROUND = 1.0  # a uniform or natural mixture farther from the drawn range than this, in its extents, is left out


def tradeoff(ax: Axes | None, answer: Recommendation, found: Tradeoff) -> Axes:
    """Draw a front, the band above it within the noise of one run, h*, and the baselines."""
    ax, curve = axes(ax), found.curve
    x, y = curve["x"].to_numpy(float), curve["y"].to_numpy(float)
    ax.plot(x, y, "o-", ms=3.5, color=COLOURS[0], label="lowest possible")
    ax.fill_between(x, y, y + found.noise, color=COLOURS[0], alpha=0.15, lw=0, label="within the noise of one run")
    for i, row in enumerate(near(answer, found)):
        best = row["mixture"] == RECOMMENDED
        marker, colour, size = ("*", COLOURS[1], 15) if best else (MARKS[1:][i % 5], COLOURS[(1 + i) % 5], 7)
        ax.plot(row["x"], row["y"], marker, ms=size, color=colour, mec="white", label=short(row["mixture"]), zorder=4)
    ax.set(xlabel=_label(answer, found.x), ylabel=_label(answer, found.y), title="The trade-off")
    if found.x == DISTANCE:
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.yaxis.set_major_locator(MaxNLocator(6))
    legend_above(ax, columns=2)
    return ax


def tradeoff_table(answer: Recommendation, found: Tradeoff) -> pd.DataFrame:
    """Return the points of a front as text."""
    titles = [_label(answer, name) for name in (found.x, found.y)]
    rows = records(found.curve)
    shares = [percent(row["x"]) if found.x == DISTANCE else f"{row['x']:.4f}" for row in rows]
    losses = [f"{row['y']:.4f}" for row in rows]
    mixtures = [mixture_text(row["weights"]) for row in rows]
    return pd.DataFrame({titles[0]: shares, titles[1]: losses, "mixture": mixtures})


def near(answer: Recommendation, found: Tradeoff) -> list[dict[str, Any]]:
    """Return h*, the question's baselines, and of the usual ones those that do not squeeze the curve."""
    rows = records(found.marks)
    named = [row for row in rows if row["mixture"] in {RECOMMENDED, *answer.question.baselines}]
    ends = {c: np.array([*found.curve[c], *(row[c] for row in named)]) for c in ("x", "y")}
    room = {c: (1 + AROUND) * np.ptp(values) for c, values in ends.items()}
    return [row for row in rows if all(np.ptp([*ends[c], row[c]]) <= room[c] for c in ends)]


def _label(answer: Recommendation, name: str) -> str:
    """Return the label of an axis."""
    in_use = short(next(iter(answer.question.baselines), ""))
    if name == DISTANCE:
        return f"share of the tokens that moves away from {in_use}"
    if name != OF_OBJECTIVE:
        return axis("predicted", answer.units.get(name, answer.unit), short(name))
    if answer.question.objective == WORST:
        return f"largest loss relative to {in_use}"
    targets = list(answer.question.targets)
    return axis("predicted", answer.unit, "mean" if len(targets) > 1 else short(targets[0]))
