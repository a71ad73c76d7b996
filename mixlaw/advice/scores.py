"""The predicted scores of benchmarks under several mixtures, with intervals through both stages."""

import numpy as np
import pandas as pd

from mixlaw.advice.objective import Mixtures, Objective
from mixlaw.advice.outcomes import run_losses
from mixlaw.benchmarks.saved import Benchmarks

SCORES = ["mixture", "benchmark", "target", "score", "low", "high", "reason"]


def scores_of(objective: Objective, mixtures: Mixtures, benchmarks: Benchmarks, level: float) -> pd.DataFrame:
    """Return the score of every benchmark for a run on every mixture.

    Parameters
    ----------
    mixtures : by name
    benchmarks : curves from the losses of the law's targets
    level : of the intervals, in (0, 1)

    Returns
    -------
    DataFrame of mixture, benchmark, target (whose loss decides it), score, low, high, and reason: why the score is not
    predictable, '' if it is
    """
    rows = []
    for curve in benchmarks.values():
        one = objective.of(curve.target)
        for name, weights in mixtures.items():
            found = curve.predict(np.array([one.at(weights)]), run_losses(one, weights)[:, None], level).iloc[0]
            rows.append((name, curve.name, curve.target, *found[["score", "low", "high", "reason"]]))
    return pd.DataFrame(rows, columns=SCORES)
