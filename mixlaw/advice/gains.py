"""The gain of the recommended mixture over baselines, as two real runs would show it: per target and for the objective.

The interval holds what resampled laws disagree about, the lack of fit and the seed noise of both runs, see
`mixlaw.fitting.differences`. The scatter of several targets adds up with the correlations that the runs show.
"""

import numpy as np
import pandas as pd

from mixlaw.advice.constraints import RECOMMENDED
from mixlaw.advice.objective import Mixtures, Objective
from mixlaw.fitting.differences import gain_interval
from mixlaw.laws.jacobian import Array
from mixlaw.mixture import Mixture

GAINS = ["mixture", "target", "gain", "low", "high"]
Gain = tuple[float, float, float]  # and the ends of its interval
OBJECTIVE = "objective"  # in the column `target`: the weighted targets of the question


def gains(objective: Objective, mixtures: Mixtures, level: float) -> pd.DataFrame:
    """Return the gain of the recommended mixture over every other one, with its interval.

    Parameters
    ----------
    mixtures : by name; the recommended one among them
    level : of the intervals, in (0, 1)

    Returns
    -------
    DataFrame of mixture, target ("objective" first, then every fitted target), gain, low, high [the target's unit]
    """
    asked = {OBJECTIVE: objective} | {t: objective.of(t) for t in objective.fit.targets}
    rows = [
        (name, target, *gain)
        for target, one in asked.items()
        for name, gain in gains_over(one, mixtures, level).items()
    ]
    return pd.DataFrame(rows, columns=GAINS)


def gains_over(objective: Objective, mixtures: Mixtures, level: float) -> dict[str, Gain]:
    """Return the gain of the recommended mixture over every other one, and the ends of its interval, by name."""
    resampled = objective.unwidened().drawn()
    value = {name: objective.at(h) for name, h in mixtures.items()}
    cloud = {name: resampled.by_law(h) for name, h in mixtures.items()}
    found = dict[str, Gain]()
    for name in (name for name in mixtures if name != RECOMMENDED):
        gain = value[name] - value[RECOMMENDED]
        sd = scatter_sd(objective, mixtures[RECOMMENDED], mixtures[name])
        low, high = gain_interval(np.array([gain]), (cloud[name] - cloud[RECOMMENDED])[:, None], sd, level)
        found[name] = gain, float(low[0]), float(high[0])
    return found


def scatter_sd(objective: Objective, one: Mixture, other: Mixture) -> Array:
    """Return (1,) the sd of the difference of two runs, on these mixtures, around the law's [the targets' unit]."""
    fit, importance = objective.fit, objective.question.targets
    at = [list(fit.targets).index(target) for target in importance]
    here, there = (objective.compared(h)[None] for h in (one, other))
    loss = {t: np.array([(objective.of(t).at(one) + objective.of(t).at(other)) / 2]) for t in importance}
    sd = np.array([w * fit.scatter_sd(t, here, there, loss[t])[0] for t, w in importance.items()])
    correlated = fit.correlations[np.ix_(at, at)] if len(fit.correlations) else np.ones((len(at), len(at)))
    found: Array = np.sqrt(np.maximum(sd @ correlated @ sd, 0.0))[None]
    return found
