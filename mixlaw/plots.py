"""The figures that a person wants to see. Each function draws on the Axes it is given and returns it."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mixlaw.fit import LawFit
from mixlaw.laws import get_law
from mixlaw.tables import Table

# Okabe and Ito's palette, which people with any colour vision can tell apart
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999", "#F0E442"]
STYLE: Any = {
    "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25,
    "axes.axisbelow": True, "legend.frameon": False, "figure.facecolor": "white", "svg.hashsalt": "mixlaw",
}  # fmt: skip


def colours(names: Sequence[Any]) -> dict[Any, str]:
    """Return one colour per name, the same for the same order of names."""
    many = matplotlib.colormaps["viridis"](np.linspace(0, 0.95, max(len(names), 1)))
    if len(names) > len(COLOURS):
        return {name: matplotlib.colors.to_hex(c) for name, c in zip(names, many, strict=False)}
    return dict(zip(names, COLOURS, strict=False))


def in_words(count: float) -> str:
    """Return a count as people say it: 492k, 1.4B.

    >>> in_words(492_512), in_words(1.4e9), in_words(812)
    ('493k', '1.4B', '812')
    """
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g}{unit}"
    return f"{count:.3g}"


def predicted_against_observed(ax: Axes, predictions: pd.DataFrame, title: str) -> Axes:
    """Draw held-out points by target with their 90 % intervals against the diagonal."""
    known = predictions.dropna(subset="observed")
    for target, colour in colours(list(dict.fromkeys(known["target"]))).items():
        part = known[known["target"] == target]
        error = np.vstack([part["predicted"] - part["low"], part["high"] - part["predicted"]])
        ax.errorbar(
            part["observed"], part["predicted"], error, fmt="o", ms=4, lw=0.8, alpha=0.7, color=colour, label=target
        )
    ends = [known["observed"].min(), known["observed"].max()]
    ax.plot(ends, ends, color="black", lw=0.8, ls="--")
    ax.set(xlabel="measured loss [nats/token]", ylabel="predicted loss [nats/token]", title=title)
    ax.legend(fontsize=8)
    return ax


def errors_by_law(ax: Axes, scores: pd.DataFrame) -> Axes:
    """Draw the MRE of every target under every law, side by side."""
    wide = scores.pivot(index="target", columns="law", values="mre")
    wide = wide.loc[list(dict.fromkeys(scores["target"])), list(dict.fromkeys(scores["law"]))]
    wide.loc["mean"] = wide.mean()
    wide.plot.bar(ax=ax, rot=25, width=0.8, color=list(colours(list(wide.columns)).values()))
    for bars in ax.containers:
        ax.bar_label(bars, fmt="%.1f", fontsize=7)  # type: ignore[arg-type]
    ax.set(xlabel="", ylabel="mean relative error [%]", title="Held-out error by law")
    ax.legend(fontsize=8)
    return ax


def loss_against_tokens(ax: Axes, table: Table, fit: LawFit, target: str) -> Axes:
    """Draw a target's measured losses over D and the law's curves: per size the best run, the worst and two between."""
    frame = table.frame.dropna(subset=f"loss_{target}")
    palette = colours(sorted(frame["n_params"].unique()))
    law, result = get_law(fit.law), fit.target(target)
    for n_params, colour in palette.items():
        label: str | None = in_words(n_params)
        runs = [run for _, run in frame[frame["n_params"] == n_params].groupby("run_id")]
        runs.sort(key=lambda run: float(run[f"loss_{target}"].iloc[-1]))
        for place in sorted({round(i) for i in np.linspace(0, len(runs) - 1, 4)}):
            run = runs[place]
            ax.plot(run["n_tokens"], run[f"loss_{target}"], "o", ms=4, color=colour, label=label)
            label = None
            grid = np.geomspace(run["n_tokens"].min(), run["n_tokens"].max(), 30)
            mixture = run[[f"weight_{d}" for d in fit.domains_]].to_numpy(float)[-1:]
            x = fit.units_.inputs(np.full(30, float(n_params)), grid, np.repeat(mixture, 30, 0))
            ax.plot(grid, law.loss(result.theta[None], x)[0], lw=1.2, color=colour)
    ax.set(
        xscale="log",
        xlabel="training tokens D",
        ylabel="loss [nats/token]",
        title=f"{target}: points measured, lines {fit.law} law",
    )
    ax.legend(title="parameters N", fontsize=8, title_fontsize=8)
    return ax


def optimum(ax: Axes, domains: pd.DataFrame) -> Axes:
    """Draw h* with its interval per domain, beside the mixtures it must beat."""
    place = np.arange(len(domains))
    error = np.vstack([domains["weight"] - domains["low"], domains["high"] - domains["weight"]])
    ax.bar(place, domains["weight"], 0.55, yerr=error, capsize=4, color=COLOURS[0], label="recommended, 90 % interval")
    for name, marker, colour in (("uniform", "_", COLOURS[1]), ("natural", "D", COLOURS[2])):
        if name in domains:
            ax.scatter(
                place, domains[name], marker=marker, s=60 if marker == "D" else 400, color=colour, label=name, zorder=3
            )
    ax.set_xticks(place, domains["domain"], rotation=25 if len(domains) > 5 else 0)
    ax.set(ylabel="share of the tokens", title="The optimal mixture", ylim=(0, None))
    ax.legend(fontsize=8)
    return ax


def pull(ax: Axes, domains: pd.DataFrame) -> Axes:
    """Draw what a little more of each domain does to the loss, beginning at the uniform mixture."""
    per_point = domains["pull"] / 100
    colour = [COLOURS[2] if value < 0 else COLOURS[1] for value in per_point]
    ax.barh(domains["domain"], per_point, color=colour)
    ax.axvline(0, color="black", lw=0.8)
    ax.invert_yaxis()
    ax.set(
        xlabel="change of the target's loss per 1 % more [nats/token]",
        title="Each domain's pull (at the uniform mixture)",
    )
    return ax


def realised_against_requested(ax: Axes, table: Table) -> Axes:
    """Draw the weights that runs realised by the end against those that were asked for."""
    last = table.frame.sort_values("n_tokens").groupby("run_id").tail(1)
    worst = 0.0
    for domain, colour in colours(table.domains).items():
        asked, got = last[f"requested_{domain}"], last[f"weight_{domain}"]
        ax.plot(asked, got, "o", ms=5, alpha=0.7, color=colour, label=domain)
        worst = max(worst, float((asked - got).abs().max()))
    ax.plot([0, 1], [0, 1], color="black", lw=0.8, ls="--")
    ax.set(xlabel="requested weight", ylabel="realised weight", title=f"Realised mixtures: largest miss {worst:.4f}")
    ax.legend(fontsize=8)
    return ax


def proof(ax: Axes, rows: Sequence[Mapping[str, Any]], target: str) -> Axes:
    """Draw predicted losses with intervals beside the losses that were measured."""
    place = np.arange(len(rows))
    predicted = np.array([r["predicted"] for r in rows])
    error = np.abs(np.array([[r["predicted"] - r["low"], r["high"] - r["predicted"]] for r in rows]).T)
    ax.errorbar(
        place - 0.08, predicted, error, fmt="s", ms=7, capsize=4, color=COLOURS[0], label="predicted, 90 % interval"
    )
    ax.plot(place + 0.08, [r["measured"] for r in rows], "o", ms=9, color=COLOURS[1], label="measured")
    ax.set_xticks(place, [r["mixture"] for r in rows])
    ax.set(
        ylabel=f"{target} loss [nats/token]", title="The proof: predicted and measured", xlim=(-0.5, len(rows) - 0.5)
    )
    ax.legend(fontsize=8)
    return ax
