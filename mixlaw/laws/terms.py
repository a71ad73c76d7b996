"""The leaves of laws: each has a value, exact derivatives and names for its parameters.

A law is a small tree: leaves are functions of N, D and the mixture h, inner nodes (`tree`) are sums, products
and decays. Parameters are unconstrained inside: positive ones are logarithms; a power of a sum has (log value, gamma,
log C_i / C_k), which is regular at gamma = 0.

Legend of shapes: b parameter vectors at once, n rows of a table, k domains, s parameters of a term.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixlaw.laws.grid import Grid
from mixlaw.laws.jacobian import Array, Groups

Slot = Array | None  # array for derivatives; None if they are not needed
TINY = 1e-300
PHASES, UNTIL = "phases", "until"  # columns: lifted mixtures (P, k, n), and where they end, as shares of D (P, n)
MOST_CELLS = 8  # cells of a grid per row: more, and empty ones would take most of the time

AMPLITUDE = (-16.0, 8.0)  # log of a loss, or of its inverse
EXPONENT = (float(np.log(0.01)), 0.0)  # alpha, beta <= 1, as in the paper's public fits of N and D
SHAPE = (float(np.log(0.02)), float(np.log(8.0)))  # gamma_i of the inverse sum
POWER = (-6.0, 6.0)  # gamma of a power of sum
RATIO = (-12.0, 12.0)
RATE = (-30.0, 30.0)  # slope of an exponential in h, in nats per unit of weight


@dataclass(frozen=True)
class Inputs:
    """What laws are evaluated on; N and D in units that keep their powers near one.

    Attributes
    ----------
    log_n, log_d : (n,) logarithms of N / n_unit and D / d_unit
    h, log_h : (k, n), or (b, k, n) where every parameter vector has mixtures of its own; rows sum to about one
    target : (n,) which domain's loss a row is, for laws that know
    columns : further numbers per row, (..., n), that some laws need
    log_d_unit : logarithm of d_unit, for laws that are not invariant under a change of unit
    distinct, groups : the m distinct mixtures and where they are, where `grouped` has sorted the rows by mixture
    scales, grid : the s distinct pairs of N and D, and each row's cell of the m x s grid, where it has few empty cells
    """

    log_n: Array
    log_d: Array
    h: Array
    log_h: Array
    target: NDArray[np.int64] | None = None
    columns: dict[str, Array] | None = None
    log_d_unit: float = 0.0
    distinct: "Inputs | None" = None
    groups: Groups | None = None
    scales: "Inputs | None" = None
    grid: Grid | None = None

    @classmethod
    def of(cls, log_n: Array, log_d: Array, h: Array, **more: Any) -> "Inputs":
        """Return inputs from mixtures (..., k, n), their logarithms added."""
        return cls(log_n, log_d, h, np.log(np.maximum(h, TINY)), **more)

    def rows(self, at: slice | NDArray[np.int64]) -> "Inputs":
        """Return some rows in the given order; they stay grouped if the rows of each mixture stay consecutive."""
        few = replace(
            self,
            log_n=self.log_n[at],
            log_d=self.log_d[at],
            h=self.h[..., at],
            log_h=self.log_h[..., at],
            target=None if self.target is None else self.target[at],
            distinct=None,
            groups=None,
            scales=None,
            grid=None,
            columns={name: c[..., at] for name, c in (self.columns or {}).items()},
        )
        if self.groups is None or self.distinct is None:
            return few
        places = self.groups.place[at]
        if (np.diff(places) < 0).any():
            return few
        used, starts, place = np.unique(places, return_index=True, return_inverse=True)
        return replace(few, distinct=self.distinct.rows(used), groups=Groups(place, starts))._on_grid()

    def order(self) -> NDArray[np.int64]:
        """Return (n,) the order of rows by mixture, as `grouped` needs it."""
        return np.lexsort(self._mixture_keys())

    def grouped(self) -> "Inputs":
        """Return the same rows, which must be in `order`, grouped: terms of h are evaluated once per mixture."""
        new = np.append(True, (np.diff(self._mixture_keys(), axis=1) != 0).any(0))
        starts = np.flatnonzero(new)
        if len(starts) > len(new) // 2:
            return self
        return replace(self, distinct=self.rows(starts), groups=Groups(np.cumsum(new) - 1, starts))._on_grid()

    def _mixture_keys(self) -> Array:
        """Return (q, n) what makes two rows the same mixture: the weights, and those of all phases with their ends."""
        if PHASES not in (self.columns or {}):
            return self.h
        return np.vstack([self.column(PHASES).reshape(-1, self.h.shape[1]), self.column(UNTIL), self.h])

    def _on_grid(self) -> "Inputs":
        """Return the same grouped rows on a grid of mixtures and scales, unless most cells would be empty.

        A row that repeats both mixture and pair has a pair of its own, so that no cell holds two rows.
        """
        assert self.groups is not None
        n, starts, place = len(self.log_n), self.groups.starts, self.groups.place
        pair = np.unique(np.stack([self.log_n, self.log_d]), axis=1, return_inverse=True)[1].reshape(-1)
        order = np.lexsort((pair, place))
        again = np.append(False, (np.diff(place[order]) == 0) & (np.diff(pair[order]) == 0))
        ordinal = np.empty(n, int)
        ordinal[order] = np.arange(n) - np.maximum.accumulate(np.where(again, 0, np.arange(n)))
        _, first, scale = np.unique(np.stack([pair, ordinal]), axis=1, return_index=True, return_inverse=True)
        shape = (len(starts), len(first))
        if shape[0] * shape[1] > MOST_CELLS * n or shape[1] > n // 2:
            return self
        return replace(
            self, scales=self.without_groups().rows(first), grid=Grid(shape, place * shape[1] + scale.reshape(-1))
        )

    def without_groups(self) -> "Inputs":
        """Return the same rows without groups, so that terms are evaluated row by row."""
        return replace(self, distinct=None, groups=None, scales=None, grid=None)

    def without_grid(self) -> "Inputs":
        """Return the same rows, grouped by mixture at most."""
        return self if self.grid is None else replace(self, scales=None, grid=None)

    def with_h(self, h: Array) -> "Inputs":
        """Return the same rows with other mixtures."""
        return replace(self.without_groups(), h=h, log_h=np.log(np.maximum(h, TINY)))

    def log_of(self, name: str) -> Array:
        """Return log N, log D, or the logarithm of 1 - sparsity, the share of the parameters that are active."""
        known = {"N": self.log_n, "D": self.log_d}
        return known[name] if name in known else np.log(1 - self.column("sparsity"))

    def column(self, name: str) -> Array:
        """Return a further column."""
        return (self.columns or {})[name]

    def own(self) -> NDArray[np.int64]:
        """Return (n,) the index of each row's target among the domains."""
        return np.zeros(len(self.log_n), int) if self.target is None else self.target

    def of_own(self, values: Array) -> Array:
        """Return (..., n) each row's value of its own target from the values of all domains (..., k, n)."""
        own: Array = values[..., self.own(), np.arange(values.shape[-1])]
        return own

    def share(self) -> Array:
        """Return (..., n) each row's weight of its own target."""
        return self.of_own(self.h)


Box = tuple[Array, Array]


def box(*ranges: tuple[tuple[float, float], int]) -> Box:
    """Return low and high, each (s,), from ((low, high), how many) pairs."""
    return tuple(np.concatenate([np.full(n, limits[i]) for limits, n in ranges]) for i in (0, 1))  # type: ignore[return-value]


class Term:
    """A node of a law.

    `uses` names what it reads: N, D, h, or a column; `share` means the weight of the target itself.
    """

    uses: frozenset[str] = frozenset()
    linear: bool = False  # in its parameters, so that the objective has one minimum

    def size(self, k: int) -> int:
        """Return the number of parameters for k domains."""
        return len(self.bounds(k)[0])

    def bounds(self, k: int) -> Box:
        """Return low and high of the free parameters, each (s,)."""
        raise NotImplementedError

    def start(self, rng: np.random.Generator, count: int, k: int) -> Array:
        """Return (count, s) plausible parameters."""
        raise NotImplementedError

    def prior(self, k: int) -> Box:
        """Return mean and sd (s,) of the Gaussian prior; an infinite sd is a flat prior.

        The fit counts it as one run by default (`prior_strength`); intervals are as wide as the prior where the data do
        not identify a parameter.
        """
        return np.zeros(self.size(k)), np.full(self.size(k), np.inf)

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        """Return (b, n) or (b, 1) values for parameters (b, s), and the cache for `vjp`."""
        raise NotImplementedError

    def vjp(self, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        """Write cotangent (b, n) times the derivatives by the parameters to (b, s, n); add those by h to (b, k, n)."""
        raise NotImplementedError

    def natural(self, theta: Array, domains: Sequence[str]) -> dict[str, float]:
        """Return the parameters (s,) in the source's notation, by name."""
        raise NotImplementedError

    def amplitude(self, k: int) -> Array | None:
        """Return the direction (s,) along which the value is multiplied by e per unit; None if there is none."""
        return None

    def signed(self, k: int) -> list[int]:
        """Return the indices of parameters whose sign selects the basin of attraction of the objective."""
        return []

    def rates(self, k: int) -> list[int]:
        """Return the indices of exponents of N or D, which determine extrapolation."""
        return []

    def convex(self, theta: Array, k: int) -> bool:
        """Return whether the value is convex in h at these parameters (s,)."""
        return "h" not in self.uses


@dataclass(frozen=True)
class Constant(Term):
    """A positive number."""

    symbol: str
    limits: tuple[float, float] = AMPLITUDE
    near: tuple[float, float] = (-1.0, 1.0)  # mean and sd of the logarithm, for starts
    has_prior: bool = False  # whether `near` is also the prior

    def bounds(self, k: int) -> Box:
        return box((self.limits, 1))

    def start(self, rng: np.random.Generator, count: int, k: int) -> Array:
        return rng.normal(*self.near, (count, 1))

    def prior(self, k: int) -> Box:
        return np.full(1, self.near[0]), np.full(1, self.near[1] if self.has_prior else np.inf)

    def rates(self, k: int) -> list[int]:
        return [0] if self.has_prior else []

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        value = np.exp(theta)
        return value, value

    def vjp(self, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        if by_theta is not None:
            np.multiply(cotangent, cache, out=by_theta[:, 0])

    def natural(self, theta: Array, domains: Sequence[str]) -> dict[str, float]:
        return {self.symbol: float(np.exp(theta[0]))}

    def amplitude(self, k: int) -> Array | None:
        return np.ones(1)


def exponent(symbol: str) -> Constant:
    """Return the exponent of a decay, between 0.01 and 1."""
    return Constant(symbol, EXPONENT, (-1.0, 0.6), has_prior=True)


@dataclass(frozen=True)
class Number(Term):
    """A number of either sign."""

    symbol: str
    limits: tuple[float, float]

    def bounds(self, k: int) -> Box:
        return box((self.limits, 1))

    def start(self, rng: np.random.Generator, count: int, k: int) -> Array:
        return rng.uniform(*self.limits, (count, 1))

    def prior(self, k: int) -> Box:
        low, high = self.limits
        return np.full(1, (low + high) / 2), np.full(1, (high - low) / 2)

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        return theta, None

    def vjp(self, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        if by_theta is not None:
            by_theta[:, 0] = cotangent

    def natural(self, theta: Array, domains: Sequence[str]) -> dict[str, float]:
        return {self.symbol: float(theta[0])}


@dataclass(frozen=True)
class InverseSum(Term):
    """1 / sum_i C_i h_i^gamma_i: 2k parameters."""

    uses = frozenset("h")

    def bounds(self, k: int) -> Box:
        return box(((-AMPLITUDE[1], -AMPLITUDE[0]), k), (SHAPE, k))

    def start(self, rng: np.random.Generator, count: int, k: int) -> Array:
        log_c = rng.normal(0.5, 1.0, (count, k))
        return np.hstack([log_c, np.log(rng.uniform(0.1, 1.5, (count, k)))])

    def prior(self, k: int) -> Box:
        return np.repeat([0.0, -0.7], k), np.repeat([np.inf, 1.5], k)

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        k = x.h.shape[-2]
        gamma = np.exp(theta[:, k:, None])
        terms = gamma * x.log_h
        terms += theta[:, :k, None]
        np.exp(terms, out=terms)
        value = 1 / np.maximum(terms.sum(-2), TINY)
        return value, (value, terms, gamma, x.log_h, x.h)

    def vjp(self, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        value, terms, gamma, log_h, h = cache
        k = terms.shape[1]
        by_terms = (-cotangent * value * value)[:, None, :] * terms
        scaled = by_terms * gamma
        if by_theta is not None:
            by_theta[:, :k] = by_terms
            by_gamma = scaled * log_h
            by_theta[:, k:] = by_gamma if by_theta.shape[1] == 2 * k else by_gamma.sum(1, keepdims=True)
        if by_h is not None:
            by_h += scaled / np.maximum(h, 1e-12)

    def natural(self, theta: Array, domains: Sequence[str]) -> dict[str, float]:
        k = len(domains)
        named = {f"C_{d}": float(np.exp(t)) for d, t in zip(domains, theta[:k], strict=True)}
        return named | {f"gamma_{d}": float(np.exp(t)) for d, t in zip(domains, theta[k:], strict=True)}

    def amplitude(self, k: int) -> Array | None:
        return np.append(-np.ones(k), np.zeros(self.size(k) - k))

    def convex(self, theta: Array, k: int) -> bool:
        return bool((theta[k:] <= 0).all())  # the sum is concave and positive, so its inverse is convex


@dataclass(frozen=True)
class PowerOfSum(Term):
    """(sum_i C_i h_i)^gamma: k + 1 parameters."""

    symbol: str = ""
    limits: tuple[float, float] = AMPLITUDE
    power: tuple[float, float] = POWER
    spread: float = 1.0
    uses = frozenset("h")

    def bounds(self, k: int) -> Box:
        return box((self.limits, 1), (self.power, 1), (RATIO, max(k - 1, 0)))

    def start(self, rng: np.random.Generator, count: int, k: int) -> Array:
        log_value, gamma = rng.normal(-1.0, 0.8, (count, 1)), rng.normal(0.0, self.spread, (count, 1))
        return np.hstack([log_value, gamma, rng.normal(0.0, 1.0, (count, k - 1))])

    def prior(self, k: int) -> Box:
        return np.zeros(self.size(k)), np.concatenate([[np.inf, 2.0 * self.spread], np.full(max(k - 1, 0), 2.0)])

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        ratios = np.concatenate([np.exp(theta[:, 2:]), np.ones((len(theta), 1))], axis=1)
        total = np.maximum(ratios @ x.h if x.h.ndim == 2 else (ratios[..., None] * x.h).sum(-2), TINY)
        log_total = np.log(total)
        value = np.exp(theta[:, :1] + theta[:, 1:2] * log_total)
        return value, (value, total, log_total, ratios, theta[:, 1:2], x.h)

    def vjp(self, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        value, total, log_total, ratios, gamma, h = cache
        scaled = cotangent * value
        by_total = scaled * gamma / total
        if by_theta is not None:
            by_theta[:, 0] = scaled
            np.multiply(scaled, log_total, out=by_theta[:, 1])
            np.multiply(by_total[:, None, :] * ratios[:, :-1, None], h[..., :-1, :], out=by_theta[:, 2:])
        if by_h is not None:
            by_h += by_total[:, None, :] * ratios[:, :, None]

    def natural(self, theta: Array, domains: Sequence[str]) -> dict[str, float]:
        """The source's C_i: the whole value goes into them, so gamma near 0 makes them extreme, up to e^700."""
        gamma = theta[1] if abs(theta[1]) > 1e-12 else 1e-12
        log_c = np.clip(np.append(theta[2:], 0.0) + theta[0] / gamma, -700.0, 700.0)
        named = {f"C{self.symbol}_{d}": float(np.exp(c)) for d, c in zip(domains, log_c, strict=True)}
        return named | {f"gamma{self.symbol}": float(theta[1])}

    def amplitude(self, k: int) -> Array | None:
        return np.eye(k + 1)[0]

    def signed(self, k: int) -> list[int]:
        return [1]

    def convex(self, theta: Array, k: int) -> bool:
        return not 0 < theta[1] < 1
