"""Figures of recommended phases: their mixtures side by side, the loss over their ends, and what they gain."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mixlaw.advice.gains import OBJECTIVE
from mixlaw.advice.phase_plan import PhasePlan
from mixlaw.advice.recommendation import Recommendation
from mixlaw.errors import ConfigError
from mixlaw.report.material import needed
from mixlaw.report.phase_text import end_text, part_of_run, switch_columns
from mixlaw.report.plots_laws import COLOURS, MOST_ROWS, SIZE, axes, legend_above, short
from mixlaw.report.plots_mixture import LYING
from mixlaw.tables.units import MIXED, axis, brackets, together

TALL = 0.8  # of a domain's row that its bars take
OBJECTIVE_NAME = "weighted targets"
SAME_LOSS = 1e-6  # relative difference of two losses that are the same


def planned(answer: Recommendation) -> PhasePlan:
    """Return the recommended phases.

    Raises
    ------
    ConfigError
        If none were asked for.
    """
    plan: PhasePlan = needed(answer.phases, "--phases 2, with a law of phases")
    return plan


def shades(count: int) -> list[str]:
    """Return the colours of phases, the later the darker."""
    blues = matplotlib.colormaps["Blues"](np.linspace(0.3, 0.65, count))
    return [matplotlib.colors.to_hex(blue) for blue in blues]


def phases(ax: Axes | None, answer: Recommendation) -> Axes:
    """Draw the mixtures of all phases side by side with their intervals, and above them where the mixture changes.

    Many domains are sorted by their largest weight; given Axes show only the first of them.
    """
    plan, best = planned(answer), answer.weights
    weights = np.array([[h[d] for h in plan.weights] for d in best])
    order = np.argsort(-weights.max(1), kind="stable") if len(best) > LYING else np.arange(len(best))
    names = [list(best)[i] for i in order][: MOST_ROWS if ax else len(best)]
    ax = axes(ax, (SIZE[0], max(SIZE[1], 0.2 * len(names) * len(plan.until) + 2.2)))
    rows, height = np.arange(len(names)), TALL / len(plan.until)
    drawn = []
    for p, (colour, part) in enumerate(zip(shades(len(plan.until)), part_of_run(plan.until), strict=True)):
        own = plan.table[plan.table["phase"] == p + 1].set_index("domain").loc[names]
        place = rows + (p - (len(plan.until) - 1) / 2) * height
        ax.barh(place, own["weight"], 0.92 * height, color=colour)
        ax.hlines(place, own["low"], own["high"], color="black", lw=1.6, label="" if p else answer.interval_name)
        drawn.append(Patch(color=colour, label=f"phase {p + 1}: {part}"))
    single = [best[name] for name in names]
    low, high = rows - TALL / 2, rows + TALL / 2
    ax.vlines(single, low, high, color=COLOURS[1], lw=2.2, label="best single mixture")
    ax.set_yticks(rows, [short(name) for name in names])
    ax.set(xlim=(0, 1.02), ylim=(len(rows) - 0.45, -0.55), xlabel="share of the phase's tokens")
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.grid(axis="y", visible=False)
    some = f": {len(names)} of {len(best)} domains" if len(names) < len(best) else ""
    ax.set_title(f"The mixtures of the phases{some}", pad=33)
    _timeline(ax, plan.until)
    handles = [*drawn, *ax.get_legend_handles_labels()[0]]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, fontsize=8, frameon=False)
    return ax


def _timeline(ax: Axes, until: list[float]) -> None:
    """Draw the run as a bar above the Axes, its phases to scale."""
    strip = ax.inset_axes((0.0, 1.03, 1.0, 0.06))
    begins = [0.0, *until[:-1]]
    for p, (begin, end, colour) in enumerate(zip(begins, until, shades(len(until)), strict=True)):
        strip.barh(0, end - begin, 1.0, left=begin, color=colour, edgecolor="white")
        ink = "black" if p == 0 else "white"
        strip.text((begin + end) / 2, 0, str(p + 1), ha="center", va="center", color=ink, fontsize=8)
    for end in until[:-1]:
        strip.annotate(end_text(end), (end, 0.5), (0, 1.5), textcoords="offset points", ha="center", fontsize=8)
    strip.annotate("tokens of the run", (0, 0.5), (0, 1.5), textcoords="offset points", fontsize=8, color="#555555")
    strip.set(xlim=(0, 1), ylim=(-0.5, 0.5))
    strip.set_axis_off()


def has_switches(answer: Recommendation) -> bool:
    """Return whether several beginnings of phases were tried, and the loss alone was minimised."""
    plan = answer.phases
    if plan is None or len(plan.switches) < 2:
        return False
    return bool(np.isclose(plan.switches["predicted"].min(), plan.predicted, rtol=SAME_LOSS))


def switch(ax: Axes | None, answer: Recommendation) -> Axes:
    """Draw the lowest loss over where each phase begins, the others being best, beside the best single mixture.

    Raises
    ------
    ConfigError
        If there are no phases, one switch only was tried, or something else than the loss was minimised.
    """
    plan, noise = planned(answer), answer.noise
    if not has_switches(answer):
        raise ConfigError("this figure compares the losses of several switches: --phases 2 without --switch")
    ax, columns = axes(ax), switch_columns(plan)
    single = plan.predicted + float(plan.gains["gain"].iloc[0])
    if noise:
        label = f"within the noise of one run: {noise:.4f}"
        ax.axhspan(single - noise, single + noise, color=COLOURS[1], alpha=0.13, lw=0, label=label)
    ax.axhline(single, color=COLOURS[1], lw=1.4, ls="--", label=f"best single mixture: {single:.4f}")
    inks = [COLOURS[0], COLOURS[2], COLOURS[3], *COLOURS[4:]]
    for p, (column, end, ink) in enumerate(zip(columns, plan.until, inks, strict=False), 2):
        lowest = plan.switches.groupby(column)["predicted"].min()
        ax.plot(lowest.index, lowest, "o-", color=ink, ms=5, label=f"phase {p}: best from {end_text(end)}")
        ax.plot(end, plan.predicted, "*", ms=15, color=ink, mec="white", zorder=4)
    ax.plot([], [], "*", ms=11, color="#555555", label=f"recommended: {plan.predicted:.4f}")
    ax.set(xlabel="where the phase begins, share of D", ylabel=axis("predicted", answer.unit))
    ax.set_title("Loss over the beginning of a phase")
    ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.yaxis.set_major_locator(MaxNLocator(6))
    legend_above(ax, columns=2)
    return ax


def phase_gains(ax: Axes | None, answer: Recommendation) -> Axes:
    """Draw the gain of the phases over the best single mixture for every target, with its interval.

    In given Axes, only the targets with the largest gains or losses are drawn if there are many.
    """
    plan, unit = planned(answer), together(answer.units.values())
    gains = _named(answer, plan.gains)
    if ax and len(gains) > MOST_ROWS:
        gains = gains.loc[gains["gain"].abs().nlargest(MOST_ROWS).index.sort_values()]
    ax = axes(ax, (SIZE[0], max(2.6, 0.3 * len(gains) + 1.5)))
    place, centre = np.arange(len(gains)), gains["gain"].to_numpy(float)
    ax.axvline(0, color="black", lw=0.8, ls="--")
    ax.hlines(place, gains["low"], gains["high"], color=COLOURS[0], lw=2.4, alpha=0.55)
    ax.plot(centre, place, "o", ms=6, color=COLOURS[0])
    for x, y, gain in zip(gains["high"], place, centre, strict=True):
        ax.annotate(f"{gain:+.4f}", (x, y), (6, 0), textcoords="offset points", va="center", fontsize=8)
    low, high = ax.get_xlim()
    ax.set_xlim(low, high + 0.14 * (high - low))
    ax.set_yticks(place, [short(name) for name in gains["target"]])
    label = f"gain {brackets(unit)}" if unit != MIXED else "gain, in each target's unit"
    ax.set(xlabel=f"{label}, {answer.interval_name}", ylim=(len(place) - 0.5, -0.5))
    ax.set_title("Gain of the phases over the best single mixture")
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.grid(axis="y", visible=False)
    return ax


def _named(answer: Recommendation, gains: pd.DataFrame) -> pd.DataFrame:
    """Return the gains with the objective, if it is of several targets, under the name of their weighted sum."""
    if len(answer.question.targets) == 1:
        return gains[gains["target"] != OBJECTIVE].reset_index(drop=True)
    return gains.assign(target=gains["target"].where(gains["target"] != OBJECTIVE, OBJECTIVE_NAME))
