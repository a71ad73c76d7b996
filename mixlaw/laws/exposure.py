"""Runs that change their mixture: how much late tokens count, and how well a domain read early replaces one read late.

A run of P phases reads the mixture h_p up to the share t_p of its tokens (t_0 = 0, t_P = 1). A term of the mixture sees

    m_i = (sum_p w_p h_pi^s)^(1/s),    w_p = t_p^r - t_(p-1)^r

* **Recency, r**: the tokens up to the share t of a run count t^r: all alike at r = 1, late ones more above it,
  early ones more below it. The w_p are positive and sum to one for every r.
* **Interleaving, s <= 1**: m_i is the power mean over the phases. At s = 1 only the weighted sum counts. Below it, a
  domain that is read all at once is worth less than the same tokens spread over the run: what is learned of it before
  is partly forgotten, what comes late is learned in part.

If all phases are equal, m is their mixture whatever r and s are: a law of one mixture is the special case. m is concave
in the h_p for s <= 1, so a law that is convex and decreasing in m, such as 1 / sum_i C_i m_i^gamma, is convex in all
phases together.

What the optimizer forgets is part of r: its moving average and the learning-rate schedule decide how long a batch is
retained (Bergsma et al. 2025, arXiv 2509.25380). Rows before and after a cool-down are not fitted together, so an r
belongs to one schedule.
"""

from typing import Any

import numpy as np

from mixlaw.laws.jacobian import Array
from mixlaw.laws.terms import PHASES, TINY, UNTIL, Constant, Inputs, Slot, Term
from mixlaw.laws.tree import Nested

RECENCY, INTERLEAVING = (-3.0, 4.0), (-3.0, 0.0)  # log r, log s
RECENCY_PRIOR = (0.0, 0.7)  # of log r: all tokens count alike, to within a factor of two
INTERLEAVING_PRIOR = (-0.5, 0.3)  # of log s


class Exposed(Nested):
    """A term of the mixture that a run was exposed to; its first parameters are log r and log s.

    Without the column `phases` of the inputs, every run has one mixture, and r and s have no effect.

    Parameters
    ----------
    inner : the term, of the mixture alone; convex, and decreasing in every weight if `free`
    free : whether r and s are parameters; otherwise both are 1, and the term sees the mixture of the whole run
    """

    uses = frozenset({"h", PHASES})
    plain: Term

    def __init__(self, inner: Term, free: bool = True) -> None:
        self.plain = inner
        recency = Constant("r", RECENCY, RECENCY_PRIOR, has_prior=True)
        powers = (recency, Constant("s", INTERLEAVING, INTERLEAVING_PRIOR, has_prior=True))
        self.children = (*(powers if free else ()), inner)

    def value(self, theta: Array, x: Inputs) -> tuple[Array, Any]:
        exposure, own = None, len(self.children) - 1
        if PHASES in (x.columns or {}):
            powers = np.exp(theta[:, :own]) if own else np.ones((1, 2))
            exposure = PowerMean(powers, x.column(PHASES), x.column(UNTIL))
            x = x.with_h(exposure.value)
        value, cache = self.plain.value(theta[:, own:], x)
        return value, (cache, exposure, x.h.shape[-2:])

    def vjp(self, cache: Any, cotangent: Array, by_theta: Slot, by_h: Slot) -> None:
        """Write derivatives; those by h go to (b, k, n), all phases being equal, or by phase to (b, P, k, n)."""
        inner_cache, exposure, shape = cache
        by_seen, own = np.zeros((len(cotangent), *shape)), len(self.children) - 1
        self.plain.vjp(inner_cache, cotangent, None if by_theta is None else by_theta[:, own:], by_seen)
        if by_theta is not None and own:
            by_theta[:, :own] = exposure.by_logarithms(by_seen) if exposure else 0.0
        if by_h is not None:
            by_h += exposure.by_phases(by_seen) if exposure and by_h.ndim == 4 else by_seen

    def amplitude(self, k: int) -> Array | None:
        inner = self.plain.amplitude(k)
        return None if inner is None else np.concatenate([np.zeros(len(self.children) - 1), inner])

    def convex(self, theta: Array, k: int) -> bool:
        return self.plain.convex(theta[len(self.children) - 1 :], k)


class PowerMean:
    """The power mean of the mixtures of phases, and its derivatives.

    Parameters
    ----------
    powers : (b, 2) r and s
    phases : (P, k, n) or (b, P, k, n) positive weights
    until : (P, n) ends of the phases as shares of the run, rising to 1

    Attributes
    ----------
    value : (b, k, n)
    """

    def __init__(self, powers: Array, phases: Array, until: Array) -> None:
        self._share, self._share_by_r = shares(powers[:, :1, None], until)
        self._s, self._phases = powers[:, 1, None, None], phases
        self._log = np.log(phases)
        self._power = np.exp(self._s[:, None] * self._log)
        self._sum = (self._share[:, :, None] * self._power).sum(1)
        self.value: Array = np.exp(np.log(self._sum) / self._s)

    def by_logarithms(self, by_value: Array) -> Array:
        """Return the derivatives (b, 2, n) by log r and log s, from those by the value (b, k, n)."""
        by_log = by_value * self.value
        by_r = (self._share_by_r[:, :, None] * self._power).sum(1) / (self._s * self._sum)
        mean_log = (self._share[:, :, None] * self._power * self._log).sum(1) / self._sum
        by_s = mean_log - np.log(self.value)
        return np.stack([(by_log * by_r).sum(1), (by_log * by_s).sum(1)], axis=1)

    def by_phases(self, by_value: Array) -> Array:
        """Return the derivatives (b, P, k, n) by the weights of all phases."""
        scaled: Array = (by_value * self.value / self._sum)[:, None] * self._share[:, :, None]
        return scaled * self._power / self._phases


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
