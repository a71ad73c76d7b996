"""Runs that repeat domains: what a token is worth when it is read again.

A run of D tokens with the mixture h reads the U_i tokens of domain i n_i = h_i D / U_i times. It learns as much as from

    v_i h_i D fresh tokens,    v_i = 1 / (1 + z_i^p),    z_i = max(n_i - 1, 0) / R h_i^sigma (N / D)^delta

so the law of fresh tokens is evaluated at these effective tokens: their sum is its D, their shares its mixture. N / D
is in the fit's units.

* **No effect up to one epoch**: v = 1.
* **Saturation, then harm.** At p = 1 a domain is worth at most a fixed number of epochs, the form of Muennighoff et al.
  2023 (arXiv 2305.16264) with a fraction for their exponential. Above p = 1 its worth reaches a maximum and falls
  again: the model memorises the domain, and the loss on unseen text rises, which a worth that saturates cannot say.
* **Larger models memorise sooner**: the number of epochs shrinks with the parameters per token, N / D.
* **Other domains regularise.** A model memorises a domain sooner the larger its share is: 16 epochs cost a model of
  234k parameters 0.95 nats if it reads nothing else, and 0.08 nats at a share of a quarter. A scarce domain in a
  mixture can therefore be repeated more often (Sedova et al. 2026, arXiv 2605.12715: 15 to 20 times). Besides, where
  one domain of several is worth nothing, the loss is that of the others alone, so its harm is bounded.

Runs of one D still differ in their effective tokens: there the term of D is B (sum_i v_i h_i)^-beta (`FreshDecay`).

R, p, sigma and delta belong to a target, so a domain that is read again may lose its worth for its own loss and keep it
for others. They are the same for all domains: an R for each was no better on held-out mixtures and pools. With N / U_i
in place of h_i^sigma (N / D)^delta, which a pool of its own would suggest, the law was no better than one of fresh
tokens: smaller shares mean smaller pools, and these are memorised later, not sooner.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mixlaw.laws.jacobian import Array
from mixlaw.laws.multiplicative import WarmDecay
from mixlaw.laws.terms import TINY, Box, Constant, Inputs, Number, Slot, Term, exponent
from mixlaw.laws.tree import Nested

EPOCHS, EPOCHS_PRIOR = (-2.0, 8.0), (2.7, 1.0)  # log R: 15, within a factor of e
STEEPNESS, STEEPNESS_PRIOR = (-0.7, 1.4), (0.2, 0.3)  # log p
CROWDING, CROWDING_PRIOR = (-0.5, 1.5), (0.3, 0.3)  # delta
SHARING, SHARING_PRIOR = (-1.0, 3.0), (0.5, 0.5)  # sigma
MOST_LOG = 80.0  # of z^p: a worth of e^-80 is none


@dataclass(frozen=True)
class Signed(Number):
    """A number of either sign with a Gaussian prior, given by its mean and sd."""

    near: tuple[float, float] = (0.0, 1.0)

    def start(self, rng: np.random.Generator, count: int, k: int) -> Array:
        return rng.normal(*self.near, (count, 1))

    def prior(self, k: int) -> Box:
        return np.full(1, self.near[0]), np.full(1, self.near[1])


class Repeated(Nested):
    """A term of the mixture and the tokens of a run, evaluated at the effective tokens v_i h_i of all domains.

    Parameters
    ----------
    inner : the term; it reads tokens as D times the sum of the weights (`EffectiveDecay`)
    """

    uses = frozenset({"N", "D", "h", "available"})
    plain: Term

    def __init__(self, inner: Term) -> None:
        self.plain = inner
        self.children = (
            Constant("R", EPOCHS, EPOCHS_PRIOR, has_prior=True),
            Constant("p", STEEPNESS, STEEPNESS_PRIOR, has_prior=True),
            Signed("delta", CROWDING, CROWDING_PRIOR),
            Signed("sigma", SHARING, SHARING_PRIOR),
            inner,
        )

    def neutral(self, k: int) -> Array:
        return np.array([EPOCHS[1], 0.0, 0.0, 0.0])

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        worth = Worth(theta[:, :4], x)
        value, cache = self.plain.value(theta[:, 4:], x.with_h(worth.value * x.h))
        return value, (cache, worth, x.h)

    def vjp(self, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        inner, worth, h = cache
        by_seen = np.zeros((len(cotangent), *h.shape[-2:]))
        self.plain.vjp(inner, cotangent, None if by_theta is None else by_theta[:, 4:], by_seen)
        if by_theta is not None:
            by_theta[:, :4] = worth.by_parameters(by_seen * h)
        if by_h is not None:
            by_h += by_seen * (worth.value + worth.by_log_tokens())

    def write_jacobian(self, cache: Any, cotangent: Array, jacobian: Any, offset: int) -> None:
        rows = np.empty((len(cotangent), self.size(cache[2].shape[-2]), cotangent.shape[1]))
        self.vjp(cache, cotangent, rows, None)
        jacobian.add(slice(offset, offset + rows.shape[1]), rows)

    def amplitude(self, k: int) -> Array | None:
        own = self.plain.amplitude(k)
        return None if own is None else np.append(np.zeros(4), own)

    def convex(self, theta: Array, k: int) -> bool:
        return False


class Worth:
    """v_i, the worth of the tokens of each domain against fresh ones, and its derivatives.

    Parameters
    ----------
    theta : (b, 4) log R, log p, delta and sigma
    x : rows with the column `available`, U_i in the unit of D

    Attributes
    ----------
    value : (b, k, n), in (0, 1]
    """

    def __init__(self, theta: Array, x: Inputs) -> None:
        pool = np.maximum(x.column("available"), TINY)
        self._epochs = x.h * np.exp(x.log_d) / pool
        self._repeats = self._epochs > 1
        self._excess = np.where(self._repeats, self._epochs - 1, 1.0)
        self._crowding = x.log_n - x.log_d
        self._log_h = x.log_h
        log_r, log_p, delta, self._sigma = theta.T[:, :, None, None]
        self._p = np.exp(log_p)
        self._log_z = np.where(
            self._repeats, np.log(self._excess) - log_r + delta * self._crowding + self._sigma * self._log_h, 0.0
        )
        power = np.where(self._repeats, np.exp(np.minimum(self._p * self._log_z, MOST_LOG)), 0.0)
        self.value: Array = 1 / (1 + power)
        self._slope = -self.value * self.value * power * self._p  # by log z

    def by_parameters(self, by_value: Array) -> Array:
        """Return the derivatives (b, 4, n) by log R, log p, delta and sigma, from those by the value (b, k, n)."""
        by_log_z = by_value * self._slope
        return np.stack([(by_log_z * part).sum(1) for part in (-1.0, self._log_z, self._crowding, self._log_h)], axis=1)

    def by_log_tokens(self) -> Array:
        """Return the derivative (b, k, n) of each worth by the logarithm of the tokens that are read."""
        slope: Array = self._slope * np.where(self._repeats, self._epochs / self._excess + self._sigma, 0.0)
        return slope


class EffectiveDecay(WarmDecay):
    """D~^-beta, where the tokens are D times the sum of the weights."""

    uses = frozenset({"h", "D"})

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        total = x.h.sum(-2)
        value, cache = super().value(theta, replace(x.without_groups(), log_d=x.log_d + np.log(total)))
        return value, (cache, total, np.exp(theta))

    def vjp(self, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        own, total, (rate, lost) = cache[0], cache[1], cache[2].T[:, :, None]
        if by_theta is not None:
            super().vjp(own, cotangent, by_theta, None)
        if by_h is not None:
            by_log_d = -(rate + own[2][1] * lost) * own[1]
            by_h += (cotangent * by_log_d / total)[:, None]


class FreshDecay(Nested):
    """A term times (sum_i h_i)^-beta: what the tokens of runs of one D leave to learn, of which this part is fresh."""

    uses = frozenset("h")
    plain: Term

    def __init__(self, rate: str, inner: Constant) -> None:
        self.plain = inner
        self.children = (exponent(rate), inner)

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        (rate, inner), cache = self.values(theta, x)
        total = x.h.sum(-2)
        power = total**-rate
        return inner * power, (cache, inner * power, (-np.log(total) * inner * power, power), -rate / total)

    def inner(self, cache: Any) -> Any:
        return cache[0]

    def child_cotangent(self, i: int, cache: Any, cotangent: Array) -> Array:
        by_child: Array = cotangent * cache[2][i]
        return by_child

    def vjp(self, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        super().vjp(cache, cotangent, by_theta, None)
        if by_h is not None:
            by_h += (cotangent * cache[1] * cache[3])[:, None]


class OfShares(Nested):
    """A term of the mixture, evaluated at the weights divided by their sum."""

    def __init__(self, inner: Term) -> None:
        self.children = (inner,)

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        total = x.h.sum(-2, keepdims=True)
        shares = x.h / total
        value, cache = self.children[0].value(theta, x.with_h(shares))
        return value, (cache, shares, total)

    def vjp(self, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        inner, shares, total = cache
        by_shares = np.zeros((len(cotangent), *shares.shape[-2:]))
        self.children[0].vjp(inner, cotangent, by_theta, by_shares)
        if by_h is not None:
            by_h += (by_shares - (by_shares * shares).sum(-2, keepdims=True)) / total

    def convex(self, theta: Array, k: int) -> bool:
        return self.children[0].convex(theta, k)
