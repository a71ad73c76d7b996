"""Minimising over mixtures: exponentiated gradient on the simplex, inside floors, caps and limits of groups.

Mirror descent with the entropy as mirror (Beck and Teboulle 2003, Operations Research Letters 31), as the paper does
(section 5), for many starts and many laws at once. A step multiplies weights and is then projected in the same
geometry, which keeps every limit exactly.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mixlaw.laws import FLOOR
from mixlaw.slopes import Array
from mixlaw.terms import TINY

STEPS = 400
SMALLEST = 1e-9  # mirror descent approaches zero but never reaches it; below this a weight is printed as 0
Objective = Callable[[Array], tuple[Array, Array]]  # mixtures (b, k) -> losses (b,), gradients (b, k)


@dataclass(frozen=True)
class Group:
    """Domains whose weights have a sum between `low` and `high`."""

    members: NDArray[np.int64]
    low: float
    high: float


@dataclass(frozen=True)
class Limits:
    """Where mixtures must stay: low and high of every weight, (k,) or one row per start (b, k), and disjoint groups."""

    low: Array
    high: Array
    groups: Sequence[Group] = field(default_factory=tuple)

    def pinned(self, domain: int, weights: Array) -> "Limits":
        """Return limits for as many starts as there are weights, one domain held at these weights (b,)."""
        low, high = (np.tile(side, (len(weights), 1)) for side in (self.low, self.high))
        low[:, domain] = high[:, domain] = weights
        return replace(self, low=low, high=high)


def project(h: Array, limits: Limits) -> Array:
    """Return the mixtures inside the limits that are nearest to h (b, k), by Kullback-Leibler divergence.

    They are h times one factor, clipped to the limits; the members of a group whose sum meets its limit have a factor
    of their own. Factors are such that all weights sum to one.
    """
    h = np.maximum(h, SMALLEST)
    low, high = np.broadcast_to(limits.low, h.shape), np.broadcast_to(limits.high, h.shape)
    if not limits.groups:
        return _scaled(h, low, high, np.ones(len(h)))
    parts = _parts(limits, h.shape[1])
    totals = _group_totals(h, low, high, parts)
    result = np.empty_like(h)
    for (members, _, _), total in zip(parts, totals, strict=True):
        result[:, members] = _scaled(h[:, members], low[:, members], high[:, members], total)
    return result


def _parts(limits: Limits, k: int) -> list[tuple[NDArray[np.int64], float, float]]:
    """Return all groups, and what belongs to none as one without limits."""
    rest = np.setdiff1d(np.arange(k), np.concatenate([g.members for g in limits.groups]))
    return [(g.members, g.low, g.high) for g in limits.groups] + [(rest, 0.0, 1.0)] * (len(rest) > 0)


def _group_totals(
    h: Array, low: Array, high: Array, parts: list[tuple[NDArray[np.int64], float, float]]
) -> list[Array]:
    """Return each part's share of the whole, (b,) each, at the common factor at which they sum to one."""

    def totals(factor: Array) -> list[Array]:
        clipped = np.clip(np.exp(factor)[:, None] * h, low, high)
        return [np.clip(clipped[:, members].sum(1), least, most) for members, least, most in parts]

    below, above = np.full(len(h), -50.0), np.full(len(h), 50.0)
    for _ in range(100):
        middle = (below + above) / 2
        short = sum(totals(middle)) < 1
        below, above = np.where(short, middle, below), np.where(short, above, middle)
    found = totals(above)
    whole = sum(found)
    return [t / whole for t in found]


def _scaled(h: Array, low: Array, high: Array, total: Array) -> Array:
    """Return clip(c h, low, high) that sum to `total` (b,).

    The sum is piecewise linear in c, so c is interpolated between the knots where a weight meets a limit.
    """
    knots = np.sort(np.concatenate([low / h, high / h], axis=1), axis=1)
    sums = np.clip(knots[..., None] * h[:, None, :], low[:, None, :], high[:, None, :]).sum(2)
    right = np.clip((sums < total[:, None]).sum(1), 1, knots.shape[1] - 1)[:, None]
    (c0, c1), (s0, s1) = ([np.take_along_axis(a, i, 1) for i in (right - 1, right)] for a in (knots, sums))
    c = c0 + (c1 - c0) * np.clip((total[:, None] - s0) / np.maximum(s1 - s0, TINY), 0, 1)
    clipped = np.clip(c * h, low, high)
    result: Array = clipped * (total / np.maximum(clipped.sum(1), TINY))[:, None]
    return result


def starts(limits: Limits) -> Array:
    """Return the middle of the simplex and a point near each corner."""
    k = limits.low.shape[-1]
    return project(np.vstack([np.full((1, k), 1 / k), 0.8 * np.eye(k) + 0.2 / k]), limits)


def minimise_mixture(objective: Objective, h: Array, limits: Limits) -> tuple[Array, Array]:
    """Run mirror descent from every start (b, k), steps adapted per start; return the ends (b, k) and losses (b,)."""
    ends, values = _descend(objective, project(h, limits), limits)
    # between 0 and a few FLOOR the lifted weights leave shallow minima: try zero instead
    snapped, snapped_values = _descend(objective, project(np.where(ends < 10 * FLOOR, 0.0, ends), limits), limits)
    better = snapped_values <= values
    return np.where(better[:, None], snapped, ends), np.where(better, snapped_values, values)


def lowest(objective: Objective, h: Array, limits: Limits) -> Array:
    """Return (k,) the best of what is reached from several starts (b, k)."""
    ends, values = minimise_mixture(objective, h, limits)
    best: Array = ends[int(values.argmin())]
    return best


def _descend(objective: Objective, h: Array, limits: Limits) -> tuple[Array, Array]:
    value, gradient = objective(h)
    step = 1.0 / np.maximum(np.ptp(gradient, axis=1), 1e-9)
    for _ in range(STEPS):
        centred = gradient - (h * gradient).sum(1, keepdims=True)
        trial = project(h * np.exp(np.clip(-step[:, None] * centred, -5, 5)), limits)
        new_value, new_gradient = objective(trial)
        better = new_value <= value
        still = (np.abs(trial - h).max() < 1e-10) or step.max() < 1e-9
        h = np.where(better[:, None], trial, h)
        gradient = np.where(better[:, None], new_gradient, gradient)
        value = np.where(better, new_value, value)
        step = np.where(better, step * 1.3, step * 0.4)
        if still:
            break
    return h, value
