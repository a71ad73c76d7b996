"""Scores through both stages: a law predicts the losses of runs, curves turn them into scores."""

import pandas as pd

from mixlaw.benchmarks.saved import Benchmarks
from mixlaw.fitting.fitted import LEVEL, FittedLaw
from mixlaw.tables.table import Table

SCORE_UNIT = "score"


def predict_scores(benchmarks: Benchmarks, fit: FittedLaw, table: Table, level: float = LEVEL) -> pd.DataFrame:
    """Return the scores of a new run at every row of a table.

    Each draw combines a resampled law, the deviation of a run from it, a resampled curve, and the deviation of a run's
    score from that.

    Parameters
    ----------
    table : n_params, n_tokens and weight_<domain>; losses are not needed
    level : of the intervals, in (0, 1)

    Returns
    -------
    DataFrame of row, target (the benchmark), law, predicted, low, high (scores), unit ("score"), and reason: why the
    score is not predictable, '' if it is

    Raises
    ------
    ConfigError
        If the law does not predict the losses of a curve.
    """
    benchmarks.require_law(fit)
    table = table.named_as(fit.domains, list(fit.targets))
    parts = []
    for curve in benchmarks.values():
        x = fit.inputs(table, curve.target)
        loss = fit.law.loss(fit.target(curve.target).theta[None], x)[0]
        found = curve.predict(loss, fit.scattered(curve.target, fit.draws(curve.target, x)), level)
        named = {"row": table.frame["row"].to_numpy(), "target": curve.name, "law": fit.name}
        ends = {"predicted": found["score"], "low": found["low"], "high": found["high"]}
        parts.append(pd.DataFrame(named | ends | {"unit": SCORE_UNIT, "reason": found["reason"]}))
    return pd.concat(parts, ignore_index=True)
