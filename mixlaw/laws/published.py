"""Terms of published laws, and `Formula`, for laws of your own.

The source of each law is given in `mixlaw.laws.shipped`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from mixlaw.errors import ConfigError, unknown_name
from mixlaw.laws.jacobian import Array
from mixlaw.laws.terms import RATE, TINY, Box, Inputs, Slot, Term, box

COMPLEX_STEP = 1e-30
COLUMNS = ("available", "before", "sparsity")
READ_AS = {  # attribute of the inputs that a formula may read -> its name in `uses`
    "log_n": "N",
    "log_d": "D",
    "log_d_unit": "D",
    "h": "h",
    "log_h": "h",
    "share": "share",
    "own": "share",
    "of_own": "share",
}
LOG_MOST_EPOCHS = 600.0  # clips the log of epochs, so that exp does not overflow


@dataclass(frozen=True)
class Exponential(Term):
    """exp(sum_i t_i h_i): k parameters."""

    uses = frozenset("h")

    def bounds(self, k: int) -> Box:
        return box((RATE, k))

    def start(self, rng: np.random.Generator, count: int, k: int) -> Array:
        return rng.normal(-0.5, 1.0, (count, k))

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        value = np.exp((theta[..., None] * x.h).sum(-2))
        return value, (value, theta, x.h)

    def vjp(self, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        value, theta, h = cache
        scaled = (cotangent * value)[:, None, :]
        if by_theta is not None:
            np.multiply(scaled, h, out=by_theta)
        if by_h is not None:
            by_h += scaled * theta[..., None]

    def natural(self, theta: Array, domains: Sequence[str]) -> dict[str, float]:
        return {f"t_{d}": float(t) for d, t in zip(domains, theta, strict=True)}

    def convex(self, theta: Array, k: int) -> bool:
        return True


@dataclass(frozen=True)
class SumOfExponentials(Term):
    """sum_i C_i exp(t_i h_i): 2k parameters, or k with all C_i = 1 (`free` false)."""

    free: bool = True
    uses = frozenset("h")

    def bounds(self, k: int) -> Box:
        return box(((-16.0, 8.0), k), (RATE, k)) if self.free else box((RATE, k))

    def start(self, rng: np.random.Generator, count: int, k: int) -> Array:
        t = rng.normal(-2.0, 3.0, (count, k))
        return np.hstack([rng.normal(-1.5, 1.0, (count, k)), t]) if self.free else t

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        k = x.h.shape[-2]
        t = theta[:, -k:, None]
        terms = np.exp(t * x.h + (theta[:, :k, None] if self.free else 0.0))
        return terms.sum(-2), (terms, t, x.h)

    def vjp(self, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        terms, t, h = cache
        scaled = cotangent[:, None, :] * terms
        k = h.shape[-2]
        if by_theta is not None:
            by_theta[:, -k:] = scaled * h
            if self.free:
                by_theta[:, :k] = scaled
        if by_h is not None:
            by_h += scaled * t

    def natural(self, theta: Array, domains: Sequence[str]) -> dict[str, float]:
        k = len(domains)
        named = {f"C_{d}": float(np.exp(c)) for d, c in zip(domains, theta[:k], strict=True)} if self.free else {}
        return named | {f"t_{d}": float(t) for d, t in zip(domains, theta[-k:], strict=True)}

    def amplitude(self, k: int) -> Array | None:
        return np.concatenate([np.ones(k), np.zeros(k)]) if self.free else None

    def convex(self, theta: Array, k: int) -> bool:
        return True


@dataclass(frozen=True)
class Scheffe(Term):
    """sum_i b_i h_i: k parameters; of degree 2 also sum_{i<j} b_ij h_i h_j: k (k + 1) / 2 parameters."""

    degree: int = 1
    uses = frozenset("h")
    linear = True

    def bounds(self, k: int) -> Box:
        pairs = k * (k - 1) // 2 if self.degree == 2 else 0
        return box(((-50.0, 50.0), k), ((-100.0, 100.0), pairs))

    def start(self, rng: np.random.Generator, count: int, k: int) -> Array:
        return rng.normal(0.0, 1.0, (count, self.size(k))) + 3.0 * (np.arange(self.size(k)) < k)

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        features = x.h
        if self.degree == 2:
            i, j = np.triu_indices(x.h.shape[-2], 1)
            features = np.concatenate([x.h, x.h[..., i, :] * x.h[..., j, :]], -2)
        value = theta @ features if features.ndim == 2 else (theta[..., None] * features).sum(-2)
        return value, (theta, features, x.h)

    def vjp(self, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        theta, features, h = cache
        k = h.shape[-2]
        if by_theta is not None:
            np.multiply(cotangent[:, None, :], features, out=by_theta)
        if by_h is not None:
            slope = theta[:, :k, None] + np.matmul(self._pairs(theta, k), h)
            by_h += cotangent[:, None, :] * slope

    def _pairs(self, theta: Array, k: int) -> Array:
        """Return (b, k, k) the symmetric matrices of b_ij, with a zero diagonal."""
        pairs = np.zeros((len(theta), k, k))
        if self.degree == 2:
            i, j = np.triu_indices(k, 1)
            pairs[:, i, j] = pairs[:, j, i] = theta[:, k:]
        return pairs

    def natural(self, theta: Array, domains: Sequence[str]) -> dict[str, float]:
        pairs = [f"b_{a}*{b}" for i, a in enumerate(domains) for b in domains[i + 1 :]]
        names = [*(f"b_{d}" for d in domains), *(pairs if self.degree == 2 else [])]
        return {name: float(t) for name, t in zip(names, theta, strict=True)}

    def convex(self, theta: Array, k: int) -> bool:
        """Return whether the Hessian is positive semidefinite on directions that sum to zero."""
        hessian = np.zeros((k, k))
        hessian[np.triu_indices(k, 1)] = theta[k:] if self.degree == 2 else 0.0
        inside = np.eye(k) - 1 / k
        return bool(np.linalg.eigvalsh(inside @ (hessian + hessian.T) @ inside).min() > -1e-9)


@dataclass(frozen=True)
class SharePower(Term):
    """share^power, where share is the weight of the target's own domain; with `shifted`, (share + eps)^power.

    `sign` is that of the power: 1 or -1.
    """

    symbol: str
    sign: int
    shifted: bool = False
    uses = frozenset({"share"})

    def bounds(self, k: int) -> Box:
        return box(((np.log(1e-3), np.log(8.0)), 1), ((np.log(1e-4), 0.0), int(self.shifted)))

    def start(self, rng: np.random.Generator, count: int, k: int) -> Array:
        return np.hstack([rng.normal(-1.0, 0.8, (count, 1)), rng.uniform(-4, -1, (count, int(self.shifted)))])

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        base = x.share() + (np.exp(theta[:, 1:]) if self.shifted else 0.0)
        power, log_base = self.sign * np.exp(theta[:, :1]), np.log(np.maximum(base, TINY))
        value = np.exp(power * log_base)
        return value, (value, power, base, log_base, theta, x)

    def vjp(self, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        value, power, base, log_base, theta, x = cache
        by_base = cotangent * value * power / np.maximum(base, TINY)
        if by_theta is not None:
            by_theta[:, 0] = cotangent * value * power * log_base
            if self.shifted:
                by_theta[:, 1] = by_base * np.exp(theta[:, 1:])
        if by_h is not None:
            by_h[:, x.own(), np.arange(by_h.shape[2])] += by_base

    def natural(self, theta: Array, domains: Sequence[str]) -> dict[str, float]:
        named = {self.symbol: float(np.exp(theta[0]))}
        return named | ({"eps": float(np.exp(theta[1]))} if self.shifted else {})

    def convex(self, theta: Array, k: int) -> bool:
        return self.sign < 0 or theta[0] >= 0


class _Declared:
    """Inputs that allow only what `uses` declares, because a formula of h alone is evaluated once per mixture."""

    def __init__(self, x: Inputs, uses: frozenset[str]) -> None:
        self._x, self._uses = x, uses

    def __getattr__(self, name: str) -> Any:
        if name not in READ_AS:
            raise AttributeError(f"a formula reads {', '.join(READ_AS)} and column(name), not {name}")
        self._check(READ_AS[name])
        return getattr(self._x, name)

    def column(self, name: str) -> Array:
        self._check(name)
        return self._x.column(name)

    def _check(self, name: str) -> None:
        if name not in self._uses:
            raise ConfigError(f"the formula reads {name}, but its `uses` is {sorted(self._uses)}: add {name}")


class Formula(Term):
    """A law written as one numpy expression; complex-step differentiation gives exact derivatives.

    The derivative of an analytic function is the imaginary part of f(x + i 1e-30) / 1e-30, without cancellation (Squire
    and Trapp 1998, SIAM Review 40). The expression must therefore consist of + - * / ** and analytic numpy functions
    such as exp and log, and branch with `np.where` on `.real`. It is evaluated once per parameter.

    Parameters
    ----------
    expression : (p, x) -> (b, n) losses in nats; p has one attribute per parameter, (b, 1), or (b, k, 1) for those in
        `per_domain`; x has the attributes of `Inputs`; its h (..., k, n) may be complex
    uses : the inputs that it reads, of N, D, h, share, available, before, sparsity; others raise an error
    per_domain : names of parameters with one value per domain
    convex_in_h : whether the expression is known to be convex in h for all parameters within their ranges
    ranges : parameter -> (low, high); the logarithm is fitted if low is above 0

    Raises
    ------
    ConfigError
        If `uses` has an unknown name, or the expression reads an input that `uses` does not name.

    Examples
    --------
    >>> import numpy as np
    >>> def expression(p, x):
    ...     return p.E + p.B * np.exp(-p.beta * x.log_d) * (1 - p.s * x.h[..., 0, :])
    >>> term = Formula(expression, "Dh", E=(0.1, 10), B=(0.01, 10), beta=(0.01, 1), s=(0, 1))
    >>> term.size(3)
    4
    """

    def __init__(
        self,
        expression: Callable[[Any, Any], Array],
        uses: Sequence[str],
        per_domain: Sequence[str] = (),
        convex_in_h: bool = False,
        **ranges: tuple[float, float],
    ) -> None:
        for name in uses:
            if name not in (known := {*READ_AS.values(), *COLUMNS}):
                raise ConfigError(unknown_name("input of a formula", name, sorted(known)))
        self.expression, self._per_domain, self._ranges = expression, frozenset(per_domain), ranges
        self.uses, self._convex_in_h = frozenset(uses), convex_in_h

    def _counts(self, k: int) -> dict[str, int]:
        return {name: k if name in self._per_domain else 1 for name in self._ranges}

    def bounds(self, k: int) -> Box:
        free = {n: (np.log(lo), np.log(hi)) if lo > 0 else (lo, hi) for n, (lo, hi) in self._ranges.items()}
        return box(*((free[name], count) for name, count in self._counts(k).items()))

    def start(self, rng: np.random.Generator, count: int, k: int) -> Array:
        low, high = self.bounds(k)
        middle, half = (low + high) / 2, (high - low) / 2
        return np.clip(middle + rng.normal(0.0, 0.4, (count, len(low))) * half, low, high)

    def prior(self, k: int) -> Box:
        low, high = self.bounds(k)
        return (low + high) / 2, (high - low) / 3

    def _evaluated(self, theta: Array, x: Inputs) -> Array:
        return self.expression(self._named(theta, x.h.shape[-2]), _Declared(x, self.uses))

    def _named(self, theta: Array, k: int) -> Any:
        named, at = {}, 0
        for name, count in self._counts(k).items():
            part = theta[:, at : at + count]
            part = np.exp(part) if self._ranges[name][0] > 0 else part
            named[name] = part[..., None] if name in self._per_domain else part
            at += count
        return SimpleNamespace(**named)

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        return np.broadcast_to(self._evaluated(theta, x), (len(theta), x.h.shape[-1])), (theta, x)

    def vjp(self, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        theta, x = cache
        k = x.h.shape[-2]
        if by_theta is not None:
            for j in range(theta.shape[1]):
                moved = theta + 1j * COMPLEX_STEP * np.eye(theta.shape[1])[j]
                by_theta[:, j] = cotangent * self._evaluated(moved, x).imag / COMPLEX_STEP
        if by_h is not None and self.uses & {"h", "share"}:
            for i in range(k):
                moved_h = x.h + 1j * COMPLEX_STEP * np.eye(k)[:, i : i + 1]
                by_h[:, i] += cotangent * self._evaluated(theta, x.with_h(moved_h)).imag / COMPLEX_STEP

    def natural(self, theta: Array, domains: Sequence[str]) -> dict[str, float]:
        values, named = iter(theta), {}
        for name, count in self._counts(len(domains)).items():
            labels = [f"{name}_{d}" for d in domains] if name in self._per_domain else [name]
            for label, free in zip(labels, (next(values) for _ in range(count)), strict=True):
                named[label] = float(np.exp(free) if self._ranges[name][0] > 0 else free)
        return named

    def convex(self, theta: Array, k: int) -> bool:
        return self._convex_in_h or not self.uses & {"h", "share"}


def exponential_of_product(p: Any, x: Inputs) -> Array:
    """Ye M3's exp(prod_i t_i h_i)."""
    value: Array = np.exp((p.t * x.h).prod(-2))
    return value


def autoscale(p: Any, x: Inputs) -> Array:
    """AutoScale's sum_i (N0_i + h_i D)^-gamma_i, in raw tokens: terms without a prefactor depend on the unit."""
    tokens = x.h * np.exp(x.log_d + x.log_d_unit)
    value: Array = np.exp(-p.gamma * np.log(p.N0 + tokens)).sum(-2)
    return value


def worth(epochs: Array, half_life: Array) -> Array:
    """Return the effective number of epochs on fresh data of `epochs` passes: 1 + R (1 - exp(-(epochs - 1) / R))."""
    return np.where(epochs.real > 1, 1 - half_life * np.expm1((1 - epochs) / half_life), epochs)


def data_constrained(p: Any, x: Inputs) -> Array:
    """Muennighoff's A / N'^alpha + B / D'^beta; the mixture's unique tokens are sum_i min(h_i D, available_i)."""
    seen, pool = x.h * np.exp(x.log_d), x.column("available")
    unique = np.where(seen.real < pool, seen, pool).sum(-2)
    log_total, log_unique = x.log_d + np.log(x.h.sum(-2)), np.log(np.maximum(unique, TINY))
    # the optimal N for the unique tokens, in logarithms: its power 1 / alpha would overflow
    log_best = (np.log(p.alpha * p.A) - np.log(p.beta * p.B) + p.beta * log_unique) / p.alpha
    log_n_unique = np.where(log_best.real < x.log_n, log_best, x.log_n)
    value: Array = p.A * _decay(log_n_unique, x.log_n, p.R_N, p.alpha)
    return value + p.B * _decay(log_unique, log_total, p.R_D, p.beta)


def _decay(log_unique: Array, log_seen: Array, half_life: Array, rate: Array) -> Array:
    """Return the effective amount of repeated data or parameters, to the power of -rate."""
    gap = log_seen - log_unique
    epochs = np.exp(np.where(gap.real < LOG_MOST_EPOCHS, gap, LOG_MOST_EPOCHS))
    value: Array = np.exp(-rate * (log_unique + np.log(worth(epochs, half_life))))
    return value


def finite_pool(p: Any, x: Inputs) -> Array:
    """Sedova's C / N^beta + B N^delta / D_eff^alpha + gamma h: a finite target pool and unlimited generic data."""
    share, d = x.share(), np.exp(x.log_d)
    pool = np.maximum(x.of_own(x.column("available")), 1e-100)
    generic = d * (x.h.sum(-2) - share)
    effective = generic + p.tau * pool * worth(share * d / pool, p.r1)
    value: Array = p.C * np.exp(-p.beta * x.log_n) + p.gamma * share
    return value + p.B * np.exp(p.delta * x.log_n) * effective**-p.alpha
