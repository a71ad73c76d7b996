"""The scatter of scores around a curve: binomial errors, inflated as the runs show, and shared by the rows of a run.

An evaluation of n questions has the binomial variance p (1 - p) / n. Runs scatter more, because they differ, or less,
because they answer the same questions. The scatter is therefore estimated as a multiple of sqrt(p (1 - p)), in two
parts: one that a run's rows share, and one of single rows (extra-binomial variation, Williams 1982, Appl. Statist. 31).
"""

from dataclasses import dataclass

import numpy as np

from mixlaw.benchmarks.points import Points
from mixlaw.benchmarks.sigmoid import N_FREE
from mixlaw.laws.jacobian import Array

LEAST = 1e-4  # relative scatter of noise-free scores
MOST_CERTAIN = 1e-3  # scores count as at least this far from 0 and 1


@dataclass(frozen=True)
class Scatter:
    """Sd of scores as multiples of sqrt(p (1 - p)): `run` is shared by a run's rows, `row` is of single rows."""

    run: float
    row: float

    @property
    def total(self) -> float:
        """Of one evaluation of a new run, with the median number of questions."""
        return float(np.hypot(self.run, self.row))

    @classmethod
    def of(cls, points: Points, fitted: Array) -> "Scatter":
        """Return the scatter around fitted scores (n,), estimated by moments, with N_FREE parameters fitted."""
        off = (points.score - fitted) / binomial(fitted, points.effort)
        count = np.bincount(points.run)
        mean = np.bincount(points.run, off) / count
        squares = float((mean**2).mean()) * points.n_runs / max(points.n_runs - N_FREE, 1)
        if (count == 1).all():
            return cls(0.0, max(squares**0.5, LEAST))
        within = float(((off - mean[points.run]) ** 2).sum()) / (len(off) - points.n_runs)
        between = max(squares - within * float((1 / count).mean()), 0.0)
        return cls(between**0.5, max(within**0.5, LEAST))

    def whiten(self, points: Points, values: Array) -> Array:
        """Return values (n,) or (n, p), relative to binomial errors, as uncorrelated ones of unit variance.

        The covariance of a run's m rows, run^2 11' + row^2 I, has the eigenvalues m run^2 + row^2, for their mean, and
        row^2.
        """
        starts = np.flatnonzero(np.diff(points.run, prepend=-1))
        count = np.diff(starts, append=len(points.run)).reshape(-1, *(1,) * (values.ndim - 1))
        mean = np.add.reduceat(values, starts) / count
        shrunk = mean * (1 - self.row / np.sqrt(self.row**2 + count * self.run**2))
        whitened: Array = (values - shrunk[points.run]) / self.row
        return whitened


def binomial(score: Array, effort: Array | float = 1.0) -> Array:
    """Return the binomial sd of scores, up to the number of questions of the median evaluation."""
    p = np.clip(score, MOST_CERTAIN, 1 - MOST_CERTAIN)
    sd: Array = np.sqrt(p * (1 - p) / effort)
    return sd
