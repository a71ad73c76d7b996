"""Minimisation over mixtures: mirror descent on the simplex with floors, caps and limits of groups.

Mirror descent with the entropy as mirror map (exponentiated gradient; Beck and Teboulle 2003, Operations Research
Letters 31), as in the paper (section 5), batched over starts and laws. A step multiplies the weights; a KL projection
then restores all constraints exactly. Step lengths are those of Barzilai and Borwein (1988, IMA Journal of Numerical
Analysis 8) in this geometry, with the nonmonotone line search of Birgin, Martinez and Raydan (2000, SIAM Journal on
Optimization 10): the loss may exceed the previous one but not all of the last few. Converged starts leave the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import FLOOR
from mixlaw.laws.terms import TINY

STEPS = 400
SMALLEST = 1e-9  # mirror descent approaches zero but never reaches it; below this a weight is printed as 0
CONVERGED = 1e-10  # tolerance of a minimum [nats]
ROUGHLY = 1e-7  # tolerance for intervals and profiles [nats]
STALLED, STALL_STEPS = 10.0, 25  # also converged: a gain below 10 tolerances in 25 steps
SEEN, GROWING = 1e-6, 1.001  # not converged: a weight below the first grows by the second per step
FURTHEST = 5.0  # log of the factor by which one step may change a weight
NEAR = 1 + 1e-9  # a weight within this factor of a limit is at it
MOVED = 1e-8  # weights that differ less are the same
REMEMBERED = 5  # memory of the nonmonotone line search
SUFFICIENT = 1e-4  # share of the predicted decrease that a step must reach (Armijo 1966, Pacific J. Math. 16)
SEARCH = 4.0 ** -np.arange(9)  # step lengths of the line search, relative to the full step
LEAST_FACTOR = 1e-18  # lower bound of the factor of a projection
NEWTON_STEPS = 100  # maximum number of Newton steps of a projection; mostly 2 to 6 are needed
Rows = NDArray[np.int64]
# mixtures (b, k), indices of their starts (b,) -> losses (b,), gradients (b, k)
Objective = Callable[[Array, Rows], tuple[Array, Array]]


@dataclass(frozen=True)
class Group:
    """A constraint on the sum of some domains' weights: between `low` and `high`."""

    members: NDArray[np.int64]
    low: float
    high: float


@dataclass(frozen=True)
class Limits:
    """The feasible set: low and high of every weight, (k,) or per start (b, k), and disjoint groups.

    With `parts` above 1, as for the phases of a run, points hold that many mixtures one after the other, each divided
    by their number, and every mixture has these limits (k,).
    """

    low: Array
    high: Array
    groups: Sequence[Group] = field(default_factory=tuple)
    parts: int = 1

    @property
    def size(self) -> int:
        """Number of weights of a point."""
        return self.low.shape[-1] * self.parts

    @property
    def of_part(self) -> "Limits":
        """The limits of one mixture."""
        return replace(self, parts=1)

    def pinned(self, domain: int | Rows, weights: Array) -> "Limits":
        """Return limits of b starts that fix one domain, or one domain per start (b,), at `weights` (b,)."""
        low, high = (np.tile(side, (len(weights), 1)) for side in (self.low, self.high))
        rows = np.arange(len(weights))
        low[rows, domain] = high[rows, domain] = weights
        return replace(self, low=low, high=high)

    def rows(self, at: Rows) -> "Limits":
        """Return the limits of some of the starts."""
        return self if self.low.ndim == 1 else replace(self, low=self.low[at], high=self.high[at])


def project(h: Array, limits: Limits) -> Array:
    """Return the KL projections of h (b, k) onto the feasible set.

    A projection is h times one factor, clipped to the limits; members of a group whose sum is at its limit share
    another factor. The factors make all weights sum to one.
    """
    if limits.parts > 1:
        return project(_split(h, limits) * limits.parts, limits.of_part).reshape(h.shape) / limits.parts
    h = np.maximum(h, SMALLEST)
    low, high = np.broadcast_to(limits.low, h.shape), np.broadcast_to(limits.high, h.shape)
    if not limits.groups:
        return _scaled(h, low, high, np.ones(len(h)))
    parts = _Parts.of(limits, h.shape[1])
    factor = _factor(h, low, high, parts, np.ones(len(h)))
    totals, _ = _clipped_sums(factor, h, low, high, parts)
    totals /= totals.sum(1, keepdims=True)
    result = np.empty_like(h)
    for i, member in enumerate(parts.member.T > 0):
        result[:, member] = _scaled(h[:, member], low[:, member], high[:, member], totals[:, i])
    return result


def _split(h: Array, limits: Limits) -> Array:
    """Return the parts (b parts, k) of points (b, parts k), as they are."""
    return h.reshape(-1, limits.low.shape[-1])


@dataclass(frozen=True)
class _Parts:
    """A partition of the domains: member (k, p) is 1 if a domain is in a part; low and high (p,) of the sums."""

    member: Array
    low: Array
    high: Array

    @classmethod
    def of(cls, limits: Limits, k: int) -> "_Parts":
        """Return the groups, and the remaining domains as a part without limits."""
        member = np.zeros((k, len(limits.groups) + 1))
        for i, group in enumerate(limits.groups):
            member[group.members, i] = 1.0
        member[:, -1] = 1.0 - member.sum(1)
        low, high = [g.low for g in limits.groups], [g.high for g in limits.groups]
        used = member.any(0)
        return cls(member[:, used], np.array([*low, 0.0])[used], np.array([*high, 1.0])[used])

    @classmethod
    def whole(cls, k: int) -> "_Parts":
        """Return all domains as one part without limits."""
        return cls(np.ones((k, 1)), np.zeros(1), np.full(1, np.inf))


def _scaled(h: Array, low: Array, high: Array, total: Array) -> Array:
    """Return clip(c h, low, high) with c such that the sum is `total` (b,)."""
    result: Array = h * (total / h.sum(1))[:, None]
    beyond = np.flatnonzero(((result < low) | (result > high)).any(1))
    if len(beyond):
        h, low, high, total = h[beyond], low[beyond], high[beyond], total[beyond]
        factor = _factor(h, low, high, _Parts.whole(h.shape[1]), total)
        clipped = np.clip(factor[:, None] * h, low, high)
        result[beyond] = clipped * (total / np.maximum(clipped.sum(1), TINY))[:, None]
    return result


def _factor(h: Array, low: Array, high: Array, parts: _Parts, total: Array) -> Array:
    """Return the c (b,) at which the parts' clipped sums of clip(c h, low, high) add up to `total` (b,).

    The sum is piecewise linear in c, so Newton's method is exact on the last piece. A step that leaves the bracket, and
    every third step, is replaced by the geometric mean of the bracket, because Newton's method alone can cycle.
    """
    free = low < high
    below, above = (np.maximum(end, LEAST_FACTOR) for end in ((low / h).min(1), (high / h).max(1)))
    fixed = np.where(free, 0.0, low).sum(1)
    c = np.clip((total - fixed) / np.maximum(np.where(free, h, 0.0).sum(1), TINY), below, above)
    for turn in range(NEWTON_STEPS):
        sums, slopes = _clipped_sums(c, h, low, high, parts)
        missing, slope = total - sums.sum(1), slopes.sum(1)
        if (np.abs(missing) <= 1e-14).all():
            break
        below, above = np.where(missing > 0, c, below), np.where(missing < 0, c, above)
        newton = c + missing / np.maximum(slope, TINY)
        inside = (slope > 0) & (newton > below) & (newton < above) & (turn % 3 < 2)
        c = np.where(missing == 0, c, np.where(inside, newton, np.sqrt(below) * np.sqrt(above)))
    return c


def _clipped_sums(c: Array, h: Array, low: Array, high: Array, parts: _Parts) -> tuple[Array, Array]:
    """Return each part's sum of clip(c h, low, high), clipped to its limits (b, p), and the derivative by c (b, p)."""
    scaled = c[:, None] * h
    moving = np.where((scaled > low) & (scaled < high), h, 0.0)
    sums = np.minimum(np.maximum(scaled, low), high) @ parts.member
    inside = (sums > parts.low) & (sums < parts.high)
    return np.minimum(np.maximum(sums, parts.low), parts.high), np.where(inside, moving @ parts.member, 0.0)


def starts(limits: Limits) -> Array:
    """Return the centre of the simplex and a point near each corner, projected onto the feasible set."""
    k = limits.size
    return project(np.vstack([np.full((1, k), 1 / k), 0.8 * np.eye(k) + 0.2 / k]), limits)


def minimise_mixture(objective: Objective, h: Array, limits: Limits, within: float = CONVERGED) -> tuple[Array, Array]:
    """Run mirror descent from every start (b, k); return the minima (b, k) and their losses (b,).

    Parameters
    ----------
    within : tolerance [nats]: a start has converged if `REMEMBERED` steps in a row predict smaller gains
    """
    ends, values = _descend(objective, project(h, limits), limits, np.arange(len(h)), within)
    # lifted weights have shallow minima between 0 and a few FLOOR: try zero as well
    snapped = project(np.where(ends < 10 * FLOOR, 0.0, ends), limits)
    moved = np.flatnonzero(np.abs(snapped - ends).max(1) > MOVED)
    if len(moved):
        again, lower = _descend(objective, snapped[moved], limits.rows(moved), moved, within)
        better = lower <= values[moved]
        ends[moved[better]], values[moved[better]] = again[better], lower[better]
    return ends, values


def lowest(objective: Objective, h: Array, limits: Limits) -> Array:
    """Return (k,) the best minimum from several starts (b, k)."""
    ends, values = minimise_mixture(objective, h, limits)
    best: Array = ends[int(values.argmin())]
    return best


@dataclass
class _State:
    """State of the starts that have not converged.

    Attributes
    ----------
    which : (b,) indices among all starts
    h, value, gradient : (b, k), (b,), (b, k) last accepted mixtures, their losses and gradients
    step : (b,) lengths of the next steps
    past, gains : (REMEMBERED, b) last accepted losses, and predicted gains of the last steps [nats]
    """

    which: Rows
    h: Array
    value: Array
    gradient: Array
    step: Array
    past: Array
    gains: Array

    @classmethod
    def begin(cls, objective: Objective, h: Array, which: Rows) -> "_State":
        value, gradient = objective(h, which)
        past = np.tile(value, (REMEMBERED, 1))
        return cls(
            which=which,
            h=h,
            value=value,
            gradient=gradient,
            step=_first_step(gradient),
            past=past,
            gains=np.full_like(past, np.inf),
        )

    def rows(self, at: Rows) -> "_State":
        """Return the state of some starts."""
        return _State(
            which=self.which[at],
            h=self.h[at],
            value=self.value[at],
            gradient=self.gradient[at],
            step=self.step[at],
            past=self.past[:, at],
            gains=self.gains[:, at],
        )

    def move(self, objective: Objective, limits: Limits, turn: int) -> None:
        """Try one step of each start; if the loss exceeds all remembered ones, stay and quarter the step length."""
        trial = project(self.h * np.exp(_exponent(self.h, self.gradient, self.step, limits)), limits)
        value, gradient = objective(trial, self.which)
        better = value <= self.past.max(0)
        moved = trial - self.h
        growing = ((self.h < SEEN) & (trial > GROWING * np.maximum(self.h, SMALLEST))).any(
            1
        )  # its gain is small only at first
        self.gains[turn % REMEMBERED] = np.where(growing, np.inf, -(self.gradient * moved).sum(1))
        along = (moved * np.log(np.maximum(trial, TINY) / np.maximum(self.h, TINY))).sum(1)
        bend = (moved * (gradient - self.gradient)).sum(1)
        curved = np.where(bend > TINY, along / np.maximum(bend, TINY), 3 * self.step)
        longer = np.clip(curved, 0.01 * self.step, 100 * self.step)
        self.step = np.where(better & (along > 0), longer, np.where(better, self.step, 0.25 * self.step))
        self.h = np.where(better[:, None], trial, self.h)
        self.gradient = np.where(better[:, None], gradient, self.gradient)
        self.value = np.where(better, value, self.value)
        self.past[turn % REMEMBERED] = self.value

    def escape(self, objective: Objective, limits: Limits, at: Rows, within: float) -> NDArray[np.bool_]:
        """Take a Frank-Wolfe step from starts that stalled although they are not at a minimum; return which moved.

        Mirror descent hardly moves a weight that is almost zero, and a clipped step may not descend. The Frank-Wolfe
        gap (Frank and Wolfe 1956, Naval Research Logistics 3) bounds the possible gain if the loss is convex; if it
        exceeds the tolerance, a line search goes towards the minimiser of the linearised loss.
        """
        h, gradient, value, escaped = self.h[at], self.gradient[at], self.value[at], np.zeros(len(at), dtype=bool)
        towards = _lowest_by(gradient, limits.rows(at)) - h
        gap = -(gradient * towards).sum(1)
        for length in SEARCH:
            left = np.flatnonzero(~escaped & (gap > within))
            if not len(left):
                break
            trial = h[left] + length * towards[left]
            found, slope = objective(trial, self.which[at[left]])
            good = found < value[left] - SUFFICIENT * length * gap[left]
            moved, place = left[good], at[left[good]]
            escaped[moved] = True
            self.h[place], self.value[place], self.gradient[place] = trial[good], found[good], slope[good]
            self.past[:, place], self.gains[:, place] = found[good], np.inf
            self.step[place] = _first_step(slope[good])
        return escaped


def _first_step(gradient: Array) -> Array:
    lengths: Array = 1.0 / np.maximum(np.ptp(gradient, axis=1), 1e-9)
    return lengths


def _lowest_by(gradient: Array, limits: Limits) -> Array:
    """Return the feasible mixtures (b, k) that minimise a linear function, by the greedy algorithm.

    Groups are filled to their minimum first; the rest of the weight goes to the lowest gradients.
    """
    if limits.parts > 1:
        return _lowest_by(_split(gradient, limits), limits.of_part).reshape(gradient.shape) / limits.parts
    low, high = (np.broadcast_to(side, gradient.shape) for side in (limits.low, limits.high))
    h, order = low.copy(), np.argsort(gradient, axis=1)
    rows = np.arange(len(h))
    for group in limits.groups:
        _pour(h, high, order, np.maximum(group.low - h[:, group.members].sum(1), 0.0), group.members)
    room = np.full((len(limits.groups) + 1, len(h)), np.inf)
    part = np.full(gradient.shape[1], len(limits.groups))
    for i, group in enumerate(limits.groups):
        part[group.members], room[i] = i, group.high - h[:, group.members].sum(1)
    rest = 1.0 - h.sum(1)
    for column in order.T:
        own = part[column]
        more = np.maximum(np.minimum(np.minimum(high[rows, column] - h[rows, column], rest), room[own, rows]), 0.0)
        h[rows, column] += more
        room[own, rows] -= more
        rest = rest - more
    return h


def _pour(h: Array, high: Array, order: Rows, amount: Array, members: Rows) -> None:
    """Add an amount (b,) to the members of a group, in the given order (b, k)."""
    rows = np.arange(len(h))
    for column in order.T:
        more = np.where(np.isin(column, members), np.minimum(high[rows, column] - h[rows, column], amount), 0.0)
        h[rows, column] += np.maximum(more, 0.0)
        amount = amount - np.maximum(more, 0.0)


def _exponent(h: Array, gradient: Array, step: Array, limits: Limits) -> Array:
    """Return the log factors (b, k) of the weights: minus the step length times the centred gradient, clipped.

    Clipping is needed because gradients are unbounded near 0. A common shift of all weights, or of a group's, has no
    effect after the projection, so it is removed first: we subtract the mean over each part, taken over weights that
    are not at a limit if there are any.
    """
    if limits.parts > 1:
        each = (_split(h, limits) * limits.parts, _split(gradient, limits), np.repeat(step, limits.parts))
        return _exponent(*each, limits.of_part).reshape(h.shape)
    parts = _Parts.of(limits, h.shape[1])
    inside = h * ((h > limits.low * NEAR + TINY) & (h * NEAR < limits.high))
    own = (inside @ parts.member > 0) @ parts.member.T > 0
    weight = np.where(own, inside, h)
    means = (weight * gradient) @ parts.member / np.maximum(weight @ parts.member, TINY)
    shares = h @ parts.member
    middle = (shares * means).sum(1, keepdims=True) / shares.sum(1, keepdims=True)
    within, between = gradient - means @ parts.member.T, (means - middle) @ parts.member.T
    most = step[:, None]
    return -np.clip(most * within, -FURTHEST, FURTHEST) - np.clip(most * between, -FURTHEST, FURTHEST)


def _descend(objective: Objective, h: Array, limits: Limits, which: Rows, within: float) -> tuple[Array, Array]:
    """Return the best mixtures (b, k) that the descent from feasible starts h visits, and their losses (b,)."""
    state, at = _State.begin(objective, h, which), np.arange(len(h))  # at: rows of h that have not converged
    ends, values = h.copy(), state.value.copy()
    before = np.full(len(h), np.inf)
    for turn in range(STEPS):
        state.move(objective, limits.rows(at), turn)
        lower = state.value <= values[at]
        ends[at[lower]], values[at[lower]] = state.h[lower], state.value[lower]
        going = state.gains.max(0) > within
        if turn % STALL_STEPS == STALL_STEPS - 1:
            going &= before[at] - values[at] > STALLED * within
            before[at] = values[at]
        stuck = np.flatnonzero(~going)
        if len(stuck):
            going[stuck] = state.escape(objective, limits.rows(at), stuck, within)
        going = np.flatnonzero(going)
        if len(going) < len(at):
            state, at = state.rows(going), at[going]
        if not len(at):
            break
    return ends, values
