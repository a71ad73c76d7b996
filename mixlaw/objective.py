"""The loss of the big run as a function of its mixture, and the mixture where it is lowest."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mixlaw.errors import FitError
from mixlaw.fit import LawFit
from mixlaw.laws import get_law, lifted
from mixlaw.question import Question, limits
from mixlaw.simplex import Limits, lowest, minimise_mixture, starts
from mixlaw.slopes import Array
from mixlaw.terms import TINY, Inputs

KNOWN_INPUTS = {"N", "D", "h", "share", "available"}
Mixtures = Mapping[str, Mapping[str, float]]


class Objective:
    """The weighted sum of targets' losses as a function of h, for the best parameters or for all draws at once.

    A pull towards a prior is part of what is minimised, not of the loss that is reported.

    Parameters
    ----------
    fit : the law
    question : the big run, and which targets count how much
    sizes : tokens per domain, for the laws that need them
    drawn : use the resampled laws, of which there are `count`, instead of the best parameters

    Raises
    ------
    FitError
        If the law does not depend on the mixture, or needs what a question does not say.
    """

    def __init__(self, fit: LawFit, question: Question, sizes: Mapping[str, float], drawn: bool = False) -> None:
        self.fit, self.question, self.sizes, self.is_drawn = fit, question, sizes, drawn
        self._law = get_law(fit.law)
        if not self._law.mixes:
            raise FitError(f"the {fit.law} law does not depend on the mixture; fit additive or joint to recommend one")
        if self._law.uses - KNOWN_INPUTS:
            missing = ", ".join(sorted(self._law.uses - KNOWN_INPUTS))
            raise FitError(f"the {fit.law} law cannot recommend a mixture: it needs {missing} besides")
        self._theta = {t: fit.target(t).draws if drawn else fit.target(t).theta[None] for t in question.targets}
        self.count = len(next(iter(self._theta.values())))
        self._prior = np.array([max(question.prior.get(d, 0.0), TINY) for d in fit.domains_])

    def asking(self, question: Question) -> "Objective":
        """Return the same law under another question."""
        return Objective(self.fit, question, self.sizes, self.is_drawn)

    def drawn(self) -> "Objective":
        """Return all resampled laws at once."""
        return Objective(self.fit, self.question, self.sizes, drawn=True)

    def of(self, target: str) -> "Objective":
        """Return the loss of one target."""
        return self.asking(replace(self.question, targets={target: 1.0}))

    @property
    def limits(self) -> Limits:
        """Where the mixture must stay."""
        return limits(self.fit.domains_, self.question)

    def __call__(self, h: Array) -> tuple[Array, Array]:
        """Return what is minimised (b,) and its gradient (b, k) for mixtures h (b, k), one per draw where drawn."""
        total, gradient = self._losses(h)
        if self.question.pull:
            safe = np.maximum(h, 1e-12)
            total = total + self.question.pull * (safe * np.log(safe / self._prior)).sum(1)
            gradient = gradient + self.question.pull * (np.log(safe / self._prior) + 1)
        return total, gradient

    def loss(self, h: Array) -> Array:
        """Return losses (b,) alone."""
        return self._losses(h)[0]

    def at(self, weights: Mapping[str, float] | Array) -> float:
        """Return the loss of one mixture, under the best parameters."""
        h = np.array(list(weights.values())) if isinstance(weights, Mapping) else weights
        return float(self.loss(h[None])[0])

    def _losses(self, h: Array) -> tuple[Array, Array]:
        total, gradient = np.zeros(len(h)), np.zeros(h.shape)
        for target, importance in self.question.targets.items():
            value, by_h = self._target(target, self._inputs(target, h))
            total += importance * value
            gradient += importance * by_h
        return total, gradient * lifted(h)[1]

    def _target(self, target: str, x: Inputs) -> tuple[Array, Array]:
        theta = self._theta[target]
        value, by_h = self._law.loss_and_gradient_h(np.repeat(theta, len(x.h), 0) if len(theta) == 1 else theta, x)
        return value[:, 0], by_h[..., 0]

    def _inputs(self, target: str, h: Array) -> Inputs:
        """Return the big run under mixtures h (b, k), one for each parameter vector."""
        domains, units, more = self.fit.domains_, self.fit.units_, dict[str, Any]()
        if "share" in self._law.uses:
            more["target"] = np.array([domains.index(target)])
        if "available" in self._law.uses:
            known = dict(self.sizes) | self.question.available
            missing = [d for d in domains if d not in known]
            if missing:
                raise FitError(
                    f"the {self.fit.law} law needs the tokens of each domain: --available {missing[0]}=TOKENS"
                )
            more["columns"] = {"available": np.array([[known[d] / units.n_tokens] for d in domains])}
        n, d = np.array([self.question.n_params]), np.array([self.question.n_tokens])
        return units.inputs(n, d, h[:, :, None], **more)


def optimum(objective: Objective, rivals: Mixtures) -> Array:
    """Return (k,) the best mixture for a question: the lowest of several starts, the only minimum where h is convex."""
    where = objective.limits
    return lowest(objective, np.vstack([starts(where), *(list(m.values()) for m in rivals.values())]), where)


def drawn_optima(draws: Objective, points: list[Array]) -> Array:
    """Return (b, k) the optimum of every drawn law: the lowest of what is reached from a few points."""
    where = draws.limits
    found = [minimise_mixture(draws, np.repeat(p[None], draws.count, 0), where) for p in points]
    which = np.stack([values for _, values in found]).argmin(0)
    best: Array = np.stack([ends for ends, _ in found])[which, np.arange(draws.count)]
    return best


def run_noise(objective: Objective, seeds: Mapping[str, float]) -> float:
    """Return the sd [nats] by which one run's loss scatters: over seeds where runs were repeated, else around the law.

    Targets are taken to scatter together, which is the cautious way.
    """
    total, fit = 0.0, objective.fit
    for target, importance in objective.question.targets.items():
        around = float(1.4826 * np.median(np.abs(fit.target(target).noise)))
        if fit.residuals == "log":
            around *= objective.of(target).at(np.full(len(fit.domains_), 1 / len(fit.domains_)))
        total += importance * seeds.get(target, around)
    return total


def clean(h: Array) -> list[float]:
    """Return weights with the numerically zero ones at zero, summing to one."""
    kept = np.where(h < 1e-6, 0.0, h)
    return [float(w) for w in kept / kept.sum()]
