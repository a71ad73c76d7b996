"""Robust least squares for many parameter vectors at once: batched Levenberg-Marquardt on the Huber loss, in a box.

Starts, targets and bootstrap resamples are members of one batch, so all of them share each pass through numpy. The
Huber loss is minimised by reweighting (each pass solves a damped least-squares problem whose weights are psi(r)/r,
which never increases the objective); the threshold is lowered in stages, because far from the minimum a small one makes
the problem nearly L1. Laws of mixtures have long curved valleys, so steps are corrected by the law's second derivative
along them (geodesic acceleration, Transtrum and Sethna 2012, arXiv 1201.5885), which halves the number of steps.

Legend of shapes: b members, n rows of a table, p parameters, t targets, r runs.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mixlaw.laws.grid import GridJacobian
from mixlaw.laws.jacobian import Array, Jacobian
from mixlaw.laws.law import Law
from mixlaw.laws.terms import TINY, Inputs
from mixlaw.laws.tree import Sum

WIDER = (30.0, 5.0)  # multiples of delta that are minimised first
TILE_FLOATS = 1 << 20  # members are worked on in tiles of this many rows x parameters
GRID_TILE_FLOATS = 1 << 21  # ... and on a grid, where less memory is needed for each
KEPT_FLOATS = 1 << 25  # a jacobian larger than this (256 MiB) is not kept, but made again in blocks of rows
LARGEST_STEP = 2.0  # of any parameter in one iteration; most are logarithms
BENT, PROBE = 0.75, 0.1  # maximum relative size of the correction; relative length of its finite difference
DAMPING = 1e-2
STALLED, GAIN = 5, 1e-5  # a member rests after so many steps in a row that gain less than this, relatively
Index = NDArray[np.int64]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Problem:
    """A law, and the rows that it is fitted to, for several targets at once.

    Attributes
    ----------
    x : inputs of n rows
    y : (t, n) losses [nats]; anything above 0 where `weight` is 0
    weight : (t, n) of each row; rows sum to 1
    runs : (n,) number of each row's run, from 0
    delta : Huber threshold [nats; relative where residuals are logarithmic]
    logarithmic : residuals are log predicted - log observed
    collinear : N and D are collinear, so that the amplitudes of their terms need a prior
    """

    law: Law
    x: Inputs
    y: Array
    weight: Array
    runs: Index
    delta: float = 1e-3
    logarithmic: bool = False
    collinear: bool = False

    def rows(self, at: slice | Index) -> "Problem":
        """Return the problem of some rows only."""
        weight = self.weight[:, at]
        weight = weight / np.maximum(weight.sum(1, keepdims=True), TINY)
        return replace(self, x=self.x.rows(at), y=self.y[:, at], weight=weight, runs=self.runs[at])


@dataclass(frozen=True)
class Members:
    """Members of a batch of optimisations.

    Attributes
    ----------
    theta : (b, p) parameters
    target : (b,) index of the target that each is fitted to
    run_weight : (b, r) weight of each run in a resample
    shift : (b, r) errors added to the losses of each run [nats; relative where residuals are logarithmic]
    prior : (b, p) means and (b, p) precisions of the Gaussian prior, a penalty precision (theta - mean)^2 / 2
    """

    theta: Array
    target: Index
    run_weight: Array | None = None
    prior: tuple[Array, Array] | None = None
    shift: Array | None = None

    def take(self, at: slice | Index) -> "Members":
        """Return some of the members."""
        run_weight = None if self.run_weight is None else self.run_weight[at]
        prior = None if self.prior is None else (self.prior[0][at], self.prior[1][at])
        shift = None if self.shift is None else self.shift[at]
        return Members(self.theta[at], self.target[at], run_weight, prior, shift)

    def moved(self, theta: Array) -> "Members":
        """Return the same members at other parameters."""
        return replace(self, theta=theta)


@dataclass(frozen=True)
class Solution:
    """Result of the solver: theta (b, p), and the weighted mean Huber loss there (b,)."""

    theta: Array
    objective: Array


def huber(residual: Array, delta: float) -> Array:
    """Return r^2/2 inside delta, delta (|r| - delta/2) outside, elementwise."""
    size = np.abs(residual)
    inside = np.minimum(size, delta)
    return inside * (size - 0.5 * inside)


def row_weights(problem: Problem, members: Members) -> Array:
    """Return (b, n) weights that sum to one; a resampled run's weight multiplies its rows'."""
    weight = problem.weight[members.target]
    if members.run_weight is None:
        return weight
    weight = weight * members.run_weight[:, problem.runs]
    return weight / np.maximum(weight.sum(1, keepdims=True), TINY)


def residuals(problem: Problem, members: Members, value: Array) -> Array:
    """Return (b, n) predicted minus observed; overflow counts as 1e6."""
    y = problem.y[members.target]
    difference = np.log(np.maximum(value, TINY)) - np.log(y) if problem.logarithmic else value - y
    if members.shift is not None:
        difference = difference - members.shift[:, problem.runs]
    if np.isfinite(difference.sum()):
        return difference
    return np.nan_to_num(difference, nan=1e6, posinf=1e6, neginf=-1e6)


def objective(problem: Problem, members: Members, delta: float | None = None) -> Array:
    """Return (b,) weighted mean Huber losses."""
    found = np.empty(len(members.theta))
    for tile in _tiles(problem, len(found)):
        part = members.take(tile)
        residual = residuals(problem, part, problem.law.loss(part.theta, problem.x))
        found[tile] = (row_weights(problem, part) * huber(residual, delta or problem.delta)).sum(1)
    return found


def minimise(
    problem: Problem,
    members: Members,
    iterations: int,
    wider: tuple[float, ...] = WIDER,
    accelerated: bool = True,
    gain: float = GAIN,
    damping: float = DAMPING,
    progress: Progress | None = None,
) -> Solution:
    """Minimise the weighted mean Huber loss from every start; no member ends above its start.

    Parameters
    ----------
    members : the starts, inside the law's box
    iterations : at most this many steps at the final threshold, a third as many at each wider one
    wider : multiples of delta that are minimised first
    accelerated : use geodesic acceleration; starts that are near the minimum do not need it
    damping : of the first steps; small where starts are next to their minimum
    gain : a member has converged if some steps in a row reduce its objective by less than this share
    progress : called with the number of finished members
    """
    theta, best = np.empty_like(members.theta), np.empty(len(members.theta))
    options = _Options(accelerated=accelerated, gain=gain, damping=damping)
    for tile in _tiles(problem, len(best)):
        start = part = members.take(tile)
        for multiple in wider:
            end = _descend(problem, part, multiple * problem.delta, iterations // 3, options)
            part = part.moved(end.theta)
        if wider:  # a start may be better than the result of the wider thresholds
            worse = objective(problem, start) < objective(problem, part)
            part = part.moved(np.where(worse[:, None], start.theta, part.theta))
        end = _descend(problem, part, problem.delta, iterations, options)
        theta[tile], best[tile] = end.theta, end.objective
        if progress:
            progress(len(end.objective))
    return Solution(theta, best)


def gauss_newton_hessian(problem: Problem, members: Members, least: Array) -> Array:
    """Return (b, p, p) the second derivatives of the members' objectives, without those of the law itself.

    Parameters
    ----------
    least : (b,) lower bound of residuals in the weights, so that a few tiny ones do not dominate
    """
    least = np.maximum(least, TINY)  # all residuals may be zero
    found = [
        _Tile(problem, members.take(at), problem.delta, least[at]).linearise(members.theta[at]).hessian
        for at in _tiles(problem, len(members.theta))
    ]
    return np.concatenate(found)


def _tiles(problem: Problem, count: int) -> list[slice]:
    n_free = problem.law.n_free(problem.x.h.shape[-2])
    floats = TILE_FLOATS if problem.x.grid is None else GRID_TILE_FLOATS
    size = max(1, floats // (len(problem.x.log_n) * n_free))
    return [slice(i, i + size) for i in range(0, count, size)]


@dataclass
class Linearisation:
    """The problem at some parameters: objective (b,), gradient (b, p), hessian (b, p, p), residual and weight (b, n).

    `jacobian` is that of the predictions; None if it is too large to keep.
    """

    objective: Array
    gradient: Array
    hessian: Array
    residual: Array
    weight: Array
    jacobian: Jacobian | GridJacobian | None

    def members(self, at: NDArray[np.bool_]) -> "Linearisation":
        """Return the linearisation of some members."""
        jacobian = self.jacobian.members(at) if self.jacobian else None
        objective, gradient, hessian, residual, weight = (a[at] for a in self._arrays())
        return Linearisation(objective, gradient, hessian, residual, weight, jacobian)

    def replaced(self, at: NDArray[np.bool_], new: "Linearisation") -> "Linearisation":
        """Return the new look for the members at `at`, this one for the others."""
        if at.all():
            return new
        for old, other in zip(self._arrays(), new._arrays(), strict=True):
            old[at] = other[at]
        if self.jacobian and new.jacobian:
            self.jacobian.replace(at, new.jacobian)  # type: ignore[arg-type]  # one law on one table: one form
        return self

    def _arrays(self) -> tuple[Array, ...]:
        return self.objective, self.gradient, self.hessian, self.residual, self.weight


class _Tile:
    """State of the members of one tile during the optimisation."""

    def __init__(self, problem: Problem, members: Members, delta: float, least: Array | None = None) -> None:
        self.problem, self.members, self.delta = problem, members, delta
        self.least = np.full(len(members.theta), TINY) if least is None else least
        self.weight = row_weights(problem, members)
        self.low, self.high = problem.law.bounds(problem.x.h.shape[-2])

    def linearise(self, theta: Array, keep: bool = False) -> "Linearisation":
        """Return the linearisation at theta (b, p); `keep` its Jacobian unless it is too large."""
        b, p, n = len(theta), theta.shape[1], self.problem.x.h.shape[-1]
        step = n if b * p * n <= KEPT_FLOATS else max(1, TILE_FLOATS // (b * p))
        best, gradient, hessian = np.zeros(b), np.zeros((b, p)), np.zeros((b, p, p))
        residual, jacobian, weight = np.empty((b, n)), None, np.empty((b, n))
        for at in (slice(i, min(i + step, n)) for i in range(0, n, step)):
            part = self.problem if step == n else self.problem.rows(at)
            value, found = part.law.loss_and_factored_jacobian(theta, part.x)
            if part.logarithmic:
                found.scale(1 / np.maximum(value, TINY))
            off = residual[:, at] = residuals(part, self.members, value)
            size = np.abs(off)
            inside = np.minimum(size, self.delta)
            best += np.einsum("bn,bn,bn->b", self.weight[:, at], inside, size - 0.5 * inside)
            weight[:, at] = self.weight[:, at] * np.minimum(1, self.delta / np.maximum(size, self.least[:, None]))
            gradient += found.vjp(weight[:, at] * off)
            hessian += found.normal(weight[:, at])
            jacobian = found if keep and step == n else None
        if self.members.prior:
            centre, precision = self.members.prior
            best += 0.5 * (precision * (theta - centre) ** 2).sum(1)
            gradient += precision * (theta - centre)
            np.einsum("bpp->bp", hessian)[...] += precision
        return Linearisation(best, gradient, hessian, residual, weight, jacobian)

    def keep(self, at: NDArray[np.bool_]) -> None:
        """Drop the other members."""
        self.members, self.weight, self.least = self.members.take(np.flatnonzero(at)), self.weight[at], self.least[at]


@dataclass(frozen=True)
class _Options:
    """Settings of the solver, see `minimise`."""

    accelerated: bool
    gain: float
    damping: float


def _descend(problem: Problem, members: Members, delta: float, iterations: int, options: _Options) -> Solution:
    """Run Levenberg-Marquardt steps on one tile; members that have converged leave it."""
    tile = _Tile(problem, members, delta)
    theta, places = members.theta.copy(), np.arange(len(members.theta))
    here = tile.linearise(theta, keep=options.accelerated)
    ends, best = theta.copy(), here.objective.copy()
    damping, stalled = np.full(len(theta), options.damping), np.zeros(len(theta), int)
    for _ in range(iterations):
        trial = np.clip(theta + _step(tile, theta, here, damping), tile.low, tile.high)
        there = tile.linearise(trial, keep=options.accelerated)
        better = there.objective < here.objective
        gained = here.objective - there.objective > options.gain * here.objective
        stalled = np.where(better & gained, 0, stalled + 1)
        damping = np.clip(np.where(better, damping / 3, damping * 5), 1e-10, 1e10)
        theta = np.where(better[:, None], trial, theta)
        here = here.replaced(better, there)
        ends[places], best[places] = theta, here.objective
        going = (stalled < STALLED) & (here.objective > 1e-18)
        if not going.all():
            tile.keep(going)
            theta, places, damping, stalled = theta[going], places[going], damping[going], stalled[going]
            here = here.members(going)
        if len(places) == 0:
            break
    return Solution(ends, best)


def _step(tile: _Tile, theta: Array, here: Linearisation, damping: Array) -> Array:
    """Return (b, p) damped steps with geodesic acceleration; parameters at a bound they would cross stay."""
    gradient = here.gradient
    held = ((theta <= tile.low) & (gradient > 0)) | ((theta >= tile.high) & (gradient < 0))
    free, damped = (~held).astype(float), here.hessian.copy()
    if held.any():
        damped *= free[:, :, None] * free[:, None, :]
    diagonal = np.einsum("bpp->bp", damped).copy()
    largest = np.maximum(diagonal.max(-1, keepdims=True), TINY)
    scale = np.maximum(diagonal, 1e-9 * largest)
    np.einsum("bpp->bp", damped)[...] += damping[:, None] * scale + 1e-14 * largest + held * largest
    step = _limited(np.linalg.solve(damped, -(gradient * free)[..., None])[..., 0])
    if here.jacobian is None:
        return step
    probe = np.clip(theta + PROBE * step, tile.low, tile.high)
    there = residuals(tile.problem, tile.members, tile.problem.law.loss(probe, tile.problem.x))
    bend = (2 / PROBE) * ((there - here.residual) / PROBE - here.jacobian.jvp(step))
    turn = np.linalg.solve(damped, -(here.jacobian.vjp(here.weight * bend) * free)[..., None])[..., 0]
    length, turned = ((np.sqrt(scale) * v) for v in (step, turn))
    fine = 2 * np.linalg.norm(turned, axis=1) < BENT * np.linalg.norm(length, axis=1)
    return np.where(fine[:, None], _limited(step + 0.5 * turn), step)


def _limited(step: Array) -> Array:
    """Return the step, every component clipped to the largest allowed one."""
    return np.clip(step, -LARGEST_STEP, LARGEST_STEP)


def scaled_to_data(problem: Problem, members: Members, delta: float) -> Members:
    """Return members with fitted amplitudes; their other parameters are kept.

    A law is a sum of parts that are linear in their amplitudes: given the other parameters, amplitudes are found by
    robust non-negative least squares (variable projection, for starts only).
    """
    theta = np.empty_like(members.theta)
    for tile in _tiles(problem, len(theta)):
        theta[tile] = _scaled_tile(problem, members.take(tile), delta)
    return members.moved(np.clip(theta, *problem.law.bounds(problem.x.h.shape[-2])))


def _scaled_tile(problem: Problem, members: Members, delta: float) -> Array:
    term, theta, k = problem.law.term, members.theta, problem.x.h.shape[-2]
    parts = list(zip(term.children, term.slices(k), strict=True)) if isinstance(term, Sum) else [(term, slice(None))]
    moving = [(part, at, d) for part, at in parts if (d := part.amplitude(k)) is not None]
    if not moving:
        return theta
    new = np.append(True, (np.diff(theta, axis=0) != 0).any(1))  # members that follow each other may share parameters
    distinct, place, x = theta[new], np.cumsum(new) - 1, problem.x.without_grid()
    y, weight = problem.y[members.target], row_weights(problem, members)
    value = [np.broadcast_to(part.value(distinct[:, at], x)[0], (len(distinct), y.shape[1])) for part, at in parts]
    moves = [part.amplitude(k) is not None for part, _ in parts]
    still = sum((v for v, m in zip(value, moves, strict=True) if not m), np.zeros((len(distinct), 1)))[place]
    values = np.stack([v for v, m in zip(value, moves, strict=True) if m], 1)[place]
    size = np.maximum(values.mean(-1, keepdims=True), TINY)
    factor = _positive_least_squares(values / size, y - still, weight, delta)
    for i, (_, at, direction) in enumerate(moving):
        theta[:, at] += (np.log(factor[:, i : i + 1]) - np.log(size[:, i])) * direction
    return theta


def _positive_least_squares(values: Array, y: Array, weight: Array, delta: float, passes: int = 5) -> Array:
    """Return (b, m) factors above 0 of values (b, m, n) whose sum is robustly near y (b, n)."""
    count = values.shape[1]
    least = 1e-4 * np.abs(y).mean(1, keepdims=True)
    inner = weight
    for _ in range(passes):
        weighted = values * inner[:, None, :]
        hessian = np.matmul(weighted, values.transpose(0, 2, 1))
        hessian += 1e-10 * np.trace(hessian, axis1=1, axis2=2)[:, None, None] * np.eye(count) + TINY
        right = np.matmul(weighted, y[..., None])[..., 0]
        free = np.ones(right.shape, bool)
        for _ in range(count):
            masked = hessian * free[:, :, None] * free[:, None, :] + np.eye(count) * ~free[:, None, :]
            found = np.linalg.solve(masked, (right * free)[..., None])[..., 0]
            lowest = np.where(free, found - least, np.inf).argmin(1)
            bad = np.take_along_axis(found - least, lowest[:, None], 1)[:, 0] < 0
            free[np.flatnonzero(bad), lowest[bad]] = False
            if not bad.any():
                break
        factor = np.where(free, np.maximum(found, least), least)
        residual = np.abs((factor[:, :, None] * values).sum(1) - y)
        inner = weight * np.minimum(1.0, delta / np.maximum(residual, TINY))
    return factor
