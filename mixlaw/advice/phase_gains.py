"""The losses of a run with phases, and its gains over runs on other mixtures, with intervals."""

import numpy as np
import pandas as pd

from mixlaw.advice.constraints import RECOMMENDED, WORST
from mixlaw.advice.gains import OBJECTIVE, gains, scatter_sd
from mixlaw.advice.objective import Mixtures
from mixlaw.advice.outcomes import outcomes_of
from mixlaw.advice.phased_objective import PhasedGoal, PhasedObjective
from mixlaw.fitting.differences import gain_interval
from mixlaw.mixture import Mixture
from mixlaw.phased_mixture import PhasedMixture


def losses_of(phased: PhasedObjective, mixture: PhasedMixture, level: float) -> pd.DataFrame:
    """Return target ("objective" first), predicted, low and high of one run with these phases."""
    asked = {OBJECTIVE: phased} | {target: phased.of(target) for target in phased.fit.targets}
    rows = [outcomes_of(one, {RECOMMENDED: mixture}, level).assign(target=name) for name, one in asked.items()]
    return pd.concat(rows, ignore_index=True)[["target", "predicted", "low", "high"]]


def phase_gains(phased: PhasedObjective, mixtures: Mixtures, level: float) -> pd.DataFrame:
    """Return the gains of the recommended phases over every other mixture, as `mixlaw.advice.gains.gains` does.

    If the largest ratio to the baseline's losses is minimised, "objective" is the gain in that, in nats of the
    baseline's mean loss.
    """
    found = gains(phased, mixtures, level)
    if phased.question.objective == WORST:
        for i in found.index[found["target"] == OBJECTIVE]:
            found.loc[i, ["gain", "low", "high"]] = _worst_gain(phased, mixtures, str(found.loc[i, "mixture"]), level)
    return found


def _worst_gain(phased: PhasedObjective, mixtures: Mixtures, over: str, level: float) -> tuple[float, float, float]:
    """Return the gain in the largest ratio, and the ends of its interval; runs scatter as the worst target does."""
    pair = [mixtures[over], mixtures[RECOMMENDED]]
    there, here = PhasedGoal(phased).loss(np.stack([phased.point(h) for h in pair]))
    drawn = phased.unwidened().drawn()
    goal = PhasedGoal(drawn)
    cloud = [goal.loss(np.tile(drawn.point(h), (drawn.count, 1))) for h in pair]
    worst, scale = _worst_target(phased, mixtures[RECOMMENDED])
    sd = scale * scatter_sd(phased.of(worst), *pair)
    low, high = gain_interval(np.array([there - here]), (cloud[0] - cloud[1])[:, None], sd, level)
    return float(there - here), float(low[0]), float(high[0])


def _worst_target(phased: PhasedObjective, mixture: Mixture) -> tuple[str, float]:
    """Return the target with the largest ratio to the baseline's loss, and nats of the objective per nat of it."""
    question = phased.question
    important = [target for target, weight in question.targets.items() if weight > 0]
    ratios = {t: phased.of(t).at(mixture) / phased.of(t).at(question.in_use) for t in important}
    worst = max(ratios, key=lambda target: ratios[target])
    return worst, phased.at(question.in_use) / phased.of(worst).at(question.in_use)
