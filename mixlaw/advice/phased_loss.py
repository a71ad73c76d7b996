"""The loss of the big run as a function of the mixtures of its phases, and the feasible set of these.

A point holds the shares of all tokens that each phase reads of each domain: (P k,) numbers that sum to one, those of a
phase to its share of the run. It is a mixture of P k domains with one group per phase, so `simplex` minimises over it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mixlaw.advice.bounded import minimise_bounded
from mixlaw.advice.objective import Objective
from mixlaw.advice.simplex import CONVERGED, Group, Limits, Rows, minimise_mixture
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import lifted
from mixlaw.laws.terms import PHASES, UNTIL


class PhasedLoss:
    """The weighted sum of targets' losses of a run with P phases: the mean over the laws of an objective, or of each.

    Parameters
    ----------
    objective : the laws, which must be of phases, the big run and the importance of its targets
    ends : (P,) where phases end, as shares of the tokens, rising to 1
    """

    def __init__(self, objective: Objective, ends: Sequence[float]) -> None:
        self.objective, self.ends = objective, np.array(ends, float)
        self.shares, self.k = np.diff(self.ends, prepend=0.0), len(objective.fit.domains)

    def point(self, phases: Array) -> Array:
        """Return the point (P k,) of mixtures (P, k)."""
        return (self.shares[:, None] * phases).ravel()

    def phases(self, points: Array) -> Array:
        """Return the mixtures (b, P, k) of points (b, P k)."""
        return points.reshape(len(points), len(self.ends), self.k) / self.shares[:, None]

    def __call__(self, points: Array, rows: Rows | None = None) -> tuple[Array, Array]:
        """Return losses (b,) and gradients (b, P k); points and rows are as the mixtures of `Objective`."""
        seen, slope = lifted(self.phases(points))
        value, by_seen = self._of_each(seen, rows) if self.objective.separate else self._mean(seen)
        return value, (by_seen * slope / self.shares[:, None]).reshape(len(points), -1)

    def _of_each(self, seen: Array, rows: Rows | None) -> tuple[Array, Array]:
        theta = self.objective.parameters
        if rows is not None:
            theta = {t: each[rows % self.objective.count] for t, each in theta.items()}
        value, by_seen = self._weighted(theta, seen[..., None])
        return value[:, 0], by_seen[..., 0]

    def _mean(self, seen: Array) -> tuple[Array, Array]:
        value, by_seen = self._weighted(self.objective.parameters, seen.transpose(1, 2, 0))
        return value.mean(0), by_seen.mean(0).transpose(2, 0, 1)

    def _weighted(self, theta: Mapping[str, Array], seen: Array) -> tuple[Array, Array]:
        """Return weighted losses (b, n) and gradients (b, P, k, n) at lifted phases (P, k, n) or (b, P, k, n)."""
        n, fit, question = seen.shape[-1], self.objective.fit, self.objective.question
        columns = {PHASES: seen, UNTIL: np.tile(self.ends[:, None], n)}
        scale = np.full(n, question.n_params), np.full(n, question.n_tokens)
        x = fit.units.inputs(*scale, np.full((self.k, n), 1 / self.k), columns=columns)
        total: Any = 0.0
        gradient: Any = 0.0
        for target, importance in question.targets.items():
            value, by_phases = fit.law.loss_and_gradient_phases(theta[target], x)
            total, gradient = total + importance * value, gradient + importance * by_phases
        return total, gradient

    def minimise(self, points: Array, each: Limits, most: Array, within: float = CONVERGED) -> tuple[Array, Array]:
        """Return the minima (b, P k) from several starts (b, P k), and their losses (b,).

        Parameters
        ----------
        each : limits of the mixture of every phase
        most : (k,) largest weights in the whole run
        """
        where = self.limits(each)
        if (most >= 1).all():
            return minimise_mixture(self, points, where, within)

        def criteria(h: Array, rows: Rows) -> tuple[Array, Array]:
            value, gradient = self(h, rows)
            return value[:, None], gradient[:, None]

        def bounds(h: Array, rows: Rows) -> tuple[Array, Array]:
            total = h.reshape(len(h), -1, self.k).sum(1)
            slope = np.tile(np.diag(1 / most), (len(h), 1, len(self.ends)))
            return total / most - 1, slope

        return minimise_bounded(criteria, bounds, points, where)

    def limits(self, each: Limits) -> Limits:
        """Return the feasible set of points from the limits of the mixture of every phase."""
        low, high = (np.concatenate([share * side for share in self.shares]) for side in (each.low, each.high))
        blocks = [np.arange(self.k) + self.k * p for p in range(len(self.ends))]
        return Limits(
            low, high, [Group(at, share, share) for at, share in zip(blocks, self.shares.tolist(), strict=True)]
        )
