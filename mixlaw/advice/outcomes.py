"""The predicted losses of runs on several mixtures, and the recommended mixture's gains over the others."""

import numpy as np
import pandas as pd

from mixlaw.advice.gains import gains_over
from mixlaw.advice.objective import Mixtures, Objective
from mixlaw.fitting.bootstrap import interval
from mixlaw.fitting.widening import with_scatter
from mixlaw.laws.jacobian import Array
from mixlaw.mixture import Mixture


def outcomes_of(objective: Objective, mixtures: Mixtures, level: float) -> pd.DataFrame:
    """Return, per mixture, the predicted loss and the gain of the recommended mixture, with intervals."""
    gained, rows = gains_over(objective, mixtures, level), []
    for name, weights in mixtures.items():
        low, high = (float(end) for end in interval(run_losses(objective, weights), level))
        value, gain = objective.at(weights), gained.get(name, (0.0, 0.0, 0.0))
        row = {"mixture": name} | dict(zip(("gain", "gain_low", "gain_high"), gain, strict=True))
        rows.append(row | {"predicted": value, "low": min(low, value), "high": max(high, value), "weights": weights})
    return pd.DataFrame(rows)


def run_losses(objective: Objective, weights: Mixture) -> Array:
    """Return (b,) losses of single runs: those of resampled laws plus the targets' scatter, weighted by importance."""
    losses, rng = objective.drawn().by_law(weights), np.random.default_rng(0)
    around = [
        w * (objective.fit.scattered(t, losses[:, None], rng)[:, 0] - losses)
        for t, w in objective.question.targets.items()
    ]
    return with_scatter(losses, np.sum(around, axis=0))
