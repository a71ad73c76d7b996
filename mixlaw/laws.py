"""The laws: loss as a function of model size N, tokens D and mixture h, with exact gradients. No optimiser in here.

Formulas follow "Scaling Laws for Optimal Data Mixtures" (Shukor et al. 2025, arXiv 2507.09404), sections 2, 6 and
appendix B:

    L = E + M(h) + A(h) / N^alpha(h) + B(h) / D^beta(h)

A law chooses for each piece whether it is absent, a constant, or one of two functions of the mixture:

    inverse sum     1 / sum_i C_i h_i^gamma_i          2k parameters: C_i, gamma_i
    power of sum    (sum_i C_i h_i)^gamma              k + 1 parameters: C_i, gamma

Inside, parameters live where they are free: positive ones as logarithms; a power of sum as (log value, gamma, log C_i
/ C_k), so that gamma = 0 is an ordinary point. Legend of shapes: b parameter vectors at once, n rows of a table, k
domains, p parameters.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixlaw.errors import ConfigError, unknown_name

Array = NDArray[np.float64]
TINY = 1e-300
# A weight of 0 counts as this much. Exact zeros otherwise let a fit put a cliff between 0 and the next weight it saw
# (h^gamma with a tiny gamma), and the optimum falls off it; and some of every domain is found in every other.
FLOOR = 1e-3


@dataclass(frozen=True)
class Inputs:
    """What laws are evaluated on, N and D in units that keep their powers near one.

    Attributes
    ----------
    log_n, log_d : (n,) or (b, n) logarithms of N / n_unit and D / d_unit
    h : (n, k) or (b, n, k) mixtures; rows sum to one
    """

    log_n: Array
    log_d: Array
    h: Array


def lifted(h: Array) -> tuple[Array, Array]:
    """Return the weights that laws see, (h^4 + FLOOR^4)^(1/4), and their slope by h.

    At 0 it is FLOOR; from 5 FLOOR on it is h to within 0.04 %.
    """
    seen = (h**4 + FLOOR**4) ** 0.25
    return seen, (h / seen) ** 3


@dataclass(frozen=True)
class Units:
    """N and D are divided by these before a law sees them."""

    n_params: float
    n_tokens: float

    def inputs(self, n_params: Array, n_tokens: Array, h: Array) -> Inputs:
        """Return a law's inputs from raw parameters (n,), tokens (n,) and mixtures (n, k), weights lifted off zero."""
        return Inputs(np.log(n_params / self.n_params), np.log(n_tokens / self.n_tokens), lifted(h)[0])

    @classmethod
    def of(cls, n_params: Array, n_tokens: Array) -> "Units":
        """Return the powers of ten next to the middle of the data."""
        return cls(*(float(10.0 ** np.round(np.mean(np.log10(x)))) for x in (n_params, n_tokens)))


# Each piece returns its value (b, n), its gradient by parameters (b, n, s), and by the mixture (b, n, k) or None.
Piece = tuple[Array, Array, Array | None]


@dataclass(frozen=True)
class Form:
    """How one piece of a law depends on the mixture.

    Attributes
    ----------
    size : k -> number of parameters
    evaluate : (theta (b, s), h) -> Piece
    bounds : k -> (low, high) of the free parameters, each (s,)
    names : (symbol, domains) -> names of the free parameters
    natural : (theta (s,), symbol, domains) -> the paper's parameters by name
    """

    size: Callable[[int], int]
    evaluate: Callable[[Array, Array], Piece]
    bounds: Callable[[int], tuple[Array, Array]]
    natural: Callable[[Array, str, Sequence[str]], dict[str, float]]


def _constant(theta: Array, h: Array) -> Piece:
    value = np.exp(theta) * np.ones(h.shape[-2])
    return value, value[..., None], None


def _inverse_sum(theta: Array, h: Array) -> Piece:
    k = h.shape[-1]
    log_c, gamma = theta[:, None, :k], np.exp(theta[:, None, k:])
    log_h = np.log(np.maximum(h, TINY))
    terms = np.exp(log_c + gamma * log_h)
    value = 1 / np.maximum(terms.sum(-1), TINY)
    by_terms = -(value**2)[..., None] * terms
    by_theta = np.concatenate([by_terms, by_terms * gamma * log_h], axis=-1)
    return value, by_theta, by_terms * gamma / np.maximum(h, 1e-12)


def _power_of_sum(theta: Array, h: Array) -> Piece:
    k = h.shape[-1]
    log_value, gamma = theta[:, None, 0], theta[:, None, 1]
    ratios = np.concatenate([np.exp(theta[:, 2:]), np.ones((len(theta), 1))], axis=1)[:, None, :]
    total = np.maximum((ratios * h).sum(-1), TINY)
    log_total = np.log(total)
    value = np.exp(log_value + gamma * log_total)
    by_h = (value * gamma / total)[..., None] * ratios
    by_ratio = by_h[..., : k - 1] * h[..., : k - 1]
    return value, np.concatenate([value[..., None], (value * log_total)[..., None], by_ratio], axis=-1), by_h


def _natural_power(theta: Array, symbol: str, domains: Sequence[str]) -> dict[str, float]:
    """The paper's C_i: the whole value goes into them, so gamma near 0 makes them extreme."""
    gamma = theta[1] if abs(theta[1]) > 1e-12 else 1e-12
    log_c = np.append(theta[2:], 0.0) + theta[0] / gamma
    with np.errstate(over="ignore"):
        named = {f"C{symbol}_{d}": float(np.exp(c)) for d, c in zip(domains, log_c, strict=True)}
    return named | {f"gamma{symbol}": float(theta[1])}


def _natural_inverse(theta: Array, symbol: str, domains: Sequence[str]) -> dict[str, float]:
    k = len(domains)
    named = {f"C{symbol}_{d}": float(np.exp(t)) for d, t in zip(domains, theta[:k], strict=True)}
    return named | {f"gamma{symbol}_{d}": float(np.exp(t)) for d, t in zip(domains, theta[k:], strict=True)}


def _box(*ranges: tuple[float, float, int]) -> tuple[Array, Array]:
    low = np.concatenate([np.full(count, lo) for lo, _, count in ranges])
    return low, np.concatenate([np.full(count, hi) for _, hi, count in ranges])


AMPLITUDE = (-16.0, 8.0)  # log of a loss, or of its inverse
EXPONENT = (np.log(0.01), 0.0)  # alpha, beta <= 1, as in the paper's public fits of N and D
SHAPE = (np.log(0.02), np.log(8.0))  # gamma_i of the inverse sum
POWER = (-6.0, 6.0)  # gamma of a power of sum
RATIO = (-12.0, 12.0)

CONSTANT = Form(
    lambda k: 1,
    _constant,
    lambda k: _box((*AMPLITUDE, 1)),
    lambda t, symbol, domains: {symbol: float(np.exp(t[0]))},
)
EXPONENT_CONSTANT = Form(CONSTANT.size, _constant, lambda k: _box((*EXPONENT, 1)), CONSTANT.natural)
INVERSE_SUM = Form(
    lambda k: 2 * k,
    _inverse_sum,
    lambda k: _box((-AMPLITUDE[1], -AMPLITUDE[0], k), (*SHAPE, k)),
    _natural_inverse,
)
POWER_OF_SUM = Form(
    lambda k: k + 1,
    _power_of_sum,
    lambda k: _box((*AMPLITUDE, 1), (*POWER, 1), (*RATIO, k - 1)),
    _natural_power,
)
EXPONENT_POWER = Form(
    POWER_OF_SUM.size,
    _power_of_sum,
    lambda k: _box((*EXPONENT, 1), (-1.0, 1.0, 1), (*RATIO, k - 1)),
    _natural_power,
)


@dataclass(frozen=True)
class Law:
    """One law: its pieces, and everything that a person asks about it.

    Attributes
    ----------
    mixture : form of M(h), or None
    a, alpha, b, beta : forms of the N term and the D term; None leaves the term out
    """

    name: str
    formula: str
    source: str
    mixture: Form | None
    a: Form | None = CONSTANT
    alpha: Form | None = EXPONENT_CONSTANT
    b: Form | None = CONSTANT
    beta: Form | None = EXPONENT_CONSTANT

    def pieces(self) -> list[tuple[str, Form]]:
        """Return the pieces in the order of their parameters."""
        named = [
            ("E", CONSTANT),
            ("", self.mixture),
            ("A", self.a),
            ("alpha", self.alpha),
            ("B", self.b),
            ("beta", self.beta),
        ]
        return [(name, form) for name, form in named if form is not None]

    def n_free(self, k: int) -> int:
        """Return the number of parameters for k domains."""
        return sum(form.size(k) for _, form in self.pieces())

    def bounds(self, k: int) -> tuple[Array, Array]:
        """Return the box (low, high), each (p,), that the free parameters stay in."""
        boxes = [form.bounds(k) for _, form in self.pieces()]
        return np.concatenate([b[0] for b in boxes]), np.concatenate([b[1] for b in boxes])

    def slices(self, k: int) -> dict[str, slice]:
        """Return where each piece's parameters are in the vector."""
        ends = np.cumsum([0] + [form.size(k) for _, form in self.pieces()])
        return {name: slice(int(a), int(b)) for (name, _), a, b in zip(self.pieces(), ends[:-1], ends[1:], strict=True)}

    def natural(self, theta: Array, domains: Sequence[str]) -> dict[str, float]:
        """Return the paper's parameters by name, N and D in the fit's units."""
        places = self.slices(len(domains))
        named: dict[str, float] = {}
        for name, form in self.pieces():
            named |= form.natural(theta[places[name]], name, domains)
        return named

    def loss(self, theta: Array, x: Inputs) -> Array:
        """Return (b, n) losses for parameters (b, p)."""
        return self._evaluate(theta, x)[0]

    def loss_and_jacobian(self, theta: Array, x: Inputs) -> tuple[Array, Array]:
        """Return losses (b, n) and their derivatives by the parameters (b, n, p)."""
        value, by_theta, _ = self._evaluate(theta, x)
        return value, by_theta

    def loss_and_gradient_h(self, theta: Array, x: Inputs) -> tuple[Array, Array]:
        """Return losses (b, n) and their derivatives by each weight (b, n, k), as if weights were free."""
        value, _, by_h = self._evaluate(theta, x)
        return value, by_h

    def _evaluate(self, theta: Array, x: Inputs) -> tuple[Array, Array, Array]:
        k = x.h.shape[-1]
        at = self.slices(k)
        n_rows = x.h.shape[-2]
        by_theta = np.zeros((len(theta), n_rows, theta.shape[1]))
        by_h = np.zeros((len(theta), n_rows, k))
        value = np.zeros((len(theta), n_rows))

        def add(name: str, form: Form, factor: Array | float = 1.0) -> Array:
            """Add factor x piece to the loss; return factor x piece."""
            nonlocal value, by_h
            piece, d_theta, d_h = form.evaluate(theta[:, at[name]], x.h)
            value = value + factor * piece
            by_theta[..., at[name]] += np.asarray(factor)[..., None] * d_theta
            if d_h is not None:
                by_h = by_h + np.asarray(factor)[..., None] * d_h
            return np.asarray(factor * piece)

        def add_decay(amplitude: str, a: Form, exponent: str, alpha: Form, log_x: Array) -> None:
            """Add amplitude(h) x^-exponent(h)."""
            nonlocal by_h
            rate, d_theta, d_h = alpha.evaluate(theta[:, at[exponent]], x.h)
            term = add(amplitude, a, np.exp(-rate * log_x))
            by_rate = (-log_x * term)[..., None]
            by_theta[..., at[exponent]] += by_rate * d_theta
            if d_h is not None:
                by_h = by_h + by_rate * d_h

        add("E", CONSTANT)
        if self.mixture:
            add("", self.mixture)
        if self.a and self.alpha:
            add_decay("A", self.a, "alpha", self.alpha, x.log_n)
        if self.b and self.beta:
            add_decay("B", self.b, "beta", self.beta, x.log_d)
        return value, by_theta, by_h

    def random(self, rng: np.random.Generator, count: int, k: int, low_loss: float, spread: float) -> Array:
        """Return (count, p) starting points: a loss of about the data's, made of parts of about its spread."""
        theta = np.empty((count, self.n_free(k)))
        at = self.slices(k)
        log_spread = np.log(max(spread, 1e-6))
        theta[:, at["E"]] = np.log(low_loss * rng.uniform(0.2, 1.0, (count, 1)))
        for name, form in self.pieces():
            part = theta[:, at[name]]
            if form is INVERSE_SUM:
                part[:, :k] = -log_spread + rng.normal(0.5, 1.0, (count, k))
                part[:, k:] = np.log(rng.uniform(0.1, 1.5, (count, k)))
            elif name in ("A", "B", "") and form is not INVERSE_SUM:
                part[:, 0] = log_spread + rng.normal(-0.5, 1.0, count)
            elif name in ("alpha", "beta"):
                part[:, 0] = np.log(rng.uniform(0.1, 0.9, count))
            if form in (POWER_OF_SUM, EXPONENT_POWER):
                part[:, 1] = rng.normal(0.0, 0.3 if form is EXPONENT_POWER else 1.0, count)
                part[:, 2:] = rng.normal(0.0, 1.0, (count, k - 1))
        return np.clip(theta, *self.bounds(k))


_PAPER = "Shukor et al. 2025, arXiv 2507.09404"
_CHINCHILLA = "Hoffmann et al. 2022, arXiv 2203.15556"
_FIXED: dict[str, Any] = {"a": None, "alpha": None}
_FACTORS: dict[str, Any] = {"a": POWER_OF_SUM, "b": POWER_OF_SUM}

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        Law("base", "E + A/N^alpha + B/D^beta", _CHINCHILLA, None),
        Law("additive", "E + 1/sum C_i h_i^gamma_i + A/N^alpha + B/D^beta", f"{_PAPER}, eq. 2.4", INVERSE_SUM),
        Law(
            "joint", "E + 1/sum C_i h_i^gamma_i + A(h)/N^alpha + B(h)/D^beta", f"{_PAPER}, eq. 2.5",
            INVERSE_SUM, **_FACTORS,
        ),
        Law("simple", "E + (sum C_i h_i)^gamma + A/N^alpha + B/D^beta", f"{_PAPER}, eq. 6.1", POWER_OF_SUM),
        Law(
            "full", "E + 1/sum C_i h_i^gamma_i + A(h)/N^alpha(h) + B(h)/D^beta(h)", f"{_PAPER}, eq. 6.2-6.3",
            INVERSE_SUM, POWER_OF_SUM, EXPONENT_POWER, POWER_OF_SUM, EXPONENT_POWER,
        ),
        Law(
            "additive-fixed-nd", "E + 1/sum C_i h_i^gamma_i", f"{_PAPER}, eq. B.1",
            INVERSE_SUM, b=None, beta=None, **_FIXED,
        ),
        Law("additive-fixed-n", "E + 1/sum C_i h_i^gamma_i + B/D^beta", f"{_PAPER}, eq. B.2", INVERSE_SUM, **_FIXED),
    )
}  # fmt: skip


def get_law(name: str) -> Law:
    """Return a law by name.

    Raises
    ------
    ConfigError
        Naming the near match and all laws.
    """
    if name not in LAWS:
        raise ConfigError(unknown_name("law", name, LAWS))
    return LAWS[name]
