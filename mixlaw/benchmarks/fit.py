"""Fit a curve from loss to score: weighted least squares with priors, and a bootstrap of whole runs.

As for laws (`mixlaw.fitting.bootstrap`), every resample reweights whole runs and has a prior mean of its own, so that
intervals are as wide as the prior where the scores do not identify midpoint, slope or ceiling.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from mixlaw.benchmarks.points import Points
from mixlaw.benchmarks.scatter import LEAST, Scatter, binomial
from mixlaw.benchmarks.sigmoid import N_FREE, scores, scores_and_jacobian
from mixlaw.fitting.bootstrap import run_weights, weight_variance
from mixlaw.laws.jacobian import Array

LEAST_RUNS = N_FREE + 1
N_DRAWS = 200
ROUNDS = 3  # of estimating the scatter and fitting again
PRIOR = np.array([np.log(0.8), np.log(6.0), 2.0])  # midpoint by mean loss, slope times mean loss, logit of the ceiling
PRIOR_SD = np.array([0.5, 1.0, 1.5])
STARTS = np.array([[m, s, 0.0] for m in (-0.3, 0.0, 0.2) for s in (-0.7, 0.5, 1.6)])  # beside the prior's mean


@dataclass(frozen=True)
class Fit:
    """Parameters (3,) of a curve, those of its resamples (b, 3), and the scatter of scores around it."""

    theta: Array
    draws: Array
    scatter: Scatter


def fit_curve(points: Points, chance: float, count: int = N_DRAWS, seed: int = 0) -> Fit:
    """Return the curve of lowest weighted squared error, and its resamples.

    Parameters
    ----------
    points : of `LEAST_RUNS` runs or more
    chance : score of guessing
    count : number of resamples
    """
    rng, mean = np.random.default_rng(seed), _prior_mean(points)
    even, ones = Scatter(0.0, max(float(np.std(points.score)), LEAST)), np.ones(points.n_runs)
    problem = _Problem(points, chance, even, np.ones(len(points.loss)))
    found = [problem.solve(mean + start, mean, ones) for start in STARTS]
    theta = min(found, key=lambda each: problem.cost(each, mean))
    for _ in range(ROUNDS):
        fitted = scores(theta, points.loss, chance)
        problem = _Problem(points, chance, Scatter.of(points, fitted), binomial(fitted, points.effort))
        theta = problem.solve(theta, mean, ones)
    variance = weight_variance(points.n_runs, N_FREE)
    weights = run_weights(points.n_runs, variance, count, rng)
    means = mean + PRIOR_SD * rng.normal(size=(count, N_FREE))
    draws = np.stack([problem.solve(theta, m, w) for m, w in zip(means, weights, strict=True)])
    return Fit(theta, draws, problem.scatter)


def _prior_mean(points: Points) -> Array:
    """Return the prior mean (3,) in the unit of the losses."""
    unit = np.log(points.loss.mean())
    mean: Array = PRIOR + np.array([unit, -unit, 0.0])
    return mean


@dataclass(frozen=True)
class _Problem:
    """The weighted least squares problem of one scatter; `sd` (n,) are the binomial errors."""

    points: Points
    chance: float
    scatter: Scatter
    sd: Array

    def solve(self, start: Array, prior: Array, weights: Array) -> Array:
        """Return the minimum (3,) near a start, with a prior mean (3,) and weights (runs,) of whole runs."""
        root = np.sqrt(weights)[self.points.run]

        def residuals(theta: Array) -> Array:
            return np.append(root * self.scatter.whiten(self.points, self._off(theta)), (theta - prior) / PRIOR_SD)

        def jacobian(theta: Array) -> Array:
            by_theta = scores_and_jacobian(theta, self.points.loss, self.chance)[1] / self.sd[:, None]
            whitened = root[:, None] * self.scatter.whiten(self.points, by_theta)
            return np.vstack([whitened, np.diag(1 / PRIOR_SD)])

        found: Array = least_squares(residuals, start, jacobian, method="lm", xtol=1e-8).x
        return found

    def cost(self, theta: Array, prior: Array) -> float:
        """Return the sum of squares of unweighted runs."""
        data = self.scatter.whiten(self.points, self._off(theta))
        return float((data**2).sum() + (((theta - prior) / PRIOR_SD) ** 2).sum())

    def _off(self, theta: Array) -> Array:
        """Return the deviations (n,) of the scores from a curve, relative to their binomial errors."""
        return (scores(theta, self.points.loss, self.chance) - self.points.score) / self.sd
