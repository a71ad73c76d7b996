"""The loss of the big run as a function of the mixtures of its phases, and what a question minimises over them.

A point holds the mixtures of P phases one after the other, each divided by P: (P k,) numbers that sum to one, so that
`simplex` minimises over it (`Limits.parts`). Equal phases are the point of a single mixture.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mixlaw.advice.constraints import Question, limits
from mixlaw.advice.goal import Goal
from mixlaw.advice.objective import Objective, as_mixture
from mixlaw.advice.simplex import Limits, Rows
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import lifted
from mixlaw.laws.terms import PHASES, UNTIL, Inputs
from mixlaw.mixture import Mixture
from mixlaw.phased_mixture import PhasedMixture
from mixlaw.tables.phase_mixtures import Phases


class PhasedObjective(Objective):
    """The weighted sum of targets' losses of a run with P phases, as a function of points (P k,).

    It is otherwise as the objective of one mixture: the same resampled laws, widened alike. The penalty of the distance
    to a mixture is the mean over the tokens of the run.

    Parameters
    ----------
    static : the laws, which must be of phases, the big run and the importance of its targets
    ends : (P,) where phases end, as shares of the tokens, rising to 1
    """

    def __init__(self, static: Objective, ends: Sequence[float]) -> None:
        super().__init__(static.fit, static.question, static.sizes, static._laws, static._over)
        self.static, self.ends = static, tuple(map(float, ends))
        self.shares = np.diff(self.ends, prepend=0.0)

    def asking(self, question: Question) -> "PhasedObjective":
        return PhasedObjective(super().asking(question), self.ends)

    def coarse(self) -> "PhasedObjective":
        return PhasedObjective(super().coarse(), self.ends)

    def best_fit(self) -> "PhasedObjective":
        return PhasedObjective(super().best_fit(), self.ends)

    def drawn(self, most: int | None = None) -> "PhasedObjective":
        return PhasedObjective(super().drawn(most), self.ends)

    def unwidened(self) -> "PhasedObjective":
        return PhasedObjective(super().unwidened(), self.ends)

    def point(self, mixture: Mixture) -> Array:
        """Return (P k,) the point of a run on one mixture, or on a `PhasedMixture` whose phases end where these do."""
        if isinstance(mixture, PhasedMixture):
            return self.point_of(mixture.by_phase)
        return self.point_of(np.tile(mixture.array, (len(self.ends), 1)))

    def mixture(self, point: Array) -> Mixture:
        return PhasedMixture(self.ends, [as_mixture(self.fit.domains, h) for h in self.phases(point[None])[0]])

    def compared(self, mixture: Mixture) -> Array:
        until = np.array([self.ends])
        return Phases(self.phases(self.point(mixture)[None]), until).halves()[0]

    def point_of(self, phases: Array) -> Array:
        """Return the point (P k,) of the mixtures of phases (P, k)."""
        return phases.ravel() / len(self.ends)

    def phases(self, points: Array) -> Array:
        """Return the mixtures of phases (b, P, k) of points (b, P k)."""
        return points.reshape(len(points), len(self.ends), -1) * len(self.ends)

    @property
    def limits(self) -> Limits:
        """The feasible set: every phase has the limits of weights, and the whole run those of epochs (`PhasedGoal`)."""
        each = limits(self.fit.domains, replace(self.question, max_epochs=None))
        return replace(each, parts=len(self.ends))

    def penalty(self, h: Array) -> tuple[Array, Array]:
        count = len(self.ends)
        value, slope = super().penalty(h.reshape(len(h) * count, -1) * count)
        by_phase = slope.reshape(len(h), count, -1) * (count * self.shares[:, None])
        return value.reshape(len(h), count) @ self.shares, by_phase.reshape(h.shape)

    def _inputs(self, h: Array, n_params: Array | None = None, n_tokens: Array | None = None) -> Inputs:
        """Return the inputs at points (P k, n), or (b, P k, n) with points per parameter vector."""
        phases = h.reshape(*h.shape[:-2], len(self.ends), -1, h.shape[-1]) * len(self.ends)
        x = super()._inputs((self.shares[:, None, None] * phases).sum(-3), n_params, n_tokens)
        until = np.tile(np.array(self.ends)[:, None], h.shape[-1])
        return replace(x, columns=dict(x.columns or {}) | {PHASES: lifted(phases)[0], UNTIL: until})

    def _loss_and_gradient(self, theta: Array, x: Inputs) -> tuple[Array, Array]:
        value, by_phases = self._law.loss_and_gradient_phases(theta, x)
        return value, by_phases.reshape(len(by_phases), -1, by_phases.shape[-1])

    def _slope(self, h: Array) -> Array:
        return lifted(h * len(self.ends))[1] * len(self.ends)

    def _widening(self, target: str) -> float:
        return self.static._widening(target)


class PhasedGoal(Goal):
    """What a question minimises over points of phases, and its limits: of losses, and of epochs in the whole run.

    Parameters
    ----------
    objective : of the phases
    """

    def __init__(self, objective: PhasedObjective) -> None:
        super().__init__(objective)
        caps = objective.question.epoch_caps()
        self._share = np.array([min(caps.get(d, 1.0), 1.0) for d in objective.fit.domains])
        self._capped = np.flatnonzero(self._share < 1)
        self._phased = objective
        self.plain = self.plain and not len(self._capped)

    def bounds(self, h: Array, rows: Rows | None = None) -> tuple[Array, Array]:
        """Return relative excesses (b, m) over the limits, and gradients (b, m, P k): of losses, then of epochs."""
        value, slope = super().bounds(h, rows)
        most, at, shares = self._share[self._capped], self._capped, self._phased.shares
        total = np.einsum("p,bpk->bk", shares, self._phased.phases(h))[:, at]
        rising = np.kron(len(shares) * shares, np.eye(len(self._share))[at]) / most[:, None]
        steep = np.broadcast_to(rising, (len(h), *rising.shape))
        return np.hstack([value, total / most - 1]), np.concatenate([slope, steep], 1)
