"""Figures of injected pretraining data in finetuning: what it keeps from being forgotten, and what it costs."""

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from mixlaw.advice.injection import Tuning
from mixlaw.report.finetuned import Amount, Finetuned
from mixlaw.report.plots_laws import axes, colours, legend_above, short
from mixlaw.tables.units import brackets
from mixlaw.text import count_text, percent

LINEAR = 0.005  # shares below it have a linear scale, so that 0 can be shown
TICKS = (0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)


def forgotten(ax: Axes | None, runs: Finetuned) -> Axes:
    """Draw the pretraining loss after finetuning against the share of pretraining data, one curve per number of tokens.

    Bands are intervals, points measured runs, stars the recommended shares; the dashed line is the loss before.
    """
    ax, before = axes(ax), runs.amounts[0].tuning.loss_before
    for amount, colour in _coloured(runs):
        curve, loss = amount.curve, amount.tuning.loss_before
        ax.plot(curve["share"], loss + curve["forgotten"], color=colour, label=_tokens(amount.tuning))
        ax.fill_between(curve["share"], loss + curve["low"], loss + curve["high"], color=colour, alpha=0.13, lw=0)
        ax.plot(amount.measured["share"], loss + amount.measured["forgotten"], "o", ms=4, color=colour)
        if np.isfinite(share := amount.found.share):
            label = f"{percent(share)} keeps {percent(amount.found.kept)} away"
            left = loss + amount.found.at(share)["forgotten"]
            ax.plot(share, left, "*", ms=14, mec="white", color=colour, label=label, zorder=4)
    ax.axhline(before, color="black", ls="--", lw=1, label="before finetuning")
    ax.set(ylabel=f"loss of the pretraining domains {brackets(runs.unit)}")
    return _finish(ax, runs, "What finetuning forgets")


def injection_cost(ax: Axes | None, runs: Finetuned) -> Axes:
    """Draw what shares of pretraining data cost the finetuning domain, one curve per number of tokens."""
    ax, domain = axes(ax), runs.amounts[0].tuning.domain
    for amount, colour in _coloured(runs):
        curve, measured = amount.curve, amount.measured
        ax.plot(curve["share"], curve["cost"], color=colour, label=_tokens(amount.tuning))
        ax.fill_between(curve["share"], curve["cost_low"], curve["cost_high"], color=colour, alpha=0.13, lw=0)
        if "cost" in measured:
            ax.plot(measured["share"], measured["cost"], "o", ms=4, color=colour)
    ax.set(ylabel=f"added to the loss of {short(domain)} {brackets(runs.unit)}")
    return _finish(ax, runs, f"What injection costs {short(domain)}")


def _coloured(runs: Finetuned) -> Iterable[tuple[Amount, str]]:
    return zip(runs.amounts, colours(range(len(runs.amounts))).values(), strict=True)


def _tokens(tuning: Tuning) -> str:
    return f"{count_text(tuning.n_tokens)} tokens"


def _finish(ax: Axes, runs: Finetuned, title: str) -> Axes:
    """Set the axis of shares, and mark those beyond the runs."""
    last = max(float(amount.curve["share"].max()) for amount in runs.amounts)
    ax.set_xscale("symlog", linthresh=LINEAR, linscale=0.4)
    ax.set_xlim(0, last * 1.05)
    if last > 1.01 * runs.most:
        ax.axvspan(runs.most, last * 1.05, color="0.5", alpha=0.1, lw=0, label="beyond the runs")
    ax.xaxis.set_major_locator(FixedLocator([t for t in TICKS if t <= last * 1.05]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda share, _: percent(share)))
    n_params = count_text(runs.amounts[0].tuning.n_params)
    ax.set(xlabel="share of pretraining data in finetuning", title=f"{title} ({n_params} parameters)")
    legend_above(ax, columns=2)
    return ax
