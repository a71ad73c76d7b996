"""The multiplicative law: the mixture multiplies the reducible loss, and model size and tokens limit each other.

    L = E sum_i e_i h_i + R(N, D) M(h, D)

    R = ((A / N^alpha)^q + (B / D~^beta)^q)^(1/q)         the reducible loss at N and D
    D~ = D - D0, and D^2 / (4 D0) below D = 2 D0          tokens, weighted by their learning rate
    M = sum_i b_i h_i + D / (D + D1) / sum_i C_i h_i^gamma      the factor of the mixture

9 + 3k parameters, of which 2k have narrow priors around 1 (b_i with sd 0.2, e_i with sd 0.05, in logarithms); the joint
law has 5 + 4k. The reason for each piece:

* **The mixture multiplies the reducible loss.** A mixture sets the share of training that serves a target. If only a
  share s of the tokens counts, a power law B / (s D)^beta is raised by a factor s^-beta, whatever D is. In the paper's
  public runs (45 mixtures, 122M to 680M parameters) the losses of all mixtures at all (N, D) are one curve times one
  number per mixture, to within 0.1 to 0.3 % (second singular value of the centred table; the first is 1.6 to 10 %).
  Laws with a constant mixture term, additive and joint, keep a penalty that no amount of data removes, which shows in
  their residuals. As N and D grow, the loss tends to E for every mixture that has some useful data.
* **E hardly depends on the mixture**: e_i changes it by a few per cent, for what only one domain says about a target
  (cross-entropy is H(p) + KL(p || q(h)), the paper's eq. 6.4).
* **N and D limit each other.** On C4, going from 122M to 310M parameters lowers the loss by 0.11 nats at 4B tokens and
  by 0.17 at 20B: a sum of a term in N and a term in D cannot express that. The q-norm is their sum at q = 1
  (Chinchilla's law) and their maximum as q grows; q = 1 / beta is the form of Kaplan et al. 2020 (arXiv 2001.08361, eq.
  1.5). It decreases in N and in D for every q.
* **A warm-up loses tokens.** Training time is the sum of learning rates: if the rate rises linearly over W tokens and
  is constant afterwards, D tokens count as D - W/2. In the paper's runs, which warm up over 4B tokens, D0 fits to 1.9
  to 3.4B.
* **The effect of the mixture emerges.** The first tokens of any text teach what all text shares; the cost of a missing
  domain appears with half-time D1. In tiny runs, losses of different mixtures lie up to twice as far apart after 360k
  tokens as after 75k.
* **Domains are substitutes with diminishing returns**, as in the paper's 1 / sum_i C_i h_i^gamma_i, but with one gamma
  <= 1 for all domains. L is then convex in the lifted weights (`mixlaw.laws.law.lifted`), so every weighted sum of
  targets has one optimum. The paper's gamma_i are barely identifiable one by one.
* **Every domain has a floor of its own**, b_i: a mixture of domain i alone cannot take the loss below it.

Priors count as one run, as in all laws (`Term.prior`): log q ~ N(0.7, 0.5), log alpha, log beta ~ N(-1, 0.6), log
b_i ~ N(0, 0.2), log e_i ~ N(0, 0.05), log gamma ~ N(-0.7, 0.7), log C_i ~ N(0.5, 1.5), and D0, D1 small against the
data's D. If a table does not identify q, alpha or D0 (two model sizes), predictions rest on these priors; if runs of
only two sizes come from another law, intervals can be too narrow.

Limits: the law does not model repeated data. The loss of a target whose domain is missing may rise with D until about
D1 / beta tokens, as it does in real runs, and slightly where N is the bottleneck. The optimum for one target moves with
N and D only through e_i, and with D until the mixture's effect has emerged; for several targets it moves more. For a
comparison with other laws see `sweeps/measured/RESULTS.md`; `scripts/protocol.csv` has every case.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from mixlaw.laws.jacobian import Array
from mixlaw.laws.terms import (
    AMPLITUDE,
    SHAPE,
    TINY,
    Box,
    Constant,
    Inputs,
    InverseSum,
    Slot,
    Term,
    box,
    exponent,
)
from mixlaw.laws.tree import Nested

COUPLING = (0.0, 3.0)  # log q, from the sum of both terms to nearly their maximum
WARM_UP = (-8.0, 0.0)  # log of the tokens that a warm-up loses, in the fit's unit of D (the data's geometric mean)
EMERGENCE = (-8.0, 1.5)  # log of the tokens after which half of the mixture's effect has emerged, in that unit


class Coupled(Nested):
    """(x^q + y^q)^(1/q), the q-norm: the sum at q = 1, the maximum as q grows. The first child is q."""

    broadcasts = True

    def __init__(self, coupling: Term, *children: Term) -> None:
        self.children = (coupling, *children)

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        (q, *parts), cache = self.values(theta, x)
        logs = [np.log(np.maximum(part, TINY)) for part in parts]
        log_sum = reduce(np.logaddexp, [q * log for log in logs])
        shares = [np.exp(q * log - log_sum) for log in logs]
        value = np.exp(log_sum / q)
        return value, (cache, q, logs, log_sum, shares, value)

    def inner(self, cache: Any) -> Any:
        return cache[0]

    def child_cotangent(self, i: int, cache: Any, cotangent: Array) -> Array:
        _, q, logs, log_sum, shares, value = cache
        if i:
            by_part: Array = cotangent * value * shares[i - 1] * np.exp(-logs[i - 1])
            return by_part
        mean_log = sum(share * log for share, log in zip(shares, logs, strict=True))
        by_q: Array = cotangent * value * (mean_log - log_sum / q) / q
        return by_q

    def amplitude(self, k: int) -> Array | None:
        direction, places = np.zeros(self.size(k)), self.slices(k)
        for child, at in zip(self.children[1:], places[1:], strict=True):
            if (own := child.amplitude(k)) is None:
                return None
            direction[at] = own
        return direction


class WarmDecay(Nested):
    """D~^-beta, where D~ are the tokens weighted by their learning rate.

    If the rate rises linearly over the first 2 D0 tokens and is constant afterwards, D~ = D - D0 after the warm-up and
    D^2 / (4 D0) during it. D~ and its derivative are continuous.
    """

    uses = frozenset("D")

    def __init__(self, rate: str, lost: str) -> None:
        self.children = (exponent(rate), Constant(lost, WARM_UP, (-2.5, 1.0), has_prior=True))

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        (rate, lost), cache = self.values(theta, x)
        share = lost * np.exp(-x.log_d)  # of D
        warm, late = share < 0.5, 1 - np.minimum(share, 0.5)
        log_tokens = x.log_d + np.where(warm, np.log(late), -np.log(4 * np.maximum(share, 0.5)))
        value = np.exp(-rate * log_tokens)
        by_lost = -np.where(warm, share / late, 1.0) / lost  # of the logarithm of D~
        return value, (cache, value, (-log_tokens, -rate * by_lost))

    def inner(self, cache: Any) -> Any:
        return cache[0]

    def child_cotangent(self, i: int, cache: Any, cotangent: Array) -> Array:
        by_child: Array = cotangent * cache[1] * cache[2][i]
        return by_child


class Emergence(Nested):
    """D / (D + D1): the share of the mixture's penalty that has emerged after D tokens."""

    uses = frozenset("D")

    def __init__(self, symbol: str) -> None:
        self.children = (Constant(symbol, EMERGENCE, (-3.0, 1.5), has_prior=True),)

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        (half,), cache = self.values(theta, x)
        felt = 1 / (1 + half * np.exp(-x.log_d))
        return felt, (cache, -felt * felt * np.exp(-x.log_d))

    def inner(self, cache: Any) -> Any:
        return cache[0]

    def child_cotangent(self, i: int, cache: Any, cotangent: Array) -> Array:
        by_half: Array = cotangent * cache[1]
        return by_half


class Shares(Term):
    """sum_i b_i h_i with k parameters; a prior keeps the b_i near 1, because the law already has an overall scale.

    Parameters
    ----------
    symbol : of the b_i
    spread : sd of the prior of log b_i
    """

    uses = frozenset("h")

    def __init__(self, symbol: str, spread: float) -> None:
        self.symbol, self.spread = symbol, spread

    def bounds(self, k: int) -> Box:
        return box(((-5.0, 5.0), k))

    def start(self, rng: np.random.Generator, count: int, k: int) -> Array:
        return rng.normal(0.0, self.spread, (count, k))

    def prior(self, k: int) -> Box:
        return np.zeros(k), np.full(k, self.spread)

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        scales = np.exp(theta)
        parts = scales[:, :, None] * x.h
        return parts.sum(-2), (parts, scales)

    def vjp(self, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        parts, scales = cache
        if by_theta is not None:
            np.multiply(cotangent[:, None, :], parts, out=by_theta)
        if by_h is not None:
            by_h += cotangent[:, None, :] * scales[:, :, None]

    def natural(self, theta: Array, domains: Sequence[str]) -> dict[str, float]:
        return {f"{self.symbol}_{d}": float(np.exp(t)) for d, t in zip(domains, theta, strict=True)}

    def amplitude(self, k: int) -> Array | None:
        return np.ones(k)

    def convex(self, theta: Array, k: int) -> bool:
        return True


class Usefulness(InverseSum):
    """1 / sum_i C_i h_i^gamma with one gamma <= 1, so that it is always convex in h: k + 1 parameters.

    The prior of log C_i has mean 0.5 and sd 1.5, because no domain is useless: the sum adds to a floor of about 1.
    Without a prior, mixtures that do not identify all C_i could let one of them vanish, and the loss of a mixture of
    that domain alone would be unbounded.
    """

    def bounds(self, k: int) -> Box:
        return box(((-AMPLITUDE[1], -AMPLITUDE[0]), k), ((SHAPE[0], 0.0), 1))

    def start(self, rng: np.random.Generator, count: int, k: int) -> Array:
        return np.hstack([rng.normal(0.5, 1.0, (count, k)), np.log(rng.uniform(0.1, 1.0, (count, 1)))])

    def prior(self, k: int) -> Box:
        return np.append(np.full(k, 0.5), -0.7), np.append(np.full(k, 1.5), 0.7)

    def natural(self, theta: Array, domains: Sequence[str]) -> dict[str, float]:
        named = {f"C_{d}": float(np.exp(t)) for d, t in zip(domains, theta[:-1], strict=True)}
        return named | {"gamma": float(np.exp(theta[-1]))}

    def convex(self, theta: Array, k: int) -> bool:
        return True


def coupling(symbol: str) -> Constant:
    """Return the power q of `Coupled`."""
    return Constant(symbol, COUPLING, (0.7, 0.5), has_prior=True)
