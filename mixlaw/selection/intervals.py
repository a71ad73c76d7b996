"""Calibration of intervals on held-out runs: widen them until they contain nine in ten held-out losses.

The errors on held-out sizes and on the ends of runs give the reach of every target (`mixlaw.fitting.widening`). One
factor then widens all deviations until 90 % of the held-out losses lie inside. All targets share it, because the
held-out losses of one target are correlated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mixlaw.fitting.fitted import LEVEL, FittedLaw
from mixlaw.fitting.widening import reach_of
from mixlaw.selection.pair_scores import pair_scores
from mixlaw.selection.splits import KINDS
from mixlaw.selection.trial import Trial
from mixlaw.tables.table import Table

FACTORS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)  # the first that reaches the coverage is taken
LEAST_DISTANCE = 0.1  # log distance; closer errors do not show how errors grow with distance
Reach = Mapping[str, dict[str, float]]


@dataclass(frozen=True)
class IntervalCheck:
    """The coverage of a law's intervals on held-out runs, and the widening that it calls for.

    Attributes
    ----------
    statement : the result in a sentence
    factor : of all deviations of resamples
    reach : target -> n_params, n_tokens -> relative error per unit of log distance
    held : share of held-out losses inside the widened intervals; NaN if nothing could be held out
    held_gains : share of differences between two held-out runs inside the intervals of gains; NaN without such pairs
    """

    statement: str
    factor: float = 1.0
    reach: Reach | None = None
    held: float = float("nan")
    held_gains: float = float("nan")

    def apply(self, fit: FittedLaw) -> FittedLaw:
        """Return the law with its intervals widened."""
        if self.reach is None:
            return fit
        return replace(fit.widened_by(self.factor, self.reach), held=self.held, held_gains=self.held_gains)


def check_intervals(fit: FittedLaw, trials: Sequence[Trial], scored: Trial | None) -> IntervalCheck:
    """Find by how much the intervals of a law must be widened.

    Parameters
    ----------
    fit : the law, fitted to the whole table
    trials : all trials of the law
    scored : the trial whose fits have enough resamples to measure coverage; None if nothing could be held out
    """
    tried = scored.fits.get(fit.name) if scored else None
    if scored is None or not isinstance(tried, FittedLaw):
        return IntervalCheck(f"{fit.name} law: its intervals could not be checked: no held-out runs")
    reach: dict[str, dict[str, float]] = {name: {} for name in fit.targets}
    for trial in trials:
        for target, found in _reach(fit, trial).items():
            reach[target] |= found
    for factor in FACTORS:
        scores = tried.widened_by(factor, reach).scores(scored.held)
        held = float((scores["coverage"] * scores["n"]).sum() / scores["n"].sum() / 100)
        if held >= LEVEL:
            break
    wider = "intervals were wide enough" if factor == FACTORS[0] else f"intervals are widened by {factor:g}"
    inside = f"{100 * held:.0f} % of the losses of {KINDS[scored.kind]} lie inside"
    gains = held_gains(tried, scored.held)
    also = f"; of the differences between two of these runs, {100 * gains:.0f} %" if gains == gains else ""
    return IntervalCheck(f"{fit.name} law: {wider}: {inside}{also}", factor, reach, held, gains)


def held_gains(fit: FittedLaw, held: Table) -> float:
    """Return the share of differences between two held-out runs inside the intervals of gains; NaN without pairs."""
    scores = pair_scores(fit, held)
    return float(np.average(scores["inside"], weights=scores["n"])) / 100 if len(scores) else float("nan")


def _reach(fit: FittedLaw, trial: Trial) -> dict[str, dict[str, float]]:
    """Return target -> column -> relative error per unit of log distance that a law made on held-out runs."""
    column = {"scale": "n_params", "tokens": "n_tokens"}.get(trial.kind)
    tried = trial.fits.get(fit.name)
    if column is None or not isinstance(tried, FittedLaw):
        return {}
    beyond = np.log(trial.held.frame[column].to_numpy(float) / tried.ranges[column][1])
    far = pd.Series(beyond, index=trial.held.frame["row"])[beyond > LEAST_DISTANCE]
    errors = tried.predict(trial.held, targets=fit.targets).dropna(subset="observed")
    errors = errors[errors["row"].isin(far.index)]
    if errors.empty:
        return {}
    off = np.log(errors["predicted"] / errors["observed"]) / errors["row"].map(far)
    size = (pd.Series(off) ** 2).groupby(errors["target"]).mean() ** 0.5
    distance = float(np.sqrt((1 / far**2).mean()) ** -1)
    names = list(size.index)
    noise = np.array([relative_noise(fit, name, errors) for name in names])
    found = reach_of(np.asarray(size.to_numpy(float) * distance, float), noise, distance)
    return {name: {column: float(value)} for name, value in zip(names, found, strict=True)}


def relative_noise(fit: FittedLaw, target: str, errors: pd.DataFrame) -> float:
    """Return the standard deviation of single runs around a law, relative to their losses."""
    sd = float(np.std(fit.target(target).noise))
    return sd if fit.logarithmic else sd / float(errors.loc[errors["target"] == target, "observed"].mean())
