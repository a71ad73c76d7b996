"""Errors of several laws on the same held-out runs, and a paired bootstrap over runs for their difference.

Laws are compared on the same rows, and whole runs are resampled, because the rows of one run share their errors.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

from mixlaw.fitting.bootstrap import lies_inside
from mixlaw.laws.jacobian import Array
from mixlaw.tables.table import Table

RESAMPLES = 1000
FEWEST_RUNS = 3  # with fewer held-out runs no difference is significant


@dataclass(frozen=True)
class Difference:
    """How much larger the mean relative error of one law is than another's [percentage points], with an interval.

    Attributes
    ----------
    n_runs : number of held-out runs; with one run there is no interval (low and high are NaN)
    """

    mean: float
    low: float
    high: float
    n_runs: int

    @property
    def significant(self) -> bool:
        """Whether the other law is better with 95 % bootstrap confidence, on at least three held-out runs."""
        return self.n_runs >= FEWEST_RUNS and self.low > 0

    def __str__(self) -> str:
        if self.n_runs < FEWEST_RUNS:
            runs = "one held-out run" if self.n_runs == 1 else f"{self.n_runs} held-out runs"
            return f"{self.mean:.2f} points on {runs}, too few for an interval"
        return f"{self.mean:.2f} points, 90 % interval {self.low:.2f} to {self.high:.2f}"


def row_errors(predictions: pd.DataFrame, table: Table) -> pd.DataFrame:
    """Return the rows of predictions that were observed, with their run, size and signed relative error [%].

    Parameters
    ----------
    predictions : of one law for the rows of `table`, as `LawFit.predict` returns them
    """
    known = predictions.dropna(subset="observed")
    runs = table.frame[["row", "run_id", "n_params"]]
    known = known.merge(runs, on="row", how="left", validate="many_to_one")
    return known.assign(error=100 * (known["predicted"] / known["observed"] - 1), inside=lies_inside(known))


def difference(ours: pd.DataFrame, theirs: pd.DataFrame, level: float = 0.9, seed: int = 0) -> Difference:
    """Return the difference of two laws' mean relative errors, the mean over targets of the mean over rows.

    Parameters
    ----------
    ours, theirs : `row_errors` of each; only targets of both count
    level : of the interval, which comes from resampling held-out runs with replacement; NaN if there is one run
    """
    shared = [t for t in ours["target"].unique() if (theirs["target"] == t).any()]
    runs = sorted(set(ours["run_id"]) | set(theirs["run_id"]))
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(runs), np.full(len(runs), 1 / len(runs)), RESAMPLES)
    weights = np.vstack([np.ones(len(runs)), drawn.astype(float)])
    means: Array = _means(ours, shared, runs, weights) - _means(theirs, shared, runs, weights)
    low, high = np.nanpercentile(means[1:], [50 * (1 - level), 50 * (1 + level)])
    wider = _small_sample_factor(len(runs), level)
    low, high = (float(means[0] + wider * (end - means[0])) for end in (low, high))
    return Difference(float(means[0]), low, high, len(runs))


def mean_errors(errors: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    """Return law -> its mean relative error [%], the mean over targets of the mean over rows, as in `difference`."""
    return {law: float(e["error"].abs().groupby(e["target"], sort=False).mean().mean()) for law, e in errors.items()}


def on_shared_targets(errors: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the errors (see `row_errors`) on the targets that all laws predict; all of them where there are none."""
    shared = set.intersection(*(set(e["target"]) for e in errors.values()))
    return {law: e[e["target"].isin(shared)] if shared else e for law, e in errors.items()}


def _small_sample_factor(n_runs: int, level: float) -> float:
    """Return the correction of a bootstrap interval for few runs: Student's quantile and n / (n - 1)."""
    if n_runs < 2:
        return float("nan")
    student = stdtrit(n_runs - 1, 0.5 + level / 2) / ndtri(0.5 + level / 2)
    return float(student * np.sqrt(n_runs / (n_runs - 1)))


def _means(errors: pd.DataFrame, targets: list[str], runs: list[str], weights: Array) -> Array:
    """Return (b,) mean over targets of the weighted mean relative error."""
    found = np.full((len(weights), len(targets)), np.nan)
    for i, target in enumerate(targets):
        own = errors[errors["target"] == target]
        sizes = own["error"].abs().groupby(own["run_id"].to_numpy()).agg(["sum", "size"])
        total, count = sizes.reindex(runs).fillna(0.0).to_numpy().T
        held = weights @ count
        found[held > 0, i] = (weights @ total)[held > 0] / held[held > 0]
    means: Array = np.nanmean(found, axis=1)
    return means
