"""The size of a run's error around its law, corrected for the parameters that were fitted.

p fitted parameters make residuals smaller than errors; with as many parameters as runs, residuals vanish whatever the
errors are. We therefore estimate the error scale together with the effective number of parameters (the evidence
approximation, MacKay 1992, Neural Computation 4): residuals are divided by sqrt(1 - effective parameters / runs), and a
parameter counts by the share of its information that comes from the data rather than its prior. The estimate starts at
the scatter of the losses and decreases, so it converges to the largest scale that explains the residuals.

If the effective number of parameters exceeds half the number of runs, a lower bound applies as well: no run repeats to
better than 0.3 % of its loss (the repeated seeds that we have differ by 0.1 to 1.5 %).
"""

from dataclasses import dataclass

import numpy as np

from mixlaw.fitting.collinear import PRIOR_MEAN, PRIOR_SD, amplitudes
from mixlaw.fitting.levenberg_marquardt import Members, Problem, huber, residuals
from mixlaw.laws.jacobian import Array
from mixlaw.laws.terms import TINY

FLOOR = 0.003  # of the loss; applies in full when there are as many effective parameters as runs
MOST_INFLATED = 4.0  # errors are taken to be at most this many times the residuals
NORMAL = float(np.sqrt(np.pi / 2))  # sd of normal errors over their mean size


@dataclass(frozen=True)
class ErrorScale:
    """The size of errors, per target.

    Attributes
    ----------
    size : (t,) mean absolute error of a run [nats; relative where residuals are logarithmic]
    residual : (t,) mean absolute residual
    objective : (t,) mean Huber loss that errors of this size have
    determined : (t,) effective number of parameters that the differences between runs determine, at most p
    """

    size: Array
    residual: Array
    objective: Array
    determined: Array


def prior_mean_sd(problem: Problem) -> tuple[Array, Array]:
    """Return the means (t, p) and sds (p,) of the priors: the law's, and of amplitudes if N and D are collinear."""
    k = problem.x.h.shape[-2]
    mean, sd = problem.law.term.prior(k)
    means, sd = np.tile(mean, (len(problem.y), 1)), sd.copy()
    if problem.collinear:
        at = [i for i in amplitudes(problem.law.term, k) if not np.isfinite(sd[i])]
        level = (problem.weight * np.abs(problem.y)).sum(1)
        means[:, at], sd[at] = PRIOR_MEAN + np.log(level)[:, None], PRIOR_SD
    return means, sd


def losses_scatter(problem: Problem) -> Array:
    """Return (t,) the mean Huber loss of the losses around their median: the scale before any law is fitted."""
    levels = np.log(problem.y) if problem.logarithmic else problem.y
    centre = np.array([np.median(row[weight > 0]) for row, weight in zip(levels, problem.weight, strict=True)])
    scatter: Array = (problem.weight * huber(levels - centre[:, None], problem.delta)).sum(1)
    return scatter


def error_scale(problem: Problem, theta: Array, objective: Array, prior: float) -> ErrorScale:
    """Return the scale of errors around a fit.

    Parameters
    ----------
    theta : (t, p) parameters at the fit
    objective : (t,) mean Huber loss of the scale that the fit's prior was weighted by
    prior : weight of the priors, in runs
    """
    n_targets, n_runs = len(theta), int(problem.runs.max()) + 1
    members = Members(theta, np.arange(n_targets))
    off = np.abs(residuals(problem, members, problem.law.loss(theta, problem.x)))
    residual = (problem.weight * off).sum(1)
    weight = problem.weight * np.minimum(1, problem.delta / np.maximum(off, residual[:, None] + TINY))
    sd = prior_mean_sd(problem)[1]
    precision = prior * (objective / n_runs)[:, None] * sd**-2.0
    determined = np.array([_determined(problem, *each) for each in zip(theta, weight, precision, strict=True)])
    share = np.minimum(determined / n_runs, 1 - MOST_INFLATED**-2)
    level = 1.0 if problem.logarithmic else (problem.weight * np.abs(problem.y)).sum(1)
    floor = FLOOR / NORMAL * level * np.clip(2 * determined / n_runs - 1, 0, 1)
    size = np.maximum(residual / np.sqrt(1 - share), floor)
    inflated = np.maximum(off * (size / np.maximum(residual, TINY))[:, None], (floor * (residual < floor))[:, None])
    return ErrorScale(size, residual, (problem.weight * huber(inflated, problem.delta)).sum(1), determined)


def _determined(problem: Problem, theta: Array, weight: Array, precision: Array) -> float:
    """Return how many parameters (p,) the differences between runs determine: the trace of B (H + P)^-1.

    H is the information of all rows and B that of the runs' means, at most one observation each, because the rows of
    one run share their errors.
    """
    jacobian = problem.law.loss_and_jacobian(theta[None], problem.x)[1][0]
    if problem.logarithmic:
        jacobian = jacobian / problem.law.loss(theta[None], problem.x)
    order = np.argsort(problem.runs, kind="stable")
    starts = np.flatnonzero(np.diff(problem.runs[order], prepend=-1))
    weighted = np.sqrt(weight) * jacobian
    means = np.add.reduceat((weight * jacobian)[:, order], starts, axis=1)
    means = means / np.sqrt(np.maximum(np.add.reduceat(weight[order], starts), TINY))
    total, between = weighted @ weighted.T, means @ means.T
    scale = 1 / np.sqrt(np.maximum(np.diag(total) + precision, TINY))
    ridge = np.diag(precision * scale * scale + 1e-10)
    scaled = (m * scale[:, None] * scale for m in (total, between))
    found = float(np.trace(np.linalg.solve(next(scaled) + ridge, next(scaled))))
    return float(np.clip(found, 0.0, len(theta)))
