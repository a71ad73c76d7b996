"""The loss of the big run as a function of its mixture, and the mixture where it is lowest."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixlaw.errors import FitError
from mixlaw.fit import LawFit
from mixlaw.laws import get_law, lifted
from mixlaw.question import Question, limits
from mixlaw.simplex import Limits, lowest, minimise_mixture, starts
from mixlaw.slopes import Array
from mixlaw.terms import TINY, Inputs
from mixlaw.widening import LEAST, deviations, factors

KNOWN_INPUTS = {"N", "D", "h", "share", "available"}
MEAN_OVER, COARSE_MEAN_OVER = 32, 8  # resampled laws that a mean is over
MOST_LOG = 5.0  # log ratio to the fit beyond which a widened loss is not followed
Mixtures = Mapping[str, Mapping[str, float]]


class Objective:
    """The weighted sum of targets' losses as a function of h.

    It is the mean over resampled laws, because what is to be low is the loss that the big run will have, not the one
    that a single fit predicts: where fits that the data cannot tell apart disagree, their mean is lowest at a mixture
    that is good for all of them. `best_fit` is the loss under the best parameters alone, `drawn` every resampled law's
    own. A pull towards a prior is part of what is minimised, not of the loss that is reported.

    Parameters
    ----------
    fit : the law
    question : the big run, and which targets count how much
    sizes : tokens per domain, for the laws that need them
    laws : "mean", "best" or "drawn"
    mean_over : over how many resampled laws, or which

    Attributes
    ----------
    count : how many resampled laws there are, where `laws` is "drawn"

    Raises
    ------
    FitError
        If the law does not depend on the mixture, or needs what a question does not say.
    """

    def __init__(
        self,
        fit: LawFit,
        question: Question,
        sizes: Mapping[str, float],
        laws: str = "mean",
        mean_over: int | NDArray[np.int64] = MEAN_OVER,
    ) -> None:
        self.fit, self.question, self.sizes, self._laws = fit, question, sizes, laws
        self._law = get_law(fit.law)
        if not self._law.mixes:
            other = f"multiplicative{''.join(fit.law.partition('-fixed')[1:])}"  # in the same form
            raise FitError(f"the {fit.law} law does not depend on the mixture: fit another, such as {other}")
        if self._law.uses - KNOWN_INPUTS:
            missing = ", ".join(sorted(self._law.uses - KNOWN_INPUTS))
            raise FitError(f"the {fit.law} law cannot recommend a mixture: it needs {missing} besides")
        self._prior = np.array([max(question.prior.get(d, 0.0), TINY) for d in fit.domains_])
        fits = {t: fit.target(t) for t in question.targets}
        self._theta = {t: f.theta[None] if laws == "best" else f.draws for t, f in fits.items()}
        self.count = len(next(iter(self._theta.values())))
        self._factor: dict[str, float] = {}
        if laws == "mean":
            self._over = self._typical_draws(mean_over) if isinstance(mean_over, int) else mean_over
            self._theta = {t: theta[self._over] for t, theta in self._theta.items()}

    def _typical_draws(self, count: int) -> NDArray[np.int64]:
        """Return which resampled laws the mean is over: some, evenly from all but the outer twentieths.

        They are ordered by the loss that they predict for the uniform mixture.
        """
        even = np.full((self.count, len(self.fit.domains_)), 1 / len(self.fit.domains_))
        order = np.argsort(Objective(self.fit, self.question, self.sizes, "drawn").loss(even))
        inside = order[self.count // 20 : self.count - self.count // 20]
        return inside[np.unique(np.linspace(0, len(inside) - 1, count).round().astype(int))]

    def _widening(self, target: str) -> float:
        """Return by what a resampled law's deviations from the fit are multiplied, see `mixlaw.widening`."""
        if target not in self._factor:
            fit, even = self.fit.target(target), np.full((1, len(self.fit.domains_)), 1 / len(self.fit.domains_))
            x = self._inputs(target, even)
            centre, drawn = self._law.loss(fit.theta[None], x)[0], self._law.loss(fit.draws, x)
            self._factor[target] = float(factors(fit.widening, centre, drawn, self.fit.beyond(x))[0])
        return self._factor[target]

    def asking(self, question: Question) -> "Objective":
        """Return the same laws under another question."""
        over = {"mean_over": self._over} if self._laws == "mean" else {}
        return Objective(self.fit, question, self.sizes, self._laws, **over)

    def coarse(self) -> "Objective":
        """Return the mean over fewer resampled laws, for what is asked at many mixtures."""
        return Objective(self.fit, self.question, self.sizes, "mean", COARSE_MEAN_OVER)

    def best_fit(self) -> "Objective":
        """Return the loss under the best parameters alone."""
        return Objective(self.fit, self.question, self.sizes, "best")

    def drawn(self) -> "Objective":
        """Return all resampled laws at once, each with a mixture of its own."""
        return Objective(self.fit, self.question, self.sizes, "drawn")

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
        """Return the loss of one mixture."""
        h = np.array(list(weights.values())) if isinstance(weights, Mapping) else weights
        return float(self.loss(h[None])[0])

    def _losses(self, h: Array) -> tuple[Array, Array]:
        """Return losses (b,) and gradients (b, k): means over the laws, or, where drawn, each law's at its own row."""
        each = 1 if self._laws == "drawn" else len(next(iter(self._theta.values())))
        every = np.repeat(h, each, 0)
        total, gradient = np.zeros(len(every)), np.zeros(every.shape)
        for target, importance in self.question.targets.items():
            theta = self._theta[target] if self._laws == "drawn" else np.tile(self._theta[target], (len(h), 1))
            value, by_h = self._law.loss_and_gradient_h(theta, self._inputs(target, every))
            if self._laws == "drawn" and (factor := self._widening(target)) != 1.0:
                value, by_h = self._widened(target, every, factor, value, by_h)
            total += importance * value[:, 0]
            gradient += importance * by_h[..., 0]
        gradient *= lifted(every)[1]
        return total.reshape(len(h), each).mean(1), gradient.reshape(len(h), each, -1).mean(1)

    def _widened(self, target: str, h: Array, factor: float, value: Array, by_h: Array) -> tuple[Array, Array]:
        """Return resampled losses (b, 1) and gradients (b, k, 1) whose deviations from the fit are multiplied."""
        theta = np.broadcast_to(self.fit.target(target).theta, (len(h), self.fit.target(target).theta.size))
        centre, centre_by_h = self._law.loss_and_gradient_h(theta, self._inputs(target, h))
        safe, safe_centre = np.maximum(value, LEAST), np.maximum(centre, LEAST)
        far = safe_centre * np.exp(np.minimum(factor * deviations(centre, value), MOST_LOG))
        slope = factor * by_h / safe[:, None] - (factor - 1) * centre_by_h / safe_centre[:, None]
        return far, far[:, None] * slope

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
    """Return (k,) the best mixture for a question: the lowest of several starts, the only minimum where h is convex.

    The best fit alone is minimised first, from everywhere; the mean over resampled laws from there and from the rivals.
    """
    where, plain = objective.limits, [list(m.values()) for m in rivals.values()]
    single = lowest(objective.best_fit(), np.vstack([starts(where), *plain]), where)
    return lowest(objective, np.vstack([single, starts(where)[0], *plain]), where)


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
