"""Multi-start search with successive pruning; reports how many starts agreed on the minimum.

Laws of mixtures have many minima; the signs of the powers of sums select the basin (whether data that are good for a
target make its loss fall faster or slower). Starts therefore alternate between all signs. Half of them come from a
random search with fitted amplitudes, the other half from around the fit of the special case that a law contains (joint
contains additive). That fit is a start as well, so that a law never ends above its special case. All starts are
optimised on a few hundred rows with a wide Huber threshold; the best of every basin continue on all rows.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mixlaw.fitting.error_scale import ErrorScale, error_scale, losses_scatter, prior_mean_sd
from mixlaw.fitting.levenberg_marquardt import WIDER, Members, Problem, minimise, objective, scaled_to_data
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import Law
from mixlaw.laws.registry import get_law
from mixlaw.laws.terms import TINY
from mixlaw.laws.tree import embedded

POINTS = 24  # random points per start
FEW_ROWS, SCREEN_ROWS = 250, 200  # rows of the first optimisation, and of the random search
FOLLOWED = 8  # starts per target that continue on all rows; the best two of them until convergence
SETTLING = 5  # iterations between fit and error scale if runs are few
LOG_POWER = float(np.log(0.2))  # mean log power of sums in starts around a special case
SAME_MINIMUM = 1.01  # objectives within this ratio count as one minimum
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Minima:
    """The lowest minima found.

    Attributes
    ----------
    theta : (t, p)
    objective : (t,) mean Huber loss there
    scale : size of errors; larger than that of residuals if runs are few
    statements : per target, how many starts agreed on the minimum
    ends : (t, f, p) minima of all starts that continued on all rows
    plausible : (t, f) relative likelihoods of these minima, summing to one: (objective ratio)^-runs, because a run is
        one observation; objectives below that of the error scale count as equal
    """

    theta: Array
    objective: Array
    scale: ErrorScale
    statements: list[str]
    ends: Array
    plausible: Array


def starts_for(n_rows: int) -> int:
    """Return the default number of starts for a table of n_rows."""
    return int(np.clip(12_000 // n_rows, 12, 48))


def find_minima(
    problem: Problem, n_starts: int, seed: int, prior: float = 0.0, progress: Progress | None = None
) -> Minima:
    """Return the lowest minimum of every target of a problem.

    Parameters
    ----------
    n_starts : starts per target
    seed : of the random search
    prior : weight of the priors in the final fit, in runs of the table
    """
    say, rng = progress or (lambda text: None), np.random.default_rng(seed)
    law, k = problem.law, problem.x.h.shape[-2]
    n_starts = 1 if law.term.linear else n_starts
    inside = None
    if law.contains:
        smaller = get_law(law.contains)
        held = find_minima(replace(problem, law=smaller), max(n_starts // 4, 4), seed, prior, progress).theta
        inside = np.clip(embedded(smaller.term, held, law.term, k), *law.bounds(k))
    starts = _starts(problem, n_starts, inside, rng)
    say(f"{law.name} law: {n_starts} starts")
    theta, objectives = _follow(_some_rows(problem, FEW_ROWS, rng), starts, 21, WIDER)
    theta = _round_robin(theta, objectives, law.term.signed(k))[:, :FOLLOWED]
    if inside is not None:
        theta = np.concatenate([theta, inside[:, None]], axis=1)
    say(f"{law.name} law: the best {theta.shape[1]} of them on all rows")
    scarce = prior * losses_scatter(problem) if _scarce(problem) else None
    theta, objectives = _follow(problem, theta, 25, (), scarce)
    agree = (objectives <= objectives[:, :1] * SAME_MINIMUM + 1e-15).sum(1)
    end, scale = _settled(problem, theta[:, :2], objectives[:, 0], prior)
    statements = [_statement(int(a), objectives.shape[1], n_starts) for a in agree]
    if law.term.linear:
        statements = ["the law is linear in its parameters: there is one minimum"] * len(statements)
    least = np.maximum(objectives, np.maximum(scale.objective[:, None], TINY))
    plausible = (least[:, :1] / least) ** float(problem.runs.max() + 1)
    plausible /= plausible.sum(1, keepdims=True)
    theta[:, 0] = end.theta
    return Minima(end.theta, objective(problem, end), scale, statements, theta, plausible)


def _scarce(problem: Problem) -> bool:
    """Return whether runs are so few that a law without priors could interpolate them."""
    return int(problem.runs.max()) + 1 < 2 * problem.law.n_free(problem.x.h.shape[-2])


def _settled(problem: Problem, theta: Array, objective: Array, prior: float) -> tuple[Members, ErrorScale]:
    """Return the minima with priors, and the error scale, which sets the weight of the priors.

    If runs are few, the scale starts at the scatter of the losses and decreases until it explains the residuals.

    Parameters
    ----------
    theta : (t, 2, p) the two best minima
    objective : (t,) lowest mean Huber loss without priors
    """
    scarce = _scarce(problem)
    size = losses_scatter(problem) if scarce else objective
    for turn in range(SETTLING if scarce else 1):
        last = not scarce or turn == SETTLING - 1
        ends = _follow(problem, theta, 200 if last else 40, (), prior * size)[0]
        scale = error_scale(problem, ends[:, 0], size, prior)
        theta, size = ends, np.minimum(size, scale.objective)
    return _every_target(ends[:, :1]), scale


def prior_penalty(problem: Problem, strength: Array) -> tuple[Array, Array]:
    """Return (t, p) means and precisions of the Gaussian penalty, which counts as much as one run of the table.

    Parameters
    ----------
    strength : (t,) objectives, times the weight of the priors in runs
    """
    mean, sd = prior_mean_sd(problem)
    informative = np.isfinite(sd)
    precision = (strength / (problem.runs.max() + 1))[:, None] * np.where(informative, sd, np.inf) ** -2.0
    return np.where(informative, mean, 0.0), precision


def _starts(problem: Problem, n_starts: int, inside: Array | None, rng: np.random.Generator) -> Array:
    """Return (t, s, p) starts: the best of many random points, and around the special case if there is one."""
    law, k, n_targets = problem.law, problem.x.h.shape[-2], len(problem.y)
    drawn = n_starts if inside is None else n_starts // 2
    points = np.clip(law.term.start(rng, max(POINTS * drawn, 1), k), *law.bounds(k))
    screen, wide = _some_rows(problem, SCREEN_ROWS, rng), WIDER[0] * problem.delta
    every = Members(np.repeat(points, n_targets, axis=0), np.tile(np.arange(n_targets), len(points)))
    members = scaled_to_data(screen, every, wide)
    theta = members.theta.reshape(len(points), n_targets, -1).transpose(1, 0, 2)
    scores = objective(screen, members, wide).reshape(len(points), n_targets).T
    signed = law.term.signed(k)
    starts = _round_robin(theta, scores, signed)[:, :drawn]
    return starts if inside is None else np.concatenate([starts, _around(law, inside, n_starts - drawn, k, rng)], 1)


def _around(law: Law, inside: Array, count: int, k: int, rng: np.random.Generator) -> Array:
    """Return (t, count, p) points around the minimum (t, p) of the special case, alternating the signs of powers.

    At that minimum all C_i of a power of a sum are equal, so its power has no effect; powers are drawn at random.
    """
    around = np.repeat(inside[:, None], count, 1)
    sd = law.term.prior(k)[1]
    around += np.where(np.isfinite(sd), np.minimum(sd, 1.0), 0.4) * rng.normal(0.0, 0.6, around.shape)
    for place, i in enumerate(law.term.signed(k)):
        sign = np.where(np.arange(count) >> place & 1, 1.0, -1.0)
        around[..., i] = sign * np.exp(rng.normal(LOG_POWER, 0.7, around.shape[:2]))
    return np.clip(around, *law.bounds(k))


def _round_robin(theta: Array, objectives: Array, signed: list[int]) -> Array:
    """Return theta (t, s, p) reordered: the lowest of every pattern of signs, then the second lowest of each, ..."""
    pattern = (theta[..., signed] > 0) @ (1 << np.arange(len(signed)))
    lowest_first = np.argsort(objectives, axis=1)
    pattern = np.take_along_axis(pattern, lowest_first, 1)
    same_before = (pattern[:, :, None] == pattern[:, None, :]) & np.tri(pattern.shape[1], k=-1, dtype=bool)
    turns = np.argsort(same_before.sum(2), axis=1, kind="stable")
    return np.take_along_axis(theta, np.take_along_axis(lowest_first, turns, 1)[..., None], 1)


def _follow(
    problem: Problem, starts: Array, iterations: int, wider: tuple[float, ...], strength: Array | None = None
) -> tuple[Array, Array]:
    """Minimise from starts (t, s, p); return the minima (t, s, p) and their objectives (t, s), the lowest first."""
    members = _every_target(starts)
    if strength is not None and strength.any():
        mean, precision = prior_penalty(problem, strength)
        members = replace(members, prior=(mean[members.target], precision[members.target]))
    solution = minimise(problem, members, iterations, wider)
    objectives = solution.objective.reshape(starts.shape[:2])
    order = np.argsort(objectives, axis=1)
    theta = np.take_along_axis(solution.theta.reshape(starts.shape), order[..., None], 1)
    return theta, np.take_along_axis(objectives, order, 1)


def _every_target(theta: Array) -> Members:
    n_targets, count, size = theta.shape
    return Members(theta.reshape(-1, size), np.repeat(np.arange(n_targets), count))


def _some_rows(problem: Problem, count: int, rng: np.random.Generator) -> Problem:
    n = problem.y.shape[1]
    return problem if n <= count else problem.rows(np.sort(rng.choice(n, count, replace=False)))


def _statement(agree: int, followed: int, n_starts: int) -> str:
    reached = f"{agree} of {followed} starts kept (of {n_starts}) reached the lowest minimum"
    return reached if agree > 1 else f"only {reached}: lower ones may exist"
