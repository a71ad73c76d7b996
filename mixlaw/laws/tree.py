"""The inner nodes of a law: sums, products and decays of terms, which hand values up and derivatives down.

A pass goes down the tree for the values and back for the derivatives: a node is handed the derivative of the loss by
its own value (its `seed`), and hands each child its own. Children that depend on the mixture alone are worked out once
per distinct mixture, see `mixlaw.laws.jacobian`.
"""

from collections.abc import Sequence
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from mixlaw.laws.jacobian import Array, Slopes
from mixlaw.laws.terms import Box, Constant, Inputs, PowerOfSum, Slot, Term

MOST_POWER = 100.0  # a decay is at most e^100; losses are far below


class Nested(Term):
    """A node with children, whose parameters follow each other in their order."""

    children: tuple[Term, ...]

    @cached_property
    def uses(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset().union(*(c.uses for c in self.children))

    def slices(self, k: int) -> list[slice]:
        """Return where each child's parameters are."""
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
        """Return each child's value, and what `pull_child` needs to know again."""
        places = self.slices(x.h.shape[-2])
        values, memos = [], []
        for child, at in zip(self.children, places, strict=True):
            seen = _seen(child, x)
            value, memo = child.value(theta[:, at], seen)
            values.append(value if x.groups is None or seen is x else x.groups.spread(value))
            memos.append(memo)
        return values, (memos, places, x)

    def pull_child(self, i: int, memo: Any, seed: Array, by_theta: Slot, by_h: Slot) -> None:
        """Hand a seed (b, n) to one child."""
        memos, places, _ = memo
        slot = None if by_theta is None else by_theta[:, places[i]]
        self.children[i].pull(memos[i], seed, slot, by_h)

    def slope(self, memo: Any, seed: Array, slopes: Slopes, offset: int) -> None:
        """Write seed (b, n) times the derivatives by the parameters, which begin at `offset`."""
        memos, places, x = self.inner(memo)
        for i, (child, at) in enumerate(zip(self.children, places, strict=True)):
            sown = self.seed(i, memo, seed)
            moved, size = slice(offset + at.start, offset + at.stop), at.stop - at.start
            if child.uses == {"h"}:
                inner = np.empty((len(seed), size, _seen(child, x).h.shape[-1]))
                child.pull(memos[i], np.ones((len(seed), inner.shape[2])), inner, None)
                slopes.add_factored(moved, inner, sown)
            elif isinstance(child, Nested):
                child.slope(memos[i], sown, slopes, moved.start)
            else:
                rows = np.empty((len(seed), size, x.h.shape[-1]))
                child.pull(memos[i], sown, rows, None)
                slopes.add(moved, rows)

    def inner(self, memo: Any) -> Any:
        """Return what `values` wanted to know again, out of what `value` did."""
        raise NotImplementedError

    def seed(self, i: int, memo: Any, seed: Array) -> Array:
        """Return the derivative of the loss by child i's value, from that by the node's own."""
        raise NotImplementedError

    def pull(self, memo: Any, seed: Array, by_theta: Slot, by_h: Slot) -> None:
        for i in range(len(self.children)):
            self.pull_child(i, self.inner(memo), self.seed(i, memo, seed), by_theta, by_h)


@cache
def _slices(node: Nested, k: int) -> list[slice]:
    ends = np.cumsum([0] + [c.size(k) for c in node.children])
    return [slice(int(a), int(b)) for a, b in pairwise(ends)]


def _seen(term: Term, x: Inputs) -> Inputs:
    """Return what a term is worked out on: the distinct mixtures, where they are known and all that it reads."""
    return x.distinct if x.distinct is not None and term.uses == {"h"} else x


class Sum(Nested):
    """The sum of its children."""

    @cached_property
    def linear(self) -> bool:  # type: ignore[override]
        return all(c.linear for c in self.children)

    def __init__(self, *children: Term) -> None:
        self.children = children

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        values, memo = self.values(theta, x)
        total = values[0]
        for value in values[1:]:
            total = total + value
        return total, memo

    def inner(self, memo: Any) -> Any:
        return memo

    def seed(self, i: int, memo: Any, seed: Array) -> Array:
        return seed

    def convex(self, theta: Array, k: int) -> bool:
        return all(c.convex(theta[at], k) for c, at in zip(self.children, self.slices(k), strict=True))


class Product(Nested):
    """The product of its children, which are positive."""

    def __init__(self, *children: Term) -> None:
        self.children = children

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        values, memo = self.values(theta, x)
        total = values[0]
        for value in values[1:]:
            total = total * value
        return total, (memo, values)

    def inner(self, memo: Any) -> Any:
        return memo[0]

    def seed(self, i: int, memo: Any, seed: Array) -> Array:
        for j, value in enumerate(memo[1]):
            if j != i:
                seed = seed * value
        return seed

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

    def __init__(self, of: str, rate: Term) -> None:
        self.of, self.children = of, (rate,)

    @cached_property
    def uses(self) -> frozenset[str]:  # type: ignore[override]
        return self.children[0].uses | {"sparsity" if self.of == "active" else self.of}

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        (rate,), memo = self.values(theta, x)
        log_x = x.log_of(self.of)
        power = -rate * log_x
        if rate.shape[1] > 1:  # a rate that depends on the mixture can be large enough to leave all numbers
            np.minimum(power, MOST_POWER, out=power)
        value = np.exp(power)
        return value, (memo, value, log_x)

    def inner(self, memo: Any) -> Any:
        return memo[0]

    def seed(self, i: int, memo: Any, seed: Array) -> Array:
        return -seed * memo[1] * memo[2]


def embedded(small: Term, theta: Array, big: Term, k: int) -> Array:
    """Return parameters (t, p) at which a larger law is the smaller one, whose parameters (t, s) these are.

    The two trees differ only where the larger one has a power of a sum for a constant.
    """
    if isinstance(small, Constant) and isinstance(big, PowerOfSum):
        return np.hstack([theta, np.full((len(theta), 1), min(1.0, big.spread)), np.zeros((len(theta), k - 1))])
    if isinstance(small, Nested) and isinstance(big, Nested):
        pairs = zip(small.children, small.slices(k), big.children, strict=True)
        return np.hstack([embedded(a, theta[:, at], b, k) for a, at, b in pairs])
    return theta
