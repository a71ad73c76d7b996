"""What a question minimises, and the limits on losses: functions of h that compare targets with the baseline."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from mixlaw.advice.bounded import ROUGHLY_MET, minimise_bounded
from mixlaw.advice.constraints import WORST
from mixlaw.advice.objective import Objective
from mixlaw.advice.simplex import CONVERGED, Limits, Rows, minimise_mixture
from mixlaw.laws.jacobian import Array

SLACK = 1e-4  # a loss that is relatively closer to its limit is at it


class RelativeLosses:
    """The losses of some targets as multiples of others, by default those of the first baseline under the same laws.

    Parameters
    ----------
    objective : the laws and the big run
    targets : names of the m targets
    """

    def __init__(self, objective: Objective, targets: Iterable[str]) -> None:
        plain = replace(objective.question, kl_penalty=0.0, stay_near=None)
        self.targets = list(targets)
        self._losses = objective.asking(replace(plain, targets=dict.fromkeys(self.targets, 1.0)))
        self._reference = np.zeros((0, 1))
        if self.targets:
            in_use = np.tile(self._losses.point(plain.in_use), (len(objective.by_law(plain.in_use)), 1))
            self._reference = self._losses.each(in_use)[0].T

    def __call__(self, h: Array, rows: Rows | None = None) -> tuple[Array, Array]:
        """Return ratios (b, m) and gradients (b, m, k) at mixtures h (b, k); rows are as in `Objective`."""
        if not self.targets:
            return np.zeros((len(h), 0)), np.zeros((len(h), 0, h.shape[1]))
        values, gradients = self._losses.each(h, rows)
        reference = _of_rows(self._reference, rows).T
        return values / reference, gradients / reference[:, :, None]

    @property
    def convex(self) -> bool:
        """Whether all are known to be convex in h."""
        return not self.targets or self._losses.convex


class Goal:
    """The criterion that a question minimises, and its limits on losses.

    The criterion is the weighted mean of the targets' losses, or, for the objective "worst", the largest ratio of a
    target's loss to that of the first baseline, times the baseline's mean loss, so that it is in nats too.

    Parameters
    ----------
    objective : the laws, the question and the weighted mean
    """

    def __init__(self, objective: Objective) -> None:
        self.objective, question = objective, objective.question
        important = [t for t, w in question.targets.items() if w > 0]
        self._worst = RelativeLosses(objective, important if question.objective == WORST else ())
        self._scale = objective.by_law(question.in_use) if self._worst.targets else np.ones(1)
        self._limited = RelativeLosses(objective, question.not_worse)
        self._most = np.array([1 + percent / 100 for percent in question.not_worse.values()])
        self.plain = not (self._worst.targets or self._limited.targets)

    @property
    def convex(self) -> bool:
        """Whether criterion and limits are known to be convex in h, so that one start suffices."""
        return self.objective.convex and self._worst.convex and self._limited.convex

    def criteria(self, h: Array, rows: Rows | None = None) -> tuple[Array, Array]:
        """Return the values (b, p), of which the largest is minimised, and their gradients (b, p, k)."""
        if not self._worst.targets:
            value, gradient = self.objective(h, rows)
            return value[:, None], gradient[:, None]
        ratios, slopes = self._worst(h, rows)
        scale = _of_rows(self._scale, rows)
        penalty, by_h = self.objective.penalty(h)
        return ratios * scale[:, None] + penalty[:, None], slopes * scale[:, None, None] + by_h[:, None]

    def bounds(self, h: Array, rows: Rows | None = None) -> tuple[Array, Array]:
        """Return by how much limited losses exceed their limits (b, m), relatively, and gradients (b, m, k)."""
        ratios, slopes = self._limited(h, rows)
        return ratios / self._most - 1, slopes / self._most[:, None]

    def minimise(self, h: Array, limits: Limits, within: float = CONVERGED) -> tuple[Array, Array]:
        """Return the minima (b, k) from every start (b, k), and values (b,) that rank them."""
        if self.plain:
            return minimise_mixture(self.objective, h, limits, within)
        return minimise_bounded(self.criteria, self.bounds, h, limits, within)

    def lowest(self, h: Array, limits: Limits) -> Array:
        """Return (k,) the best minimum from several starts (b, k)."""
        ends, values = self.minimise(h, limits)
        best: Array = ends[int(values.argmin())]
        return best

    def penalised(self, h: Array) -> float:
        """Return the criterion at one mixture (k,), with the penalty of its distance to the mixture to stay near."""
        return float(self.criteria(h[None])[0].max())

    def loss(self, h: Array) -> Array:
        """Return criteria (b,) without that penalty."""
        return self.value(h) * self._scale

    def value(self, h: Array) -> Array:
        """Return what is reported of mixtures (b, k): the mean loss, or the largest ratio to the baseline's loss."""
        return self._worst(h)[0].max(1) if self._worst.targets else self.objective.loss(h)

    @property
    def unit(self) -> float:
        """The reported value per nat."""
        return float(1 / self._scale.mean())

    def loss_within(self, h: Array) -> Array:
        """Return criteria (b,) without that penalty, infinite where a limit on losses is exceeded."""
        return np.where(self.excess(h) > ROUGHLY_MET, np.inf, self.loss(h))

    def excess(self, h: Array) -> Array:
        """Return by how much the losses exceed their limits at most (b,), relatively; -1 without such limits."""
        largest: Array = self.bounds(h)[0].max(1, initial=-1.0)
        return largest

    def binding(self, h: Array) -> list[str]:
        """Return the targets whose loss at one mixture (k,) is at its limit."""
        return [t for t, g in zip(self._limited.targets, self.bounds(h[None])[0][0], strict=True) if g > -SLACK]

    def loosened(self, h: Array) -> "Goal":
        """Return the goal with limits that one mixture (k,) meets under the same laws."""
        other = Goal(self.objective)
        other._most = self._most * (1 + np.maximum(self.bounds(h[None])[0][0], 0.0))
        return other


def _of_rows(values: Array, rows: Rows | None) -> Array:
    """Return the values (..., b) of some laws, whose indices are taken modulo the number of laws; all by default."""
    return values if rows is None else values[..., rows % values.shape[-1]]
