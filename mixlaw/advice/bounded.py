"""Minimisation over mixtures under limits on losses: augmented Lagrangians around mirror descent.

The problem: minimise the largest of p criteria of h, subject to m bounds g(h) <= 0 and to the limits of weights. Each
round minimises a smooth function by mirror descent, then updates its multipliers. Bounds enter as in the method of
multipliers (Rockafellar 1973, Journal of Optimization Theory and Applications 12). The largest criterion enters as in
the exponential method of multipliers (Tseng and Bertsekas 1993, Mathematical Programming 60): the log-sum-exp of the
criteria, weighted by multipliers that sum to one. Both converge at a finite sharpness.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mixlaw.advice.simplex import CONVERGED, Limits, Rows, minimise_mixture
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import FLOOR
from mixlaw.laws.terms import TINY

ROUNDS = 40  # maximum number of updates of the multipliers
SHARPNESS = 100.0  # of the first round, relative to the criteria
SHARPEST = 1e7  # a start that still makes no progress at this sharpness is given up
SHARPER, IMPROVES = 10.0, 0.3  # growth of the sharpness in a round that leaves more than the second of the violation
MET = 1e-6  # a bound is met if it exceeds zero by at most this, or by `ROUGHLY_MET` in intervals and profiles
ROUGHLY_MET = 1e-4
AIM = 0.1  # the violation, and the relative duality gap, at which the rounds end, as a share of the tolerance
NOT_MET = 1e6  # a mixture that violates a bound ranks behind all others: its criterion is raised by this, per violation
AWAKE = 5 * FLOOR  # smallest weight in the start of a round: at 0, lifted weights have no slope that shows a way back
# mixtures (b, k), indices of their starts (b,) -> values (b, m) and gradients (b, m, k)
Functions = Callable[[Array, Rows], tuple[Array, Array]]


@dataclass
class _Multipliers:
    """Multipliers and sharpness of b starts.

    Attributes
    ----------
    share : (b, p) weights of the criteria, which sum to one
    price : (b, m) multipliers of the bounds, at least 0
    size : (b,) absolute value of the criterion at the start
    sharpness : (b,) relative to `size`
    """

    share: Array
    price: Array
    size: Array
    sharpness: Array

    def rows(self, at: Rows) -> "_Multipliers":
        """Return those of some starts."""
        return _Multipliers(self.share[at], self.price[at], self.size[at], self.sharpness[at])

    def soft(self, criteria: Array) -> tuple[Array, Array]:
        """Return the weighted log-sum-exp (b,) of criteria (b, p), and its derivatives (b, p)."""
        sharp, top = (self.sharpness / self.size)[:, None], criteria.max(1, keepdims=True)
        terms = self.share * np.exp(sharp * (criteria - top))
        total = np.maximum(terms.sum(1, keepdims=True), TINY)
        return (top + np.log(total) / sharp)[:, 0], terms / total

    def hinge(self, bounds: Array) -> tuple[Array, Array]:
        """Return the penalty (b,) of bounds (b, m), and its derivatives (b, m)."""
        steep = (self.sharpness * self.size)[:, None]
        pull = np.maximum(self.price + steep * bounds, 0.0)
        return ((pull**2 - self.price**2) / (2 * steep)).sum(1), pull


def minimise_bounded(
    criteria: Functions, bounds: Functions, h: Array, limits: Limits, within: float = CONVERGED
) -> tuple[Array, Array]:
    """Minimise the largest criterion under bounds from every start (b, k).

    Returns
    -------
    The minima (b, k) and their largest criteria (b,). Where a bound is violated by more than the tolerance, it
    is raised by `NOT_MET` times the violation, so that mixtures that meet all bounds rank first.
    """
    own, ends, at = _begin(criteria, bounds, h), h.copy(), np.arange(len(h))
    before, tolerance = np.full(len(h), np.inf), MET if within <= CONVERGED else ROUGHLY_MET
    for _ in range(ROUNDS):
        inner = _smooth(criteria, bounds, own, at)
        ends[at], _ = minimise_mixture(inner, np.maximum(ends[at], AWAKE), limits.rows(at), within)
        gap, beyond = _update(criteria(ends[at], at)[0], bounds(ends[at], at)[0], own, at)
        left = np.maximum(beyond, gap)
        slow = left > IMPROVES * before[at]
        hopeless = slow & (own.sharpness[at] >= SHARPEST)
        own.sharpness[at[slow]] *= SHARPER
        before[at] = left
        at = at[(left > AIM * tolerance) & ~hopeless]
        if not len(at):
            break
    every = np.arange(len(h))
    return ends, _ranked(criteria(ends, every)[0].max(1), bounds(ends, every)[0], tolerance)


def _begin(criteria: Functions, bounds: Functions, h: Array) -> _Multipliers:
    """Return the first multipliers: equal weights of the criteria, and bounds that cost nothing."""
    every = np.arange(len(h))
    values, m = criteria(h, every)[0], bounds(h, every)[0].shape[1]
    size = np.maximum(np.abs(values).max(1), TINY)
    share, sharpness = np.full_like(values, 1 / values.shape[1]), np.full(len(h), SHARPNESS)
    return _Multipliers(share, np.zeros((len(h), m)), size, sharpness)


def _smooth(criteria: Functions, bounds: Functions, own: _Multipliers, at: Rows) -> Callable[..., tuple[Array, Array]]:
    """Return the augmented Lagrangian of some starts as an objective of mirror descent."""

    def lagrangian(h: Array, rows: Rows) -> tuple[Array, Array]:
        which = at[rows]
        (value, slope), (bound, bound_slope) = criteria(h, which), bounds(h, which)
        mine = own.rows(which)
        (soft, by_value), (hinge, by_bound) = mine.soft(value), mine.hinge(bound)
        gradient = np.einsum("bp,bpk->bk", by_value, slope) + np.einsum("bm,bmk->bk", by_bound, bound_slope)
        return soft + hinge, gradient

    return lagrangian


def _update(value: Array, bound: Array, own: _Multipliers, at: Rows) -> tuple[Array, Array]:
    """Update the multipliers of some starts; return the relative duality gaps and the largest violations (b,)."""
    mine = own.rows(at)
    share, price = mine.soft(value)[1], mine.hinge(bound)[1]
    own.share[at], own.price[at] = share, price
    gap = value.max(1) - (share * value).sum(1) - (price * bound).sum(1)
    return np.abs(gap) / mine.size, np.maximum(bound, 0.0).max(1, initial=0.0)


def _ranked(value: Array, bound: Array, tolerance: float) -> Array:
    """Return criteria (b,), raised where a bound (b, m) is not met."""
    beyond = bound.max(1, initial=0.0)
    return np.where(beyond > tolerance, value + NOT_MET * beyond, value)
