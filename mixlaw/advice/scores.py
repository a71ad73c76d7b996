"""The predicted scores of benchmarks under several mixtures, with intervals through both stages."""

import numpy as np
import pandas as pd

from mixlaw.advice.objective import Mixtures, Objective
from mixlaw.advice.outcomes import run_losses
from mixlaw.advice.phase_plan import PhasePlan
from mixlaw.advice.phased_objective import PhasedObjective
from mixlaw.benchmarks.saved import Benchmarks

PHASED = "phases"  # name of the recommended phases among the mixtures
SCORES = ["mixture", "benchmark", "target", "score", "low", "high", "reason"]


def scores_of(
    objective: Objective, mixtures: Mixtures, benchmarks: Benchmarks, level: float, plan: PhasePlan | None = None
) -> pd.DataFrame:
    """Return the score of every benchmark for a run on every mixture, and for a run with the recommended phases.

    Parameters
    ----------
    mixtures : by name
    benchmarks : curves from the losses of the law's targets
    level : of the intervals, in (0, 1)
    plan : the recommended phases

    Returns
    -------
    DataFrame of mixture, benchmark, target (whose loss decides it), score, low, high, and reason: why the score is not
    predictable, '' if it is
    """
    runs = [(name, objective, weights) for name, weights in mixtures.items()]
    if plan:
        runs.append((PHASED, PhasedObjective(objective, plan.until), plan.mixture))
    rows = []
    for curve in benchmarks.values():
        for name, of_run, weights in runs:
            one = of_run.of(curve.target)
            found = curve.predict(np.array([one.at(weights)]), run_losses(one, weights)[:, None], level).iloc[0]
            rows.append((name, curve.name, curve.target, *found[["score", "low", "high", "reason"]]))
    return pd.DataFrame(rows, columns=SCORES)
