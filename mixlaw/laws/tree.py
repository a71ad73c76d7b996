"""The inner nodes of a law: sums, products and decays of terms, with reverse-mode differentiation.

A forward pass computes values, a backward pass derivatives: a node receives the derivative of the loss by its value
(its `cotangent`) and passes each child its own. Children of the mixture alone are evaluated once per distinct mixture,
see `mixlaw.laws.jacobian`; on a grid, children of N and D alone are evaluated once per pair of N and D, and all other
nodes have values (b, m or 1, s or 1), see `mixlaw.laws.grid`.
"""

import functools
from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from mixlaw.laws.grid import MIXTURE, SCALE, Block, GridJacobian
from mixlaw.laws.jacobian import Array, Jacobian
from mixlaw.laws.terms import PHASES, Box, Constant, Inputs, PowerOfSum, Slot, Term

MOST_POWER = 100.0  # a decay is at most e^100, far above any loss


class Nested(Term):
    """A node with children; its parameters are those of the children, in their order.

    `broadcasts`: value and cotangents use only the children's values and `log_of`, so that they work for values of any
    broadcastable shape. `plain`: the term, its last child, that a node equals at the parameters `neutral` of its other
    children.
    """

    children: tuple[Term, ...]
    broadcasts: bool = False
    plain: Term | None = None

    @cached_property
    def separable(self) -> bool:
        """Whether the law can be evaluated on a grid: every leaf depends on the mixture alone, or on N and D alone."""
        return _pure(self) or (
            self.broadcasts and self.uses <= {"h", PHASES, "N", "D"} and all(map(_separable, self.children))
        )

    @cached_property
    def uses(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset().union(*(c.uses for c in self.children))

    def neutral(self, k: int) -> Array:
        """Return the parameters of the children before `plain` at which the node equals it."""
        return np.zeros(self.slices(k)[-1].start)

    def slices(self, k: int) -> list[slice]:
        """Return the slice of each child's parameters."""
        return _slices(self, k)

    def bounds(self, k: int) -> Box:
        boxes = [c.bounds(k) for c in self.children]
        return np.concatenate([b[0] for b in boxes]), np.concatenate([b[1] for b in boxes])

    def start(self, rng: np.random.Generator, count: int, k: int) -> Array:
        return np.hstack([c.start(rng, count, k) for c in self.children])

    def prior(self, k: int) -> Box:
        priors = [c.prior(k) for c in self.children]
        return np.concatenate([p[0] for p in priors]), np.concatenate([p[1] for p in priors])

    def signed(self, k: int) -> list[int]:
        return [at.start + i for c, at in zip(self.children, self.slices(k), strict=True) for i in c.signed(k)]

    def rates(self, k: int) -> list[int]:
        return [at.start + i for c, at in zip(self.children, self.slices(k), strict=True) for i in c.rates(k)]

    def natural(self, theta: Array, domains: Sequence[str]) -> dict[str, float]:
        named: dict[str, float] = {}
        for child, at in zip(self.children, self.slices(len(domains)), strict=True):
            named |= child.natural(theta[at], domains)
        return named

    def values(self, theta: Array, x: Inputs) -> tuple[list[Array], Any]:
        """Return each child's value, and the cache for `child_vjp`."""
        places = self.slices(x.h.shape[-2])
        values, caches = [], []
        for child, at in zip(self.children, places, strict=True):
            value, cache = value_of(child, theta[:, at], x)
            values.append(value)
            caches.append(cache)
        return values, (caches, places, x)

    def child_vjp(self, i: int, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        """Backpropagate a cotangent (b, n) to one child."""
        caches, places, _ = cache
        slot = None if by_theta is None else by_theta[:, places[i]]
        self.children[i].vjp(caches[i], cotangent, slot, by_h)

    def write_jacobian(self, cache: Any, cotangent: Array, jacobian: Jacobian | GridJacobian, offset: int) -> None:
        """Write cotangent (b, n) times the derivatives by the parameters, which begin at `offset`."""
        caches, places, x = self.inner(cache)
        for i, (child, at) in enumerate(zip(self.children, places, strict=True)):
            own, moved = self.child_cotangent(i, cache, cotangent), slice(offset + at.start, offset + at.stop)
            if isinstance(jacobian, GridJacobian):
                jacobian_on_grid(child, caches[i], own, x, jacobian, moved)
            elif _of_mixture(child):
                jacobian.add_factored(moved, _inner(child, caches[i], len(own), moved, seen_by(child, x)), own)
            elif isinstance(child, Nested):
                child.write_jacobian(caches[i], own, jacobian, moved.start)
            else:
                rows = np.empty((len(cotangent), at.stop - at.start, x.h.shape[-1]))
                child.vjp(caches[i], own, rows, None)
                jacobian.add(moved, rows)

    def inner(self, cache: Any) -> Any:
        """Return the cache of `values`, which is part of the cache of `value`."""
        raise NotImplementedError

    def child_cotangent(self, i: int, cache: Any, cotangent: Array) -> Array:
        """Return the derivative of the loss by child i's value, from that by the node's value."""
        raise NotImplementedError

    def vjp(self, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        for i in range(len(self.children)):
            self.child_vjp(i, self.inner(cache), self.child_cotangent(i, cache, cotangent), by_theta, by_h)


@functools.cache
def _slices(node: Nested, k: int) -> list[slice]:
    ends = np.cumsum([0] + [c.size(k) for c in node.children])
    return [slice(int(a), int(b)) for a, b in pairwise(ends)]


def seen_by(term: Term, x: Inputs) -> Inputs:
    """Return the inputs to evaluate a term on: distinct mixtures or scales if it depends on nothing else."""
    if x.distinct is not None and _of_mixture(term):
        return x.distinct
    return x.scales if x.scales is not None and term.uses <= {"N", "D"} else x


def spread(term: Term, value: Array, x: Inputs) -> Array:
    """Return the value of a term, evaluated on distinct mixtures or scales, in a shape that broadcasts to all rows."""
    if x.grid is not None:
        return value[:, :, None] if _of_mixture(term) else value[:, None, :]
    return value if x.groups is None else x.groups.spread(value)


def value_of(term: Term, theta: Array, x: Inputs) -> tuple[Array, Any]:
    """Return values for parameters (b, q), (b, n or 1) or on a grid (b, m or 1, s or 1), and the cache."""
    seen = seen_by(term, x)
    value, cache = term.value(theta, seen)
    return (value if seen is x else spread(term, value, x)), cache


def jacobian_on_grid(term: Term, cache: Any, cotangent: Array, x: Inputs, jacobian: GridJacobian, at: slice) -> None:
    """Write cotangent (b, m or 1, s or 1) times the derivatives of a term by its parameters, which are at `at`."""
    seen = seen_by(term, x)
    if seen is not x:
        axis = MIXTURE if seen is x.distinct else SCALE
        jacobian.add(Block(at, axis, _inner(term, cache, len(cotangent), at, seen), cotangent))
    elif isinstance(term, Nested):
        term.write_jacobian(cache, cotangent, jacobian, at.start)


def _inner(term: Term, cache: Any, count: int, at: slice, seen: Inputs) -> Array:
    """Return (b, q, a) the derivatives of a term by its own parameters on the inputs of its evaluation."""
    inner = np.empty((count, at.stop - at.start, seen.h.shape[-1]))
    term.vjp(cache, np.ones((count, inner.shape[2])), inner, None)
    return inner


def _pure(term: Term) -> bool:
    return _of_mixture(term) or term.uses <= {"N", "D"}


def _of_mixture(term: Term) -> bool:
    """Return whether a term depends on the mixture, or its phases, and on nothing else."""
    return bool(term.uses) and term.uses <= {"h", PHASES}


def _separable(term: Term) -> bool:
    return term.separable if isinstance(term, Nested) else _pure(term)


class Sum(Nested):
    """The sum of its children."""

    broadcasts = True

    @cached_property
    def linear(self) -> bool:  # type: ignore[override]
        return all(c.linear for c in self.children)

    def __init__(self, *children: Term) -> None:
        self.children = children

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        values, cache = self.values(theta, x)
        total = values[0]
        for value in values[1:]:
            total = total + value
        return total, cache

    def inner(self, cache: Any) -> Any:
        return cache

    def child_cotangent(self, i: int, cache: Any, cotangent: Array) -> Array:
        return cotangent

    def convex(self, theta: Array, k: int) -> bool:
        return all(c.convex(theta[at], k) for c, at in zip(self.children, self.slices(k), strict=True))


class Product(Nested):
    """The product of its children, which are positive."""

    broadcasts = True

    def __init__(self, *children: Term) -> None:
        self.children = children

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        values, cache = self.values(theta, x)
        total = values[0]
        for value in values[1:]:
            total = total * value
        return total, (cache, values)

    def inner(self, cache: Any) -> Any:
        return cache[0]

    def child_cotangent(self, i: int, cache: Any, cotangent: Array) -> Array:
        for j, value in enumerate(cache[1]):
            if j != i:
                cotangent = cotangent * value
        return cotangent

    def amplitude(self, k: int) -> Array | None:
        found = [c.amplitude(k) for c in self.children]
        first = next((i for i, a in enumerate(found) if a is not None), None)
        if first is None:
            return None
        direction = np.zeros(self.size(k))
        direction[self.slices(k)[first]] = found[first]
        return direction

    def convex(self, theta: Array, k: int) -> bool:
        moved = [i for i, c in enumerate(self.children) if "h" in c.uses or "share" in c.uses]
        if len(moved) > 1:
            return False
        return all(self.children[i].convex(theta[self.slices(k)[i]], k) for i in moved)


class Decay(Nested):
    """x^-rate, x being N, D, or "active" (1 - sparsity); the rate is itself a term, mostly a constant."""

    broadcasts = True

    def __init__(self, of: str, rate: Term) -> None:
        self.of, self.children = of, (rate,)

    @cached_property
    def uses(self) -> frozenset[str]:  # type: ignore[override]
        return self.children[0].uses | {"sparsity" if self.of == "active" else self.of}

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        (rate,), cache = self.values(theta, x)
        log_x = (x.scales or x).log_of(self.of)
        power = -rate * log_x
        if rate.shape[1] > 1:  # a rate that depends on the mixture can overflow
            np.minimum(power, MOST_POWER, out=power)
        value = np.exp(power)
        return value, (cache, value, log_x)

    def inner(self, cache: Any) -> Any:
        return cache[0]

    def child_cotangent(self, i: int, cache: Any, cotangent: Array) -> Array:
        return -cotangent * cache[1] * cache[2]


def embedded(small: Term, theta: Array, big: Term, k: int) -> Array:
    """Return parameters (t, p) at which a law equals its special case with parameters (t, s).

    The two trees differ only where the larger one has a power of a sum for a constant, or a node around a `plain` term.
    """
    if isinstance(big, Nested) and big.plain:
        inner = embedded(small, theta, big.plain, k)
        return np.hstack([np.tile(big.neutral(k), (len(theta), 1)), inner])
    if isinstance(small, Constant) and isinstance(big, PowerOfSum):
        return np.hstack([theta, np.full((len(theta), 1), min(1.0, big.spread)), np.zeros((len(theta), k - 1))])
    if isinstance(small, Nested) and isinstance(big, Nested):
        pairs = zip(small.children, small.slices(k), big.children, strict=True)
        return np.hstack([embedded(a, theta[:, at], b, k) for a, at, b in pairs])
    return theta
