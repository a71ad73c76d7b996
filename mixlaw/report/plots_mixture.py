"""Figures of mixtures: the recommendation, the costs of its limits, and the trained mixtures around it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mixlaw.advice.objective import Objective
from mixlaw.advice.recommendation import Recommendation, records
from mixlaw.errors import ConfigError, unknown_name
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.jacobian import Array
from mixlaw.report.answer_tables import path_steps
from mixlaw.report.plots_laws import (
    COLOURS,
    MOST_ROWS,
    SIZE,
    axes,
    beside,
    colours,
    crowded,
    legend_above,
    plain,
    short,
)
from mixlaw.tables.units import NATS, axis, brackets, kind_of
from mixlaw.text import count_text, percent, price

Loss = Callable[[Array], Array]  # mixtures (n, k) -> the targets' predicted loss at the big run (n,)
LYING = 8  # domains; above it, or with long names, bars are horizontal
ROOTS = 8  # domains; above it most weights are small, and the axis has a square-root scale
MARKS = ("|", "D", "s", "^", "v", "P")  # of baselines, in order
LINES = ("--", ":", (0, (5, 1)), (0, (3, 1, 1, 1)))
CROWD = 150  # lines; from there on they are drawn fainter and rasterised
TOUCHING = 1e-4  # largest weight difference at which the unconstrained optimum equals h*
UNSEEN = 5e-4  # domains whose weight stays below it are not drawn
GOOD = "YlGnBu_r"  # colour map from low to high loss


def predicted_loss(answer: Recommendation, laws: FittedLaws) -> Loss:
    """Return the loss of the answer's targets at its big run as a function of the mixture.

    Raises
    ------
    ConfigError
        If the answer is not from these laws.
    """
    if answer.law not in laws.fits:
        raise ConfigError(f"the recommendation is not from these laws: {unknown_name('law', answer.law, laws.fits)}")
    fit, domains = laws.fits[answer.law], list(answer.weights)
    if fit.domains != domains:
        raise ConfigError(f"the recommendation is not from these laws: its domains are {domains}, not {fit.domains}")
    return Objective(fit, answer.question, laws.sizes).loss


def big_run_label(answer: Recommendation) -> str:
    """Return the label of the colour bar: the predicted loss at the big run."""
    unit = answer.unit
    level = f" [{kind_of(unit).level}]" if kind_of(unit).level else ""
    return f"predicted {kind_of(unit).noun} at the big run{level}"


@dataclass(frozen=True)
class Beside:
    """A mixture drawn beside h*: its weights (k,) in the order of the figure, and how it is drawn."""

    label: str
    shares: Array
    colour: str
    marker: str
    line: Any


def beside_best(answer: Recommendation, domains: pd.DataFrame) -> list[Beside]:
    """Return the mixtures to draw beside h*: the baselines, and the unconstrained optimum if it differs from h*.

    Parameters
    ----------
    domains : the rows of the answer's table that are drawn, in their order
    """
    drawn = []
    for i, (name, mixture) in enumerate(answer.baselines.items()):
        shares = np.array([mixture[d] for d in domains["domain"]])
        look = COLOURS[(1 + i) % 5], MARKS[i % len(MARKS)], LINES[i % len(LINES)]
        drawn.append(Beside(name, shares, *look))
    free = domains.get("unconstrained")
    if free is not None and np.abs(free - domains["weight"]).max() >= TOUCHING:
        drawn.append(Beside("optimum without limits", free.to_numpy(float), "black", "x", "-."))
    return drawn


def optimum(ax: Axes | None, answer: Recommendation) -> Axes:
    """Draw h* with its interval and its flat frontier per domain, beside the baseline mixtures.

    Many domains, or long names, give horizontal bars sorted by weight; given Axes show only the largest weights.
    """
    domains = answer.table
    count = len(domains)
    lying = len(domains) > LYING or crowded(map(short, domains["domain"]))
    if lying:
        domains = domains.sort_values("weight", ascending=False, kind="stable").reset_index(drop=True)
        domains = domains.head(MOST_ROWS if ax else count)
    ax = axes(ax, (SIZE[0], max(SIZE[1], 0.27 * len(domains) + 1.6)) if lying else SIZE)
    place, weight = np.arange(len(domains)), domains["weight"].to_numpy(float)
    (ax.barh if lying else ax.bar)(place, weight, 0.6, color=COLOURS[5], label="recommended")
    lines = ax.hlines if lying else ax.vlines
    lines(place - 0.1, domains["low"], domains["high"], color=COLOURS[0], lw=3.5, label=answer.interval_name)
    tops = [weight.max(), domains["high"].max()]
    if "flat_low" in domains:
        flat = "equally good within the noise"
        lines(place + 0.12, domains["flat_low"], domains["flat_high"], color="black", lw=1, label=flat)
        tops.append(domains["flat_high"].max())
    for other in beside_best(answer, domains):
        marker = "_" if other.marker == "|" and not lying else other.marker
        x, y = (other.shares, place) if lying else (place, other.shares)
        size = 90 if marker in "|_" else 28
        ax.scatter(x, y, marker=marker, s=size, color=other.colour, label=other.label, zorder=3)
        tops.append(other.shares.max())
    names = [f"{short(n)}  {percent(w)}" for n, w in zip(domains["domain"], weight, strict=True)]
    if lying:
        ax.set_yticks(place, names)
        ax.set(xlabel="share of the tokens", xlim=(0, 1.05 * max(tops)), ylim=(len(place) - 0.4, -0.6))
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    else:
        names = [name.replace("  ", "\n") for name in names]
        ax.set_xticks(place, names)
        ax.set(ylabel="share of the tokens", ylim=(0, 1.05 * max(tops)))
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    some = f": {len(domains)} of {count} domains" if len(domains) < count else ""
    ax.set_title(f"The optimal mixture{some}")
    legend_above(ax, columns=2)
    ax.grid(axis="y" if lying else "x", visible=False)
    return ax


def gradient(ax: Axes | None, answer: Recommendation) -> Axes:
    """Draw the gradient of the loss by each domain's weight at the uniform mixture, per 1 % of weight."""
    domains = answer.table
    if len(domains) > LYING:
        domains = domains.sort_values("gradient", kind="stable")
    ax = axes(ax, (SIZE[0], max(SIZE[1], 0.27 * len(domains) + 1.3)))
    per_point = domains["gradient"] / 100
    colour = [COLOURS[2] if value < 0 else COLOURS[1] for value in per_point]
    ax.barh(np.arange(len(domains)), per_point, color=colour)
    ax.set_yticks(np.arange(len(domains)), [short(name) for name in domains["domain"]])
    ax.axvline(0, color="black", lw=0.8)
    ax.invert_yaxis()
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.set(
        xlabel=change_label(answer.unit),
        title="Gradient by domain (at the uniform mixture)",
    )
    return ax


def change_label(unit: str) -> str:
    """Return the axis label of the gradient: the change of the target per 1 % more of a domain.

    >>> change_label("nats/token"), change_label("error rate")
    ("change of the target's loss per 1 % more [nats/token]", "change of the target's error rate per 1 % more")
    """
    return axis("change of the target's", unit).replace(kind_of(unit).noun, f"{kind_of(unit).noun} per 1 % more", 1)


def prices(ax: Axes | None, answer: Recommendation) -> Axes:
    """Draw the cost of every active limit beside the noise of one run.

    Raises
    ------
    ConfigError
        If no limit costs anything.
    """
    rows = sorted(records(answer.prices), key=lambda row: -float(row["cost"]))
    if not rows:
        raise ConfigError("no limit costs anything here: ask with --floor, --cap, --pin, --group or --max-epochs")
    ax = axes(ax, (SIZE[0], max(2.2, 0.4 * len(rows) + 1.4)))
    costs = [float(row["cost"]) for row in rows]
    bars = ax.barh(range(len(rows)), costs, 0.6, color=COLOURS[0])
    behind = {"facecolor": "white", "edgecolor": "none", "pad": 1.0}
    ax.bar_label(bars, [_price(row) for row in rows], fontsize=8, padding=4, bbox=behind)
    noise, right = answer.noise, 1.5 * max(costs)
    ax.set_title("What limits cost")
    if noise and noise < 3 * max(costs):
        ax.axvline(noise, color=COLOURS[1], ls="--", lw=1.2, zorder=0.9, label=f"noise of one run: {noise:.4f}")
        right = max(right, 1.1 * noise)
        legend_above(ax)
    ax.set_yticks(range(len(rows)), [plain(row["constraint"]) for row in rows])
    added = "loss that the limit adds [nats/token]" if answer.unit == NATS else f"what it adds {brackets(answer.unit)}"
    ax.set(xlabel=added, xlim=(0, right), ylim=(len(rows) - 0.4, -0.6))
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.grid(axis="y", visible=False)
    return ax


def _price(row: Mapping[str, Any]) -> str:
    """Return the label of a limit: its cost, and the weight of its domain with and without it (not for groups)."""
    shares = [row["weight"], row["weight_without"]]
    if any(pd.isna(w) for w in shares):
        return price(row["cost"])
    return f"{price(row['cost'])} ({percent(row['weight'])}; without it {percent(row['weight_without'])})"


def path(ax: Axes | None, answer: Recommendation) -> Axes:
    """Draw h* with its 90 % interval from the smallest run to the big one; tick labels give the regret of each step.

    N and D grow geometrically from step to step: the axis is logarithmic in both.
    """
    steps, names = path_steps(answer), list(answer.table["domain"])
    if not steps:
        raise ConfigError(
            "there is no path to draw: the law reads neither N nor D, or the runs are as large as the big one"
        )
    ax = axes(ax, (SIZE[0], max(SIZE[1], 0.24 * len(names) + 1.4)))
    place, shares = np.arange(len(steps)), np.array([[row["weights"][name] for row in steps] for name in names])
    palette = list(colours(names).values())
    bands = np.array([[row["interval"][name] for name in names] for row in steps])  # step, domain, end
    top = min(1.0, 1.05 * float(bands.max()))
    seen = np.flatnonzero(shares.max(1) >= UNSEEN)
    seen = seen[np.argsort(shares[seen, -1], kind="stable")]
    for i in seen:
        ax.plot(place, shares[i], color=palette[i], lw=1.8, label=short(names[i]))
        ax.fill_between(place, bands[:, i, 0], bands[:, i, 1], color=palette[i], alpha=0.15, lw=0)
    wanted = shares[:, -1] / top
    for i, to in zip(seen, spread(wanted[seen]), strict=True):
        line = {"arrowstyle": "-", "color": palette[i], "shrinkA": 0, "shrinkB": 0, "lw": 1.5, "relpos": (0, 0.5)}
        text = f"{short(names[i])}  {percent(shares[i, -1])}"
        where: Any = {
            "xy": (1, shares[i, -1]),
            "xytext": (1.05, to * top),
            "xycoords": beside(ax),
            "textcoords": beside(ax),
        }
        ax.annotate(text, va="center", fontsize=8, arrowprops=line, **where)
    labels = [f"{count_text(r['n_params'])}\n{count_text(r['n_tokens'])}\n{r['regret']:.4f}" for r in steps]
    ax.set_xticks(place, labels, fontsize=9)
    rows = f"parameters N\ntokens D\nregret {brackets(answer.unit)}"
    ax.annotate(rows, (0, 0), (-26, -4), "axes fraction", "offset points", ha="right", va="top", fontsize=9)
    ax.set(xlim=(place[0], place[-1]), ylim=(0, top), title=f"h* on the way to the big run, {answer.interval_name}")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.grid(visible=False)
    return ax


def spread(wanted: Array) -> Array:
    """Return label positions in [0, 1], least-squares close to ascending wanted ones, with a minimum distance.

    Subtracting the minimum distances leaves an isotonic regression, solved by pooling adjacent violators.

    >>> spread(np.array([0.1, 0.11, 0.9])).round(3).tolist()
    [0.075, 0.135, 0.9]
    """
    gap = min(0.06, 0.8 / len(wanted))
    steps = gap * np.arange(len(wanted))
    runs: list[tuple[float, int]] = []
    for place in wanted - steps:
        runs.append((float(place), 1))
        while len(runs) > 1 and runs[-2][0] >= runs[-1][0]:
            (a, m), (b, n) = runs[-2:]
            runs[-2:] = [((a * m + b * n) / (m + n), m + n)]
    together = np.repeat([place for place, _ in runs], [count for _, count in runs])
    places: Array = np.clip(together, 0, 1 - steps[-1]) + steps
    return places


def parallel(ax: Axes | None, answer: Recommendation, laws: FittedLaws) -> Axes:
    """Draw the trained mixtures over all domains, coloured by predicted loss at the big run, and h*.

    Mixtures are drawn in the order of decreasing loss, so that good ones lie on top.
    """
    domains, predict = answer.table, predicted_loss(answer, laws)
    k = len(domains)
    ax = axes(ax, (max(SIZE[0], 0.42 * k + 2.2), SIZE[1] + (0.6 if k > LYING else 0)))
    place, mixtures = np.arange(k), trained(laws, k)
    if len(mixtures):
        loss = predict(mixtures)
        order = np.argsort(-loss)
        lines = [np.column_stack([place, h]) for h in mixtures[order]]
        scale = Normalize(loss.min(), np.quantile(loss, 0.95))
        drawn = LineCollection(lines, cmap=GOOD, norm=scale, array=loss[order], lw=0.8)
        drawn.set(alpha=0.75 if len(mixtures) < CROWD else 0.3, rasterized=len(mixtures) >= CROWD)
        ax.add_collection(drawn)
        extend = "max" if loss.max() > scale.vmax else "neither"
        bar = ax.figure.colorbar(drawn, ax=ax, extend=extend, label=big_run_label(answer), pad=0.02)
        if bar.solids is not None:
            bar.solids.set_alpha(1)
    ax.plot(place, domains["weight"], "o-", color=COLOURS[1], lw=2.8, ms=5, label="recommended", zorder=4)
    for other in beside_best(answer, domains):
        ax.plot(place, other.shares, color="black", lw=1.3, ls=other.line, label=other.label, zorder=3)
    names = [short(name) for name in domains["domain"]]
    many = k > 5 or crowded(names)
    ax.set_xticks(place, names, rotation=45 if many else 0, ha="right" if many else "center", rotation_mode="anchor")
    top = max([float(domains["weight"].max()), float(mixtures.max(initial=0.0)), 1 / k])
    note = ""
    if k > ROOTS:
        ax.set_yscale("function", functions=(lambda y: np.sqrt(np.maximum(y, 0)), np.square))
        ax.set_yticks([t for t in (0.01, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1) if t <= top])
        note = " (square-root scale)"
    ax.set(ylabel=f"share of the tokens{note}", xlim=(-0.3, k - 0.7), ylim=(0, 1.02 * top))
    ax.set_title(f"Trained mixtures{of_means(laws)} and h*")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    legend_above(ax, columns=4)
    return ax


def of_means(laws: FittedLaws) -> str:
    """Return what is said of the trained mixtures where runs had phases: those of whole runs are drawn."""
    return " (phases: their mean)" if laws.phase_ranges else ""


def trained(laws: FittedLaws, k: int) -> Array:
    """Return (m, k) the mixtures that the laws were fitted to."""
    return np.asarray(laws.mixtures, float).reshape(-1, k)
