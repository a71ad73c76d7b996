"""Intervals checked on held-out runs: by how much they must be widened so that nine in ten losses lie inside.

The errors on held-out sizes and on the ends of runs give the reach of every target (`mixlaw.fitting.widening`). Then
all deviations are widened until 90 % of the held-out losses lie inside. That factor is one for all targets, because the
held-out losses of one target miss together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mixlaw.fitting.fitted import LEVEL, FittedLaw
from mixlaw.fitting.widening import reach_of
from mixlaw.selection.splits import KINDS
from mixlaw.selection.trial import Trial

FACTORS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)  # that are tried, the first sufficient one is taken
NEAR_BEYOND = 0.1  # log distance below which an error says nothing about how errors grow with distance
Reach = Mapping[str, dict[str, float]]


@dataclass(frozen=True)
class IntervalCheck:
    """What held-out runs say about a law's intervals.

    Attributes
    ----------
    statement : the result in a sentence
    factor : of all deviations of resamples
    reach : target -> n_params, n_tokens -> relative error per unit of log distance
    held : share of held-out losses inside the widened intervals; NaN where nothing could be held out
    """

    statement: str
    factor: float = 1.0
    reach: Reach | None = None
    held: float = float("nan")

    def apply(self, fit: FittedLaw) -> FittedLaw:
        """Return a law with its intervals widened by what was found."""
        return fit if self.reach is None else replace(fit.widened_by(self.factor, self.reach), held=self.held)


def check_intervals(fit: FittedLaw, trials: Sequence[Trial], scored: Trial | None) -> IntervalCheck:
    """Find by how much the intervals of a law must be widened.

    Parameters
    ----------
    fit : the law, fitted to the whole table
    trials : all of them
    scored : the one whose fits have enough resamples to judge intervals by; None where nothing could be held out
    """
    tried = scored.fits.get(fit.name) if scored else None
    if scored is None or not isinstance(tried, FittedLaw):
        return IntervalCheck(f"{fit.name} law: its intervals could not be tried on held-out runs")
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
    return IntervalCheck(f"{fit.name} law: {wider}: {inside}", factor, reach, held)


def _reach(fit: FittedLaw, trial: Trial) -> dict[str, dict[str, float]]:
    """Return target -> column -> relative error per unit of log distance that a law made on held-out runs."""
    column = {"scale": "n_params", "tokens": "n_tokens"}.get(trial.kind)
    tried = trial.fits.get(fit.name)
    if column is None or not isinstance(tried, FittedLaw):
        return {}
    beyond = np.log(trial.held.frame[column].to_numpy(float) / tried.ranges[column][1])
    far = pd.Series(beyond, index=trial.held.frame["row"])[beyond > NEAR_BEYOND]
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
