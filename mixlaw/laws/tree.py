"""The inner nodes of a law: sums, products and decays of terms, which hand values up and derivatives down.

A pass goes down the tree for the values and back for the derivatives: a node is handed the derivative of the loss by
its own value (its `seed`), and hands each child its own. Children that depend on the mixture alone are worked out once
per distinct mixture, see `mixlaw.laws.jacobian`; on a grid, those of N and D alone once per pair of them, and all other
nodes have values (b, m or 1, s or 1), see `mixlaw.laws.grid`.
"""

from collections.abc import Sequence
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from mixlaw.laws.grid import MIXTURE, SCALE, Block, GridSlopes
from mixlaw.laws.jacobian import Array, Slopes
from mixlaw.laws.terms import Box, Constant, Inputs, PowerOfSum, Slot, Term

MOST_POWER = 100.0  # a decay is at most e^100; losses are far below


class Nested(Term):
    """A node with children, whose parameters follow each other in their order.

    `broadcasts` says that value and seed only combine the children's values with each other and with `log_of`, so that
    they hold for values of any shape that numpy broadcasts.
    """

    children: tuple[Term, ...]
    broadcasts: bool = False

    @cached_property
    def separable(self) -> bool:
        """Whether the law can be worked out on a grid: every leaf reads the mixture alone, or N and D alone."""
        return _pure(self) or (self.broadcasts and self.uses <= {"h", "N", "D"} and all(map(_separable, self.children)))

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
            value, memo = value_of(child, theta[:, at], x)
            values.append(value)
            memos.append(memo)
        return values, (memos, places, x)

    def pull_child(self, i: int, memo: Any, seed: Array, by_theta: Slot, by_h: Slot) -> None:
        """Hand a seed (b, n) to one child."""
        memos, places, _ = memo
        slot = None if by_theta is None else by_theta[:, places[i]]
        self.children[i].pull(memos[i], seed, slot, by_h)

    def slope(self, memo: Any, seed: Array, slopes: Slopes | GridSlopes, offset: int) -> None:
        """Write seed (b, n) times the derivatives by the parameters, which begin at `offset`."""
        memos, places, x = self.inner(memo)
        for i, (child, at) in enumerate(zip(self.children, places, strict=True)):
            sown, moved = self.seed(i, memo, seed), slice(offset + at.start, offset + at.stop)
            if isinstance(slopes, GridSlopes):
                slope_on_grid(child, memos[i], sown, x, slopes, moved)
            elif child.uses == {"h"}:
                slopes.add_factored(moved, _inner(child, memos[i], len(sown), moved, seen_by(child, x)), sown)
            elif isinstance(child, Nested):
                child.slope(memos[i], sown, slopes, moved.start)
            else:
                rows = np.empty((len(seed), at.stop - at.start, x.h.shape[-1]))
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


def seen_by(term: Term, x: Inputs) -> Inputs:
    """Return what a term is worked out on: the distinct mixtures or scales, where they are known and all it reads."""
    if x.distinct is not None and term.uses == {"h"}:
        return x.distinct
    return x.scales if x.scales is not None and term.uses <= {"N", "D"} else x


def spread(term: Term, value: Array, x: Inputs) -> Array:
    """Return the value of a term that was worked out on the distinct mixtures or scales, in the shape for all rows."""
    if x.grid is not None:
        return value[:, :, None] if term.uses == {"h"} else value[:, None, :]
    return value if x.groups is None else x.groups.spread(value)


def value_of(term: Term, theta: Array, x: Inputs) -> tuple[Array, Any]:
    """Return values for parameters (b, q), (b, n or 1) or on a grid (b, m or 1, s or 1), and what `pull` needs."""
    seen = seen_by(term, x)
    value, memo = term.value(theta, seen)
    return (value if seen is x else spread(term, value, x)), memo


def slope_on_grid(term: Term, memo: Any, seed: Array, x: Inputs, slopes: GridSlopes, at: slice) -> None:
    """Write seed (b, m or 1, s or 1) times the derivatives of a term by its parameters, which are at `at`."""
    seen = seen_by(term, x)
    if seen is not x:
        axis = MIXTURE if seen is x.distinct else SCALE
        slopes.add(Block(at, axis, _inner(term, memo, len(seed), at, seen), seed))
    elif isinstance(term, Nested):
        term.slope(memo, seed, slopes, at.start)


def _inner(term: Term, memo: Any, count: int, at: slice, seen: Inputs) -> Array:
    """Return (b, q, a) the derivatives of a term by its own parameters on the inputs that it was worked out on."""
    inner = np.empty((count, at.stop - at.start, seen.h.shape[-1]))
    term.pull(memo, np.ones((count, inner.shape[2])), inner, None)
    return inner


def _pure(term: Term) -> bool:
    return term.uses == {"h"} or term.uses <= {"N", "D"}


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

    broadcasts = True

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

    broadcasts = True

    def __init__(self, of: str, rate: Term) -> None:
        self.of, self.children = of, (rate,)

    @cached_property
    def uses(self) -> frozenset[str]:  # type: ignore[override]
        return self.children[0].uses | {"sparsity" if self.of == "active" else self.of}

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        (rate,), memo = self.values(theta, x)
        log_x = (x.scales or x).log_of(self.of)
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
