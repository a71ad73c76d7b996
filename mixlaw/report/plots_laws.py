"""Figures of laws and runs. Each function draws on the given Axes, or on new ones, and returns them.

Figures of mixtures are in `plots_mixture`. Figures are made without pyplot, so none has to be closed; a notebook
shows `plots.parameters(None, fit).figure`.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import blended_transform_factory

from mixlaw.fitting.fitted import Data, FittedLaw, as_table
from mixlaw.laws.jacobian import Array
from mixlaw.report.rows import known_losses, observed, relative_residuals, runs_over_tokens
from mixlaw.tables.columns import LOSS
from mixlaw.tables.table import Table
from mixlaw.tables.units import NATS, axis
from mixlaw.text import count_text

# the colour-blind safe palette of Okabe and Ito
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999", "#F0E442"]
STYLE: Any = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "svg.hashsalt": "mixlaw",
}
SIZE = (6.2, 4.4)
MANY_POINTS = 1500  # above it points are rasterised and lose their error bars, so that a report stays small
LETTERS = 36  # total length of names that fit side by side below an axis
LONGEST = 28  # letters; longer names are shortened in figures
MOST_ROWS = 14  # names that fit below each other in given Axes
MOST_TARGETS = 8  # targets whose parameters one figure shows
NAMED_INSIDE = 6  # entries; longer legends stand beside the Axes
CHANGE = "the mixture\nchanges"  # in legends
MANY_BARS = 30  # above it bars have no numbers


def axes(ax: Axes | None = None, size: tuple[float, float] = SIZE) -> Axes:
    """Return the Axes themselves, or those of a new figure of this size [inches]."""
    if ax is not None:
        return ax
    with matplotlib.rc_context(STYLE):
        return Figure(figsize=size, layout="constrained").subplots()


def colours(names: Iterable[Any]) -> dict[Any, str]:
    """Return one colour per name, the same for the same order of names."""
    names = list(names)
    many = matplotlib.colormaps["viridis"](np.linspace(0, 0.95, max(len(names), 1)))
    if len(names) > len(COLOURS):
        return {name: matplotlib.colors.to_hex(c) for name, c in zip(names, many, strict=False)}
    return dict(zip(names, COLOURS, strict=False))


def plain(name: object) -> str:
    r"""Return a name that matplotlib shows literally: `$` is escaped, and no leading `_` hides it in legends.

    >>> plain("us$"), plain("_web")
    ('us\\$', ' _web')
    """
    text = str(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def short(name: object) -> str:
    """Return a name for a figure, as `plain` does; the middle of a name of more than 28 letters is cut out.

    >>> short("web"), short("books_and_periodicals_of_the_19th_century")
    ('web', 'books_and_period…9th_century')
    """
    text = str(name)
    return plain(text if len(text) <= LONGEST else f"{text[: LONGEST - 12]}…{text[-11:]}")


def crowded(names: Iterable[object]) -> bool:
    """Return whether names are too long to stand side by side below a figure."""
    return sum(len(str(name)) for name in names) > LETTERS


def legend(ax: Axes, place: Any = "best", title: str = "", dense: bool = False) -> None:
    """Draw a legend at a place inside the Axes, or beside them where it is long or the place is "beside"."""
    count = len(ax.get_legend_handles_labels()[0])
    look: Any = {"fontsize": 8, "title_fontsize": 8, "frameon": False, "title": title or None}
    if count > NAMED_INSIDE or place == "beside":
        ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), markerscale=3 if dense else 1, **look)
    elif count:
        ax.legend(loc=place, markerscale=3 if dense else 1, **look)


def legend_above(ax: Axes, columns: int = 1) -> None:
    """Draw a legend between title and Axes, the recommended mixture first."""
    pairs = sorted(zip(*ax.get_legend_handles_labels(), strict=True), key=lambda pair: pair[1] != "recommended")
    handles, labels = [h for h, _ in pairs], [text for _, text in pairs]
    ax.set_title(ax.get_title(), pad=8 + 13 * -(-len(handles) // columns))
    ax.legend(
        handles,
        labels,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        fontsize=8,
        frameon=False,
        borderpad=0,
        ncols=columns,
    )


def predicted_against_observed(ax: Axes | None, predictions: pd.DataFrame, title: str = "", unit: str = NATS) -> Axes:
    """Draw predicted against measured losses per target, with 90 % intervals, from the result of `FittedLaw.predict`.

    Parameters
    ----------
    unit : unit of the targets
    """
    known, ax = observed(predictions), axes(ax)
    dense = len(known) > MANY_POINTS
    for target, colour in colours(dict.fromkeys(known["target"])).items():
        part, look = known[known["target"] == target], dict[str, Any](color=colour, label=short(target))
        if dense:
            ax.plot(part["observed"], part["predicted"], ".", ms=3, alpha=0.5, rasterized=True, **look)
            continue
        error = np.vstack([part["predicted"] - part["low"], part["high"] - part["predicted"]])
        ax.errorbar(part["observed"], part["predicted"], error, fmt="o", ms=4, lw=0.8, alpha=0.7, **look)
    ends = [known["observed"].min(), known["observed"].max()]
    ax.plot(ends, ends, color="black", lw=0.8, ls="--")
    ax.set(xlabel=axis("measured", unit), ylabel=axis("predicted", unit), title=title)
    legend(ax, "upper left", dense=dense)
    return ax


def residuals(ax: Axes | None, fit: FittedLaw, data: Data, against: str = "", title: str = "") -> Axes:
    """Draw relative residuals [%] per target, with running median and quartiles.

    Parameters
    ----------
    against : n_tokens, n_params or loss; by default the first of them that varies
    """
    ax, (known, against) = axes(ax), relative_residuals(fit, as_table(data), against)
    over, miss = known["against"], known["residual"]
    dense, palette = len(known) > MANY_POINTS, colours(dict.fromkeys(known["target"]))
    for i, (target, colour) in enumerate(palette.items()):
        own = known["target"] == target
        aside = 1.0 if against == "loss" else 1.008 ** (i - (len(palette) - 1) / 2)  # keeps targets apart
        look: Any = {"ms": 2 if dense else 4, "alpha": 0.5, "mew": 0, "color": colour, "rasterized": dense}
        ax.plot(over[own] * aside, miss[own], "o", label=short(target), **look)
    place, middle, low, high = trend(over.to_numpy(float), miss.to_numpy(float))
    ax.fill_between(place, low, high, color="black", alpha=0.15, lw=0, label="interquartile range")
    ax.plot(place, middle, "o-", color="black", lw=1.6, ms=4 if not dense else 2, label="median")
    ax.axhline(0, color="black", lw=0.8, ls="--")
    ax.set(ylabel="predicted - measured [%]", title=title or f"{plain(fit.name)} law: relative residuals")
    ax.set_xlabel(label_of(against, fit.unit_of(palette)))
    if against != "loss":
        count_axis(ax, over)
    legend(ax, "beside", dense=dense)
    return ax


def label_of(against: str, unit: str) -> str:
    """Return the label of an axis of n_tokens, n_params or measured losses."""
    return {"n_tokens": "training tokens D", "n_params": "parameters N"}.get(against, axis("measured", unit))


def trend(x: Array, y: Array, bins: int = 12) -> tuple[Array, Array, Array, Array]:
    """Return the median of x > 0 per bin, and the median and quartiles of y per bin, each (m,).

    Up to `bins` distinct values of x are bins of their own; values within 3 % of the one before count as equal,
    because runs of different mixtures end a few tokens apart. More values are binned at equal ratios.
    """
    values = np.unique(x)
    values = values[np.append(True, values[1:] > 1.03 * values[:-1])]
    edges = values if len(values) <= bins else np.geomspace(values[0], values[-1], bins + 1)[1:-1]
    own = np.searchsorted(edges, x, side="right")
    parts = [own == i for i in np.unique(own)]
    quartiles = np.array([np.percentile(y[p], [50, 25, 75]) for p in parts])
    return np.array([np.median(x[p]) for p in parts]), quartiles[:, 0], quartiles[:, 1], quartiles[:, 2]


def count_axis(ax: Axes, x: pd.Series) -> None:
    """Make the x axis logarithmic with ticks such as 1.4B; a single value gets an axis from half to twice of it."""
    ax.set_xscale("log")
    low, high = x.min(), x.max()
    if low == high:
        ax.set_xlim(low / 2, high * 2)
    values = np.unique(x)
    if len(values) <= 6 and (values[1:] > 1.15 * values[:-1]).all():
        ax.xaxis.set_major_locator(FixedLocator(values.tolist()))
    else:
        ax.xaxis.set_major_locator(MaxNLocator(5) if high < 5 * low else LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count_text(value)))
    ax.xaxis.set_minor_locator(NullLocator())


def errors_by_law(ax: Axes | None, scores: pd.DataFrame, title: str = "Held-out error by law") -> Axes:
    """Draw the MRE of every target under every law; the legend gives each law's means.

    In given Axes, only the targets with the largest errors are drawn if there are many.

    Parameters
    ----------
    scores : rows of law, target, mre [%], and optionally bias [%] and coverage [%]; a law may lack targets
    """
    laws, targets = list(dict.fromkeys(scores["law"])), list(dict.fromkeys(scores["target"]))
    wide = scores.pivot_table(index="target", columns="law", values="mre", aggfunc="mean").reindex(targets)[laws]
    if len(targets) > 1:
        wide = pd.concat(
            [wide, pd.DataFrame(wide.mean()).T.set_axis(["mean" if "mean" not in targets else "mean of all"])]
        )
    lying = len(wide) > MOST_TARGETS
    if ax and len(wide) > MOST_ROWS:
        largest = wide.iloc[:-1].max(axis=1).nlargest(MOST_ROWS - 1).index
        wide = wide.loc[[*(t for t in targets if t in largest), wide.index[-1]]]
    ax = axes(ax, (SIZE[0], max(SIZE[1], 0.28 * len(wide) + 1.3)) if lying else SIZE)
    place, width = np.arange(len(wide)), 0.8 / len(laws)
    for i, (law, colour) in enumerate(colours(laws).items()):
        at, label = place + (i - (len(laws) - 1) / 2) * width, plain(_law_label(scores[scores["law"] == law]))
        draw = ax.barh if lying else ax.bar
        bars = draw(at, wide[law].fillna(0.0), width, color=colour, label=label)
        if wide.size <= MANY_BARS:
            ax.bar_label(bars, ["" if np.isnan(v) else f"{v:.2f}" for v in wide[law]], fontsize=7)
    names = [short(name) for name in wide.index]
    if lying:
        ax.set_yticks(place, names)
        ax.invert_yaxis()
    else:
        slanted = len(names) > 4 or crowded(names)
        ax.set_xticks(place, names, rotation=25 if slanted else 0, ha="right" if slanted else "center")
        ax.set_xlim(min(-0.5, -2 / len(wide)), len(wide) - 1 + max(0.5, 2 / len(wide)))
    ax.set(title=title, **{"xlabel" if lying else "ylabel": "mean relative error [%]"})
    legend_above(ax)
    return ax


def _law_label(scores: pd.DataFrame) -> str:
    """Return the legend entry of a law with its means: joint: 1.68 %, bias +0.30 %, 90 % intervals hold 92 %."""
    words = f"{scores['law'].iloc[0]}: {scores['mre'].mean():.2f} %"
    if "bias" in scores and scores["bias"].notna().any():
        words += f", bias {round(scores['bias'].mean(), 2) + 0.0:+.2f} %"
    if "coverage" in scores and scores["coverage"].notna().any():
        words += f"; its 90 % intervals hold {scores['coverage'].mean():.0f} %"
    return words


def parameters(ax: Axes | None, fit: FittedLaw, targets: Iterable[str] = ()) -> Axes:
    """Draw a law's exponents and shape parameters with 90 % intervals, for the given or the first eight targets.

    All parameters are drawn for a law that has no exponents.
    """
    names = list(targets) or list(fit.targets)
    shown = names[:MOST_TARGETS]
    rows = fit.intervals_of_params()
    rows = rows[rows["target"].isin([fit.target(t) and t for t in shown])]
    shapes = rows[rows["parameter"].str.match("alpha|beta|gamma|delta|eta|lambda")]
    rows = shapes if len(shapes) else rows
    kinds = list(dict.fromkeys(rows["parameter"]))
    ax = axes(ax, (SIZE[0], max(SIZE[1], (0.06 * len(shown) + 0.16) * len(kinds) + 1.3)))
    for i, (target, colour) in enumerate(colours(shown).items()):
        part = rows[rows["target"] == target]
        place = part["parameter"].map(kinds.index) + (i - (len(shown) - 1) / 2) * 0.8 / len(shown)
        ax.hlines(place, part["low"], part["high"], color=colour, lw=1.4)
        ax.plot(part["value"], place, "o", ms=4, color=colour, label=short(target))
    ax.set_yticks(range(len(kinds)), [short(kind) for kind in kinds])
    ax.set_ylim(len(kinds) - 0.5, -0.5)
    for edge in np.arange(len(kinds) - 1) + 0.5:
        ax.axhline(edge, color="black", lw=0.4, alpha=0.2)
    if rows["low"].min() > 0 and rows["high"].max() > 20 * rows["low"].min():
        ax.set_xscale("log")
    ax.set(xlabel="value, 90 % interval", title=f"{plain(fit.name)} law: exponents and shapes")
    ax.grid(axis="y", visible=False)
    legend(ax, "beside", f"{len(shown)} of {len(names)} targets" if len(names) > len(shown) else "target")
    return ax


def loss_against_tokens(ax: Axes | None, data: Data, fit: FittedLaw, target: str) -> Axes:
    """Draw measured losses over D with the law's curves, for four runs per model size from the best to the worst.

    A cross marks where a run changes its mixture.
    """
    table, ax = as_table(data), axes(ax)
    shown = list(runs_over_tokens(table, fit, target))
    palette, named = colours(dict.fromkeys(size for size, _, _ in shown)), set[float]()
    for size, run, curve in shown:
        label = None if size in named else count_text(size)
        ax.plot(run["n_tokens"], run[LOSS + target], "o", ms=4, color=palette[size], label=label)
        ax.plot(curve["n_tokens"], curve["predicted"], lw=1.2, color=palette[size])
        named.add(size)
    if changes := [curve[curve["changes"]] for _, _, curve in shown if curve["changes"].any()]:
        at = pd.concat(changes)
        ax.plot(at["n_tokens"], at["predicted"], "x", ms=6, mew=1.6, color="black", label=CHANGE, zorder=3)
    title = f"{short(target)}: points measured, lines {plain(fit.name)} law"
    ax.set(xlabel="training tokens D", ylabel=axis("", fit.target(target).unit), title=title)
    count_axis(ax, known_losses(table, target)["n_tokens"])
    legend(ax, "beside", "parameters N")
    return ax


def realised_against_requested(ax: Axes | None, table: Table) -> Axes:
    """Draw the realised weights at the end of each run against the requested ones."""
    ax, worst = axes(ax), 0.0
    last = table.frame.sort_values("n_tokens").groupby("run_id").tail(1)
    for domain, colour in colours(table.domains).items():
        asked, got = last[f"requested_{domain}"], last[f"weight_{domain}"]
        ax.plot(asked, got, "o", ms=5, alpha=0.7, color=colour, label=short(domain))
        worst = max(worst, float((asked - got).abs().max()))
    ax.plot([0, 1], [0, 1], color="black", lw=0.8, ls="--")
    ax.set(xlabel="requested weight", ylabel="realised weight", title=f"Realised mixtures: largest error {worst:.4f}")
    legend(ax, "upper left")
    return ax


def proof(ax: Axes | None, rows: Sequence[Mapping[str, Any]], target: str, unit: str = NATS) -> Axes:
    """Draw predicted losses with 90 % intervals beside measured losses, per mixture."""
    ax, place = axes(ax), np.arange(len(rows))
    predicted = np.array([r["predicted"] for r in rows])
    error = np.abs(np.array([[r["predicted"] - r["low"], r["high"] - r["predicted"]] for r in rows]).T)
    interval: Any = {"fmt": "s", "ms": 7, "capsize": 4, "color": COLOURS[0], "label": "predicted, 90 % interval"}
    ax.errorbar(place - 0.08, predicted, error, **interval)
    ax.plot(place + 0.08, [r["measured"] for r in rows], "o", ms=9, color=COLOURS[1], label="measured")
    for x, row in zip(place, rows, strict=True):
        seeds = row.get("seeds", [])
        if len(seeds) > 1:
            ax.plot(np.full(len(seeds), x + 0.08), seeds, "_", ms=12, color="black", zorder=3)
    ax.set_xticks(place, [short(r["mixture"]) for r in rows])
    limits = (-0.5, len(rows) - 0.5)
    ax.set(ylabel=axis("", unit, short(target)), title="The proof: predicted and measured", xlim=limits)
    legend_above(ax, columns=2)
    return ax


def beside(ax: Axes) -> Any:
    """Return the transform with x in Axes coordinates and y in data coordinates."""
    return blended_transform_factory(ax.transAxes, ax.transData)
