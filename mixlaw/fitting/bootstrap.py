"""How sure a fit can be: whole runs are resampled, never rows, because the rows of one run share their errors.

An interval of a new run's loss has three parts. The parameters: every resample of runs is fitted again, and where the
data do not decide (one exponent at two model sizes, say) a resample follows a belief of its own, drawn from the law's
prior, so that the interval is as wide as what could be believed (randomised maximum a posteriori; Bardsley et al. 2014,
SIAM J. Sci. Comput. 36). The scatter of a run around the law. And what p fitted parameters took out of both: they make
residuals smaller than errors, by about sqrt(1 - p / runs).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri, stdtrit

from mixlaw.fitting.collinear import amplitudes
from mixlaw.fitting.error_scale import MOST_INFLATED, NORMAL, ErrorScale
from mixlaw.fitting.levenberg_marquardt import Members, Problem, curvature, minimise, objective, residuals
from mixlaw.fitting.multistart import Minima, prior_of
from mixlaw.laws.jacobian import Array
from mixlaw.laws.terms import TINY
from mixlaw.tables.columns import LOSS
from mixlaw.tables.factor_levels import levels
from mixlaw.tables.table import Table

SAME_RUN = 0.01  # repeated runs differ in N and D by at most this: more would count as noise
N_NOISE = 512  # residuals that are kept to widen predictions by the scatter of single runs
DESCENT = 12  # steps of each resample's fit, which begins next to its end
LONG_DESCENT = 60  # ... where N and D rise together, so that it ends far along a valley
NEARBY: dict[str, Any] = {"bent": False, "damping": 1e-4}  # how a fit is descended whose start is next to its end
SAME_LOSS = 1e-6  # relative: predictions this near are exact
EXACT = 1e-15  # an objective below this is a fit without any error
LOST = 4.0  # nats of log likelihood, a run being one observation
MOST_WIDENED = 2.0
LEAST_PRIOR = 1e-3  # resamples believe at least this little, or they would run off along what nothing decides
DECIDED = 4.0  # a parameter is held where the data are less than this much as precise about it as the belief


def weight_variance(n_runs: int, n_free: int) -> float:
    """Return the variance of runs' weights in resamples: not 1 but what p fitted parameters and few runs make of it.

    It is runs / (runs - p), times the square of Student's quantile over the normal's.
    """
    freedom = max(n_runs - n_free, 1)
    return min(n_runs / freedom * float(stdtrit(freedom, 0.95) / ndtri(0.95)) ** 2, MOST_WIDENED**2)


def run_weights(n_runs: int, variance: float, count: int, rng: np.random.Generator) -> Array:
    """Return (count, n_runs) how much each run counts in each of `count` resamples: 1 on average.

    Weights are gamma variates, so that no run is quite lost and every resample still supports the law (the weighted
    likelihood bootstrap, Newton and Raftery 1994, J. R. Stat. Soc. B 56).
    """
    return rng.gamma(1 / variance, variance, (count, n_runs))


def run_shifts(scale: ErrorScale, variance: float, n_runs: int, count: int, rng: np.random.Generator) -> Array | None:
    """Return (t * count, n_runs) errors that are added to the losses of resampled runs; None where none are needed.

    Weights move a fit by as much as residuals are large. Where parameters took up the errors, what residuals lack is
    drawn anew (the parametric bootstrap).
    """
    lacking = np.sqrt(np.maximum(scale.size**2 - variance * scale.residual**2, 0.0)) * NORMAL
    if not (lacking > 0.1 * scale.size).any():
        return None
    drawn: Array = (lacking[:, None, None] * rng.normal(size=(len(lacking), count, n_runs))).reshape(-1, n_runs)
    return drawn


def resampled_fits(problem: Problem, minima: Minima, count: int, prior: float, rng: np.random.Generator) -> Array:
    """Return (t, count, p): the parameters after resampling runs, for each of t targets.

    A resample begins at one of the minima that were found, each as often as it is plausible: where the data cannot
    tell basins apart, the resamples are in all of them. An exponent that the data hardly decide would make each
    resample walk a long valley. It is drawn instead from what the data and the belief say about it together, and held
    while the others follow. A resample that ends clearly above where the lowest minimum stands on its own weights has
    got lost: it is descended again from there, and nothing is held.

    Parameters
    ----------
    prior : how strongly what is believed before the data counts
    """
    n_targets, n_free = minima.theta.shape
    n_runs, bounds = int(problem.runs.max()) + 1, problem.law.bounds(problem.x.h.shape[-2])
    variance = weight_variance(n_runs, n_free)
    weights = run_weights(n_runs, variance, count, rng)  # the same resamples for every target
    shifts = run_shifts(minima.scale, variance, n_runs, count, rng)
    picks = np.stack([rng.choice(len(p), count, p=p) for p in minima.plausible])
    starts = np.take_along_axis(minima.ends, picks[..., None], 1)
    beliefs = _beliefs(problem, minima, starts, prior, rng)
    target = np.repeat(np.arange(n_targets), count)
    safe = Members(minima.theta[target], target, np.tile(weights, (n_targets, 1)), beliefs.free, shifts)
    if problem.entangled:  # begin at the believed split, not at the fit's: the valley between them is long
        at = amplitudes(problem.law.term, problem.x.h.shape[-2])
        starts[..., at] = beliefs.free[0].reshape(starts.shape)[..., at]
    jittered = np.clip((starts + rng.normal(0, 0.02, starts.shape)).reshape(-1, n_free), *bounds)
    steps = LONG_DESCENT if problem.entangled else DESCENT
    theta = minimise(problem, replace(safe, theta=jittered, prior=beliefs.held), steps, (), **NEARBY).theta
    bare = replace(safe, prior=None)
    here, there = objective(problem, bare.moved(theta)), objective(problem, bare)
    lost = np.flatnonzero(here > np.exp(LOST / n_runs) * there + EXACT)
    if len(lost):
        theta[lost] = minimise(problem, safe.take(lost), 2 * DESCENT, (), **NEARBY).theta
    return theta.reshape(n_targets, count, n_free)


@dataclass(frozen=True)
class Beliefs:
    """Centres and precisions (b, p each) of what every resample believes; `held` also holds undecided exponents."""

    free: tuple[Array, Array]
    held: tuple[Array, Array]


def _beliefs(problem: Problem, minima: Minima, starts: Array, prior: float, rng: np.random.Generator) -> Beliefs:
    """Draw what every resample believes, for starts (t, count, p)."""
    n_targets, _, n_free = starts.shape
    k = problem.x.h.shape[-2]
    centre, precision = prior_of(problem, minima.scale.objective * max(prior, LEAST_PRIOR))
    hessian = curvature(problem, Members(minima.theta, np.arange(n_targets)), minima.scale.residual)
    # what one nat of log likelihood is, in the objective's unit
    unit = np.maximum(minima.scale.objective, 1e-15)[:, None] / (problem.runs.max() + 1)
    spread = np.where(precision > 0, np.sqrt(unit / np.maximum(precision, TINY)), 0.0)
    believed = rng.normal(size=starts.shape)
    shared = [*problem.law.term.rates(k), *(amplitudes(problem.law.term, k) if problem.entangled else [])]
    believed[..., shared] = believed[:1, :, shared]  # what N and D do to one target they do to the others
    drawn = centre[:, None] + spread[:, None] * believed
    decided = np.stack([_data_precision(h, p) for h, p in zip(hessian, precision, strict=True)])
    rate = np.isin(np.arange(n_free), problem.law.term.rates(k))
    weak = (rate & (decided < DECIDED * precision) & (not problem.entangled))[:, None]
    own = starts + np.sqrt(unit / (decided + precision + TINY))[:, None] * believed
    own = np.clip(own, *problem.law.bounds(k))
    firm = 1e4 * (precision + np.einsum("tpp->tp", hessian))
    every = lambda a: np.broadcast_to(a, starts.shape).reshape(-1, n_free).copy()  # noqa: E731
    soft = every(precision[:, None])
    return Beliefs(
        (every(np.where(weak, own, drawn)), soft),
        (every(np.where(weak, own, drawn)), every(np.where(weak, firm[:, None], precision[:, None]))),
    )


def _data_precision(hessian: Array, precision: Array) -> Array:
    """Return (p,) how precisely the data alone decide each parameter when all others are free."""
    value, vector = np.linalg.eigh(hessian + np.diag(precision))
    variance = (vector**2 / np.maximum(value, 1e-14 * max(value.max(), 1e-100))).sum(1)
    decided: Array = np.maximum(1 / np.maximum(variance, TINY) - precision, 0.0)
    return decided


def scatter(problem: Problem, minima: Minima, rng: np.random.Generator) -> list[Array]:
    """Return, per target, residuals as large as errors, which stand for the scatter of a new run.

    Where hardly any residuals are left, normal ones of that size take their place.
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
    """Return which observed losses lie in their intervals, an end counted with it.

    Losses without noise are met to the rounding of the solver, by intervals without width: they count as inside.

    Parameters
    ----------
    predictions : rows of observed, low and high
    """
    rounding = SAME_LOSS * predictions["observed"].abs()
    above = predictions["observed"] >= predictions["low"] - rounding
    return above & (predictions["observed"] <= predictions["high"] + rounding)


def seed_noise(table: Table) -> pd.DataFrame:
    """Return how far runs that differ only in their seed lie apart: the floor below which no law can predict.

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
