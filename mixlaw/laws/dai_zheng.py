"""Dai and Zheng's law of all domains at once: domains compete for a model's capacity, and each has noise of its own.

    L_i = c_i x_i(h, N)^-b_i + A_i (D h_i)^-a_i + E_i

The capacities x_i minimise sum_i h_i c_i x_i^-b_i subject to sum_i x_i = N + (K - 1) H and x_i >= H; the shared head H
is counted once: x_i = max(H, (h_i b_i c_i / mu)^(1 / (b_i + 1))), mu by bisection; x_i = H if H >= N
(Dai and Zheng 2026, arXiv 2606.08167, theorem 4.1, and the authors' 7-domain code). Their first equation is the same
without the A_i term and without H.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixlaw.laws.jacobian import Array
from mixlaw.laws.terms import AMPLITUDE, TINY, Box, Inputs, Slot, Term, box

POWERS = (float(np.log(0.01)), float(np.log(8.0)))  # the published example has an exponent of 4.25
HEAD = (-12.0, 6.0)  # log of H / n_unit
NO_HEAD = 1e-12
BISECTIONS = 60


@dataclass(frozen=True)
class Capacity(Term):
    """The loss of each row's own target; all domains share one parameter vector.

    Parameters in their order: log b_i, log c_i, then with `noise` log A_i and log a_i, log E_i, and log H.
    """

    noise: bool = True

    @property
    def uses(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({"N", "h", "share", *("D" if self.noise else "")})

    def bounds(self, k: int) -> Box:
        noise = ((AMPLITUDE, k), (POWERS, k)) if self.noise else ()
        return box((POWERS, k), (AMPLITUDE, k), *noise, (AMPLITUDE, k), (HEAD, int(self.noise)))

    def start(self, rng: np.random.Generator, count: int, k: int) -> Array:
        powers, sizes = (lambda: rng.normal(-1.0, 0.5, (count, k))), (lambda: rng.normal(0.0, 0.7, (count, k)))
        noise = [sizes() - 1.0, powers()] if self.noise else []
        return np.hstack([powers(), sizes(), *noise, sizes(), rng.uniform(-6.0, -1.0, (count, int(self.noise)))])

    def _split(self, theta: Array, k: int) -> tuple[dict[str, Array], dict[str, slice]]:
        names = ["b", "c", *(["A", "a"] if self.noise else []), "E"]
        at = {name: slice(i * k, (i + 1) * k) for i, name in enumerate(names)} | {"H": slice(len(names) * k, None)}
        return {name: np.exp(theta[:, place]) for name, place in at.items()}, at

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        k = x.h.shape[-2]
        p, at = self._split(theta, k)
        head = p["H"] if self.noise else np.full((len(theta), 1), NO_HEAD)
        log_x, inside = capacities(p["b"], p["c"], head, x)
        own, mine = x.own(), x.of_own(log_x)
        capacity = p["c"][:, own] * np.exp(-p["b"][:, own] * mine)
        value = capacity + p["E"][:, own]
        noise = np.zeros_like(capacity)
        if self.noise:
            noise = p["A"][:, own] * np.exp(-p["a"][:, own] * (x.log_d + np.log(np.maximum(x.share(), TINY))))
        return value + noise, (p, at, head, log_x, inside, own, mine, capacity, noise, x)

    def vjp(self, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        p, at, head, log_x, inside, own, mine, capacity, noise, x = cache
        b, rows = p["b"], np.arange(len(own))
        by_log_x = -cotangent * capacity * b[:, own]
        # log x_i = (log(h_i b_i c_i) - log mu) / (b_i + 1) where x_i > H; mu is such that they sum to N + (K - 1) H
        slope = inside / (b + 1)[..., None]
        weight = np.exp(log_x) * slope
        share_of_mu = weight / np.maximum(weight.sum(1, keepdims=True), TINY)
        mine_free = x.of_own(slope)
        # by_log_x times d log x_own / d log(h b c)_j
        through = -(by_log_x * mine_free)[:, None, :] * share_of_mu
        through[:, own, rows] += by_log_x * mine_free
        if by_theta is not None:
            by_theta[...] = 0.0
            # b_i is also in the denominator: d log x_i / d b_i at a fixed numerator is -log x_i / (b_i + 1)
            by_theta[:, at["b"]] = through * (1 - log_x * b[..., None])
            by_theta[:, at["c"]] = through
            by_theta[:, own, rows] += -cotangent * capacity * mine * b[:, own]
            by_theta[:, at["c"].start + own, rows] += cotangent * capacity
            by_theta[:, at["E"].start + own, rows] += cotangent * p["E"][:, own]
            if self.noise:
                self._vjp_noise(cache, cotangent, by_theta)
                room = (inside.sum(1) - 1) * head / np.maximum(weight.sum(1), TINY)
                by_theta[:, -1] = by_log_x * np.where(mine_free > 0, mine_free * room, 1.0)
        if by_h is not None:
            by_h += through / np.maximum(x.h, 1e-12)
            if self.noise:
                by_h[:, own, rows] += -cotangent * noise * p["a"][:, own] / np.maximum(x.share(), 1e-12)

    def _vjp_noise(self, cache: Any, cotangent: Array, by_theta: Array) -> None:
        p, at, _, _, _, own, _, _, noise, x = cache
        rows = np.arange(len(own))
        log_tokens = x.log_d + np.log(np.maximum(x.share(), TINY))
        by_theta[:, at["A"].start + own, rows] = cotangent * noise
        by_theta[:, at["a"].start + own, rows] = -cotangent * noise * log_tokens * p["a"][:, own]

    def natural(self, theta: Array, domains: Sequence[str]) -> dict[str, float]:
        p, _ = self._split(theta[None], len(domains))
        named = {f"{n}_{d}": float(v) for n, values in p.items() if n != "H" for d, v in zip(domains, values[0])}  # noqa: B905
        return named | ({"H": float(p["H"][0, 0])} if self.noise else {})

    def convex(self, theta: Array, k: int) -> bool:
        return False


def capacities(b: Array, c: Array, head: Array, x: Inputs) -> tuple[Array, Array]:
    """Return log x_i (b, k, n), and a mask that is 1.0 where x_i is above the head H and 0.0 where it is at H.

    Parameters
    ----------
    b, c : (b, k)
    head : (b, 1) the shared head H, in the unit of N
    """
    k = x.h.shape[-2]
    numerator = np.log(np.maximum(x.h, TINY)) + np.log(b * c)[..., None]
    power, log_head = 1 / (b + 1)[..., None], np.log(head)[..., None]
    room = np.exp(x.log_n) + (k - 1) * head
    low = (numerator - np.log(room)[:, None, :] / power).max(1)  # one x_i takes the whole sum
    high = (numerator - log_head / power).max(1)  # every x_i equals the head
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        total = np.exp(np.maximum((numerator - middle[:, None, :]) * power, log_head)).sum(1)
        low, high = np.where(total > room, middle, low), np.where(total > room, high, middle)
    free = (numerator - ((low + high) / 2)[:, None, :]) * power
    crowded = head >= np.exp(x.log_n)  # no room above the head: set every x_i to it, whatever rounding gives
    return np.maximum(free, log_head), ((free > log_head) & ~crowded[:, None, :]).astype(float)
