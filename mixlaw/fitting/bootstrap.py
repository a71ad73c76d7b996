"""Bootstrap intervals: whole runs are resampled, never rows, because the rows of one run have correlated errors.

An interval of a new run's loss has three parts. First, the parameters: every resample of runs is fitted with a prior
mean of its own, drawn from the law's prior (randomised maximum a posteriori; Bardsley et al. 2014, SIAM J. Sci. Comput.
36), so that intervals are as wide as the prior where the data do not identify a parameter (an exponent at two model
sizes, say). Second, the scatter of a run around the law. Third, a correction for the p fitted parameters, which make
residuals smaller than errors by about sqrt(1 - p / runs).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

from mixlaw.fitting.collinear import amplitudes
from mixlaw.fitting.error_scale import MOST_INFLATED, NORMAL, ErrorScale
from mixlaw.fitting.levenberg_marquardt import Members, Problem, gauss_newton_hessian, minimise, objective, residuals
from mixlaw.fitting.multistart import Minima, prior_penalty
from mixlaw.laws.jacobian import Array
from mixlaw.laws.terms import TINY
from mixlaw.tables.columns import LOSS, phase_of
from mixlaw.tables.factor_levels import levels
from mixlaw.tables.table import Table

SAME_RUN = 0.01  # maximum relative difference of N and D between repeats of a run
N_NOISE = 512  # number of saved residuals, from which the scatter of single runs is drawn
DESCENT = 12  # iterations per resample, whose start is near its minimum
LONG_DESCENT = 60  # iterations if N and D are collinear, where the minimum can be far along a valley
NEARBY: dict[str, Any] = {
    "accelerated": False,
    "damping": 1e-4,
}  # solver settings for a start near the minimum
SAME_LOSS = 1e-6  # relative error below which a prediction counts as exact
EXACT = 1e-15  # an objective below this is a fit without any error
LOST = 4.0  # log likelihood [nats] above which a resample's fit is repeated, a run being one observation
MOST_WIDENED = 2.0
LEAST_PRIOR = 1e-3  # minimum prior strength, which keeps unidentified parameters from diverging
DECIDED = 4.0  # an exponent is fixed if the data's precision is below this multiple of the prior's


def weight_variance(n_runs: int, n_free: int) -> float:
    """Return the variance of runs' weights in resamples, corrected for p fitted parameters and few runs.

    It is runs / (runs - p), times the squared ratio of Student's quantile to the normal's.
    """
    freedom = max(n_runs - n_free, 1)
    return min(n_runs / freedom * float(stdtrit(freedom, 0.95) / ndtri(0.95)) ** 2, MOST_WIDENED**2)


def run_weights(n_runs: int, variance: float, count: int, rng: np.random.Generator) -> Array:
    """Return (count, n_runs) the weights of runs in `count` resamples; their mean is 1.

    Weights are gamma variates, so that no run is dropped and every resample identifies the law (the weighted
    likelihood bootstrap, Newton and Raftery 1994, J. R. Stat. Soc. B 56).
    """
    return rng.gamma(1 / variance, variance, (count, n_runs))


def run_shifts(scale: ErrorScale, variance: float, n_runs: int, count: int, rng: np.random.Generator) -> Array | None:
    """Return (t * count, n_runs) errors to add to the losses of resampled runs; None if they are not needed.

    Reweighting perturbs a fit in proportion to the residuals. If the fit has absorbed part of the errors, the missing
    part is drawn (the parametric bootstrap).
    """
    lacking = np.sqrt(np.maximum(scale.size**2 - variance * scale.residual**2, 0.0)) * NORMAL
    if not (lacking > 0.1 * scale.size).any():
        return None
    drawn: Array = (lacking[:, None, None] * rng.normal(size=(len(lacking), count, n_runs))).reshape(-1, n_runs)
    return drawn


def resampled_fits(problem: Problem, minima: Minima, count: int, prior: float, rng: np.random.Generator) -> Array:
    """Return (t, count, p): the parameters after resampling runs, for each of t targets.

    A resample starts at one of the minima, drawn by their likelihood: if several basins are plausible, the resamples
    cover all of them. A weakly identified exponent would lead each fit along a long valley; instead it is drawn from
    its approximate posterior and fixed while the others are fitted. If a resample ends clearly above the objective of
    the lowest minimum under its own weights, it is fitted again from that minimum, with nothing fixed.

    Parameters
    ----------
    prior : weight of the priors, in runs
    """
    n_targets, n_free = minima.theta.shape
    n_runs, bounds = int(problem.runs.max()) + 1, problem.law.bounds(problem.x.h.shape[-2])
    variance = weight_variance(n_runs, n_free)
    weights = run_weights(n_runs, variance, count, rng)  # the same resamples for every target
    shifts = run_shifts(minima.scale, variance, n_runs, count, rng)
    picks = np.stack([rng.choice(len(p), count, p=p) for p in minima.plausible])
    starts = np.take_along_axis(minima.ends, picks[..., None], 1)
    priors = _draw_priors(problem, minima, starts, prior, rng)
    target = np.repeat(np.arange(n_targets), count)
    safe = Members(minima.theta[target], target, np.tile(weights, (n_targets, 1)), priors.free, shifts)
    if problem.collinear:  # start at the drawn split between N and D: it is far from the fit's along a valley
        at = amplitudes(problem.law.term, problem.x.h.shape[-2])
        starts[..., at] = priors.free[0].reshape(starts.shape)[..., at]
    jittered = np.clip((starts + rng.normal(0, 0.02, starts.shape)).reshape(-1, n_free), *bounds)
    steps = LONG_DESCENT if problem.collinear else DESCENT
    theta = minimise(problem, replace(safe, theta=jittered, prior=priors.held), steps, (), **NEARBY).theta
    bare = replace(safe, prior=None)
    here, there = objective(problem, bare.moved(theta)), objective(problem, bare)
    lost = np.flatnonzero(here > np.exp(LOST / n_runs) * there + EXACT)
    if len(lost):
        theta[lost] = minimise(problem, safe.take(lost), 2 * DESCENT, (), **NEARBY).theta
    return theta.reshape(n_targets, count, n_free)


@dataclass(frozen=True)
class PriorDraws:
    """Means and precisions (b, p each) of every resample's prior; `held` also fixes weakly identified exponents."""

    free: tuple[Array, Array]
    held: tuple[Array, Array]


def _draw_priors(problem: Problem, minima: Minima, starts: Array, prior: float, rng: np.random.Generator) -> PriorDraws:
    """Draw the prior of every resample, for starts (t, count, p)."""
    n_targets, _, n_free = starts.shape
    k = problem.x.h.shape[-2]
    mean, precision = prior_penalty(problem, minima.scale.objective * max(prior, LEAST_PRIOR))
    hessian = gauss_newton_hessian(problem, Members(minima.theta, np.arange(n_targets)), minima.scale.residual)
    # one nat of log likelihood in the objective's unit
    unit = np.maximum(minima.scale.objective, 1e-15)[:, None] / (problem.runs.max() + 1)
    spread = np.where(precision > 0, np.sqrt(unit / np.maximum(precision, TINY)), 0.0)
    normal = rng.normal(size=starts.shape)
    shared = [*problem.law.term.rates(k), *(amplitudes(problem.law.term, k) if problem.collinear else [])]
    normal[..., shared] = normal[:1, :, shared]  # targets share the draws of exponents: their errors are correlated
    drawn = mean[:, None] + spread[:, None] * normal
    decided = np.stack([_data_precision(h, p) for h, p in zip(hessian, precision, strict=True)])
    rate = np.isin(np.arange(n_free), problem.law.term.rates(k))
    weak = (rate & (decided < DECIDED * precision) & (not problem.collinear))[:, None]
    own = starts + np.sqrt(unit / (decided + precision + TINY))[:, None] * normal
    own = np.clip(own, *problem.law.bounds(k))
    firm = 1e4 * (precision + np.einsum("tpp->tp", hessian))
    every = lambda a: np.broadcast_to(a, starts.shape).reshape(-1, n_free).copy()  # noqa: E731
    soft = every(precision[:, None])
    return PriorDraws(
        (every(np.where(weak, own, drawn)), soft),
        (every(np.where(weak, own, drawn)), every(np.where(weak, firm[:, None], precision[:, None]))),
    )


def _data_precision(hessian: Array, precision: Array) -> Array:
    """Return (p,) the marginal precision of each parameter from the data alone."""
    value, vector = np.linalg.eigh(hessian + np.diag(precision))
    variance = (vector**2 / np.maximum(value, 1e-14 * max(value.max(), 1e-100))).sum(1)
    decided: Array = np.maximum(1 / np.maximum(variance, TINY) - precision, 0.0)
    return decided


def scatter(problem: Problem, minima: Minima, rng: np.random.Generator) -> list[Array]:
    """Return, per target, residuals rescaled to the error scale, from which the scatter of a new run is drawn.

    If the residuals are much smaller than the errors, normal variates replace them.
    """
    widened, scale = [], minima.scale
    for target, t in enumerate(minima.theta):
        off = residuals(problem, Members(t[None], np.array([target])), problem.law.loss(t[None], problem.x))[0]
        known, size = off[problem.weight[target] > 0], scale.size[target]
        if scale.residual[target] * MOST_INFLATED < size:
            known = NORMAL * size * rng.normal(size=N_NOISE)
        else:
            known = known * size / max(scale.residual[target], TINY)
        widened.append(known if len(known) <= N_NOISE else rng.choice(known, N_NOISE, replace=False))
    return widened


def interval(draws: Array, level: float) -> tuple[Array, Array]:
    """Return the central interval of draws (b, ...) at a level such as 0.9."""
    tail = 50 * (1 - level)
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    return low, high


def lies_inside(predictions: pd.DataFrame) -> "pd.Series[bool]":
    """Return which observed losses lie in their intervals, ends included.

    A tolerance covers losses without noise, which the solver meets to rounding with intervals of zero width.

    Parameters
    ----------
    predictions : rows of observed, low and high
    """
    rounding = SAME_LOSS * predictions["observed"].abs()
    above = predictions["observed"] >= predictions["low"] - rounding
    return above & (predictions["observed"] <= predictions["high"] + rounding)


def seed_noise(table: Table) -> pd.DataFrame:
    """Return the seed noise: the sd between runs that differ only in their seed, the lower bound of errors.

    Returns
    -------
    DataFrame of target, sd [nats/token], percent (of the loss) and n_runs, from the last evaluation of every run; empty
    where no run was repeated.
    """
    frame = table.frame
    if "seed" not in frame:
        return pd.DataFrame()
    last = frame.sort_values("n_tokens").groupby("run_id").tail(1)
    asked = [last[c if (c := f"requested_{d}") in last else f"weight_{d}"].round(4) for d in table.domains]
    asked += [last[c].round(4).fillna(-1) for c in map(str, last.columns) if phase_of(c)]
    scale = [levels(last[column], SAME_RUN) for column in ("n_params", "n_tokens")]
    groups = [g for _, g in last.groupby([*scale, *asked]) if g["seed"].nunique() > 1]
    rows = []
    for target in table.targets:
        losses = [g[LOSS + target].to_numpy(float) for g in groups]
        freedom = sum(len(values) - 1 for values in losses)
        if freedom:
            variance = sum(float(((v - v.mean()) ** 2).sum()) for v in losses) / freedom
            mean = float(np.mean(np.concatenate(losses)))
            n_runs = sum(map(len, losses))
            rows.append(
                {"target": target, "sd": variance**0.5, "percent": 100 * variance**0.5 / mean, "n_runs": n_runs}
            )
    return pd.DataFrame(rows)
