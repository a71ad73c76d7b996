"""Runs that change their mixture: the loss depends on the mixture that a run was exposed to, not on its mean.

A run of P phases reads the mixture h_p up to the share t_p of its tokens (t_0 = 0, t_P = 1). A term of the mixture sees

    h = sum_p (t_p^r - t_(p-1)^r) h_p        exposure: the tokens up to the share t of a run count t^r

with a free exponent r: all tokens count alike at r = 1 (h is then the mixture of the whole run), late ones more above
it, early ones more below it. The weights are positive and sum to one for every r, so h is a mixture. If all phases are
equal, h is their mixture whatever r is: a law of h is the special case. h is linear in the h_p, so a law that is convex
in h is convex in all phases together.

What the optimizer forgets is part of r: its moving average and the learning-rate schedule decide how long a batch is
retained (Bergsma et al. 2025, arXiv 2509.25380). Rows before and after a cool-down are not fitted together, so an r
belongs to one schedule.
"""

from typing import Any

import numpy as np

from mixlaw.laws.jacobian import Array
from mixlaw.laws.terms import PHASES, TINY, UNTIL, Constant, Inputs, Slot, Term
from mixlaw.laws.tree import Nested

EXPONENT = (-3.0, 3.0)  # log r
PRIOR = (0.0, 0.7)  # of log r: all tokens count alike, to within a factor of two


class Exposed(Nested):
    """A term of the mixture that a run was exposed to; its first parameter is the logarithm of the exponent r.

    Without the column `phases` of the inputs, every run has one mixture, and r has no effect.

    Parameters
    ----------
    symbol : of r
    inner : the term, of the mixture alone
    """

    uses = frozenset({"h", PHASES})
    plain: Term

    def __init__(self, symbol: str, inner: Term) -> None:
        self.plain = inner
        self.children = (Constant(symbol, EXPONENT, PRIOR, has_prior=True), inner)

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        exposure = None
        if PHASES in (x.columns or {}):
            exposure = (*shares(np.exp(theta[:, :1, None]), x.column(UNTIL)), x.column(PHASES))
            x = x.with_h(_mean(exposure[0], exposure[2]))
        value, cache = self.plain.value(theta[:, 1:], x)
        return value, (cache, exposure, x.h.shape[-2:])

    def vjp(self, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        """Write derivatives; those by h go to (b, k, n), all phases being equal, or by phase to (b, P, k, n)."""
        inner_cache, exposure, shape = cache
        by_seen = np.zeros((len(cotangent), *shape))
        self.plain.vjp(inner_cache, cotangent, None if by_theta is None else by_theta[:, 1:], by_seen)
        if by_theta is not None:
            by_theta[:, 0] = (by_seen * _mean(exposure[1], exposure[2])).sum(1) if exposure else 0.0
        if by_h is not None:
            by_h += exposure[0][:, :, None] * by_seen[:, None] if by_h.ndim == 4 else by_seen

    def amplitude(self, k: int) -> Array | None:
        own = self.plain.amplitude(k)
        return None if own is None else np.append(0.0, own)

    def convex(self, theta: Array, k: int) -> bool:
        return self.plain.convex(theta[1:], k)


def shares(exponent: Array, until: Array) -> tuple[Array, Array]:
    """Return the shares of exposure (b, P, n) of phases, which sum to one, and their derivatives by log r.

    Parameters
    ----------
    exponent : (b, 1, 1) r
    until : (P, n) ends of the phases as shares of the run, rising to 1
    """
    log_until = np.log(np.maximum(until, TINY))
    reached = np.exp(exponent * log_until)
    by_exponent = reached * exponent * log_until
    return np.diff(reached, axis=1, prepend=0.0), np.diff(by_exponent, axis=1, prepend=0.0)


def _mean(share: Array, phases: Array) -> Array:
    """Return (b, k, n) the sums over phases (P, k, n) or (b, P, k, n), weighted by shares (b, P, n)."""
    mean: Array = (share[:, :, None] * phases).sum(1)
    return mean
