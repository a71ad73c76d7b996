"""The loss of the big run as a function of its mixture."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixlaw.advice.constraints import Question, limits
from mixlaw.advice.simplex import Limits, Rows
from mixlaw.errors import FitError
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.fitting.widening import LEAST, deviations, factors
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import lifted
from mixlaw.laws.terms import TINY, Inputs
from mixlaw.mixture import Mixture
from mixlaw.tables.available import UNLIMITED

KNOWN_INPUTS = {"N", "D", "h", "share", "available", "phases"}
MEAN_OVER, COARSE_MEAN_OVER = 32, 8  # number of resampled laws in a mean
MOST_LOG = 5.0  # maximum log ratio of a widened loss to the fit
IN_CACHE = 50_000  # numbers of a law's terms per block, so that they fit into the processor's cache
Mixtures = Mapping[str, Mixture]  # by name


class Objective:
    """The weighted sum of targets' losses as a function of h.

    The objective is the mean over resampled laws, an estimate of the big run's expected loss: if equally plausible fits
    disagree, the minimum of their mean is a mixture that is good for all of them. `best_fit` uses the best parameters
    alone; `drawn` minimises each resampled law on its own. The KL penalty is part of the objective, not of the reported
    loss.

    Parameters
    ----------
    fit : the law
    question : the big run and the importance of its targets
    sizes : tokens per domain, for the laws that need them
    laws : "mean", "best" or "drawn"
    mean_over : number of resampled laws in the mean, or their indices; if `laws` is "drawn", their indices

    Raises
    ------
    FitError
        If the law does not depend on the mixture, or has inputs that a question does not provide.
    """

    def __init__(
        self,
        fit: FittedLaw,
        question: Question,
        sizes: Mapping[str, float],
        laws: str = "mean",
        mean_over: int | NDArray[np.int64] = MEAN_OVER,
    ) -> None:
        self.fit, self.question, self.sizes, self._laws = fit, question, sizes, laws
        self._law = fit.law
        if not self._law.mixes:
            other = f"multiplicative{''.join(fit.name.partition('-fixed')[1:])}"  # in the same form
            raise FitError(f"the {fit.name} law does not depend on the mixture: fit another, such as {other}")
        if self._law.uses - KNOWN_INPUTS:
            missing = ", ".join(sorted(self._law.uses - KNOWN_INPUTS))
            raise FitError(f"the {fit.name} law cannot recommend a mixture: it also needs {missing}")
        near: Mapping[str, float] = question.stay_near or {}
        self._near = np.array([max(near.get(d, 0.0), TINY) for d in fit.domains])
        fits = {t: fit.target(t) for t in question.targets}
        self._theta = {t: f.theta[None] if laws == "best" else f.draws for t, f in fits.items()}
        self._factor: dict[str, float] = {}
        self._over = self._typical_draws(mean_over) if laws == "mean" and isinstance(mean_over, int) else mean_over
        if not isinstance(self._over, int):
            self._theta = {t: theta[self._over] for t, theta in self._theta.items()}

    @property
    def parameters(self) -> Mapping[str, Array]:
        """Target -> (count, p) parameters of the laws."""
        return self._theta

    @property
    def separate(self) -> bool:
        """Whether every law has a mixture of its own, and their mean is not taken."""
        return self._laws == "drawn"

    @property
    def count(self) -> int:
        """Number of laws: in the mean, or minimised one by one."""
        return len(next(iter(self._theta.values())))

    @property
    def over(self) -> NDArray[np.int64]:
        """Indices of the resampled laws: those of the mean, or those minimised one by one."""
        return np.arange(self.count) if isinstance(self._over, int) else self._over

    def _typical_draws(self, count: int) -> NDArray[np.int64]:
        """Return the indices of resampled laws for the mean: evenly spaced quantiles without the outer 5 %.

        Laws are ordered by their predicted loss of the uniform mixture.
        """
        even = np.full((self.count, len(self.fit.domains)), 1 / len(self.fit.domains))
        order = np.argsort(Objective(self.fit, self.question, self.sizes, "drawn").loss(even))
        inside = order[self.count // 20 : self.count - self.count // 20]
        return inside[np.unique(np.linspace(0, len(inside) - 1, count).round().astype(int))]

    def _widening(self, target: str) -> float:
        """Return the factor of resampled laws' deviations from the fit, see `mixlaw.fitting.widening`."""
        if target not in self._factor:
            fit, even = self.fit.target(target), np.full((len(self.fit.domains), 1), 1 / len(self.fit.domains))
            x = self._of_own(self._inputs(even), target)
            centre, drawn = self._law.loss(fit.theta[None], x)[0], self._law.loss(fit.draws, x)
            self._factor[target] = float(factors(fit.widening, centre, drawn, self.fit.beyond(x))[0])
        return self._factor[target]

    def asking(self, question: Question) -> "Objective":
        """Return the objective of another question with the same laws."""
        return Objective(self.fit, question, self.sizes, self._laws, self._over)

    def unlimited(self) -> "Objective":
        """Return the objective without any limit, and with unlimited tokens of all domains."""
        tokens = dict.fromkeys(self.fit.domains, UNLIMITED)
        return self.asking(replace(self.question.unlimited(), available=tokens))

    def coarse(self) -> "Objective":
        """Return the mean over fewer resampled laws, for evaluation at many mixtures."""
        return Objective(self.fit, self.question, self.sizes, "mean", COARSE_MEAN_OVER)

    def best_fit(self) -> "Objective":
        """Return the loss under the best parameters alone."""
        return Objective(self.fit, self.question, self.sizes, "best")

    def drawn(self, most: int | None = None) -> "Objective":
        """Return the resampled laws, each with a mixture of its own: all, or at most `most`, evenly spaced."""
        count = len(self.fit.target(next(iter(self.question.targets))).draws)
        which = np.unique(np.linspace(0, count - 1, min(most or count, count)).round().astype(np.int64))
        return Objective(self.fit, self.question, self.sizes, "drawn", which)

    def unwidened(self) -> "Objective":
        """Return the mean over resampled laws whose intervals are not widened, for the differences of two runs."""
        return Objective(self.fit.widened_by(1.0, {}), self.question, self.sizes)

    def of(self, target: str) -> "Objective":
        """Return the loss of one target."""
        return self.asking(replace(self.question, targets={target: 1.0}))

    @property
    def reads(self) -> frozenset[str]:
        """Inputs of the law: of N, D, h, share, available."""
        return self._law.uses

    @property
    def convex(self) -> bool:
        """Whether it is known to be convex in h, so that one start suffices; False for widened losses."""
        k = len(self.fit.domains)
        return self._laws != "drawn" and all(self._law.convex(p, k) for theta in self._theta.values() for p in theta)

    @property
    def limits(self) -> Limits:
        """The feasible set."""
        return limits(self.fit.domains, self.question)

    def __call__(self, h: Array, rows: Rows | None = None) -> tuple[Array, Array]:
        """Return the objective (b,) and its gradient (b, k) at mixtures h (b, k).

        Parameters
        ----------
        h : one mixture per resampled law if `laws` is "drawn"
        rows : (b,) indices of these resampled laws, modulo their number; all by default
        """
        total, gradient = self._losses(h, rows)
        if self.question.kl_penalty:
            penalty, slope = self.penalty(h)
            total, gradient = total + penalty, gradient + slope
        return total, gradient

    def penalty(self, h: Array) -> tuple[Array, Array]:
        """Return the penalties (b,) of the distance to the mixture to stay near, and their gradients (b, k)."""
        safe, strength = np.maximum(h, 1e-12), self.question.kl_penalty
        ratio = np.log(safe / self._near)
        return strength * (safe * ratio).sum(1), strength * (ratio + 1)

    def loss(self, h: Array) -> Array:
        """Return losses (b,) without the penalty."""
        return self._losses(h)[0]

    def point(self, mixture: Mixture) -> Array:
        """Return (k,) the weights of a mixture."""
        return mixture.array

    def mixture(self, point: Array) -> Mixture:
        """Return the mixture of a point (k,)."""
        return as_mixture(self.fit.domains, point)

    def inputs(self, h: Array) -> Inputs:
        """Return the law's inputs for the big run on mixtures h (b, k)."""
        return self._inputs(h.T)

    def compared(self, mixture: Mixture) -> Array:
        """Return what the scatter of two runs is compared by, see `mixlaw.fitting.fitted.FittedLaw.compared`."""
        return mixture.array

    def at(self, mixture: Mixture | Array) -> float:
        """Return the loss of one mixture, a `Mixture` or weights (k,)."""
        h = self.point(mixture) if isinstance(mixture, Mixture) else mixture
        return float(self.loss(h[None])[0])

    def curve(self, mixture: Mixture, n_params: Array, n_tokens: Array) -> Array:
        """Return the losses of one mixture at other N and D (n,): (b, n) if `laws` is "drawn", else their mean (1, n).

        Resampled laws are not widened: their slopes over N and D are what the runs support.
        """
        x, total = (
            self._inputs(np.tile(self.point(mixture)[:, None], len(n_params)), n_params, n_tokens).grouped(),
            np.zeros(1),
        )
        for target, importance in self.question.targets.items():
            total = total + importance * self._law.loss(self._theta[target], self._of_own(x, target))
        return total if self._laws == "drawn" else total.mean(0, keepdims=True)

    def by_law(self, mixture: Mixture) -> Array:
        """Return the losses of one mixture under every law (count,), or their mean (1,) if a mean is minimised."""
        return self.loss(np.tile(self.point(mixture), (self.count if self._laws == "drawn" else 1, 1)))

    def _losses(self, h: Array, rows: Rows | None = None) -> tuple[Array, Array]:
        """Return losses (b,) and gradients (b, k): means over the laws, or those of each law at its own row.

        Means are computed in blocks of mixtures whose terms fit into the processor's cache.
        """
        if self._laws == "drawn":
            theta = self._theta if rows is None else {t: each[rows % self.count] for t, each in self._theta.items()}
            total, gradient = self._weighted(theta, h[:, :, None])
            total, gradient = total[:, 0], gradient[:, :, 0]
        else:
            at_once = max(IN_CACHE // (len(next(iter(self._theta.values()))) * h.shape[1]), 1)
            parts = [self._mean(h[i : i + at_once]) for i in range(0, len(h), at_once)]
            total, gradient = (np.concatenate(each) for each in zip(*parts, strict=True))
        return total, gradient * self._slope(h)

    def each(self, h: Array, rows: Rows | None = None) -> tuple[Array, Array]:
        """Return the losses (b, m) of the m targets of any importance, and their gradients (b, m, k).

        All targets are evaluated at once, which saves most of the time where mixtures are few.

        Parameters
        ----------
        h, rows : as in a call
        """
        if "share" in self._law.uses:  # each target reads an input of its own
            parts = [self.of(target)._losses(h, rows) for target in self.question.targets]
            return np.stack([value for value, _ in parts], 1), np.stack([gradient for _, gradient in parts], 1)
        drawn, m = self._laws == "drawn", len(self._theta)
        laws = np.arange(len(h)) if rows is None else rows
        theta = np.stack([each[laws % self.count] if drawn else each for each in self._theta.values()])
        count, k = theta.shape[1], h.shape[1]
        x = self._inputs(np.tile(h, (m, 1))[:, :, None] if drawn else h.T)
        value, by_h = self._loss_and_gradient(theta.reshape(m * count, -1), x)
        if drawn:
            centres = np.repeat([self.fit.target(t).theta for t in self._theta], count, 0)
            factors = np.repeat([self._widening(t) for t in self._theta], count)[:, None]
            value, by_h = self._widened(centres, x, factors, value, by_h)
            value, by_h = value.reshape(m, count).T, by_h.reshape(m, count, k).transpose(1, 0, 2)
        else:
            value = value.reshape(m, count, -1).mean(1).T
            by_h = by_h.reshape(m, count, k, -1).mean(1).transpose(2, 0, 1)
        return value, by_h * self._slope(h)[:, None]

    def _mean(self, h: Array) -> tuple[Array, Array]:
        """Return the mean losses (b,) of mixtures (b, k) over the laws, and their gradients by the lifted weights."""
        total, gradient = self._weighted(self._theta, h.T)
        return total.mean(0), gradient.mean(0).T

    def _weighted(self, theta: Mapping[str, Array], h: Array) -> tuple[Array, Array]:
        """Return weighted losses (b, n) and gradients (b, k, n) of b laws at mixtures (k, n) or (b, k, n)."""
        x, total, gradient = self._inputs(h), np.zeros(1), np.zeros(1)
        for target, importance in self.question.targets.items():
            own = self._of_own(x, target)
            value, by_h = self._loss_and_gradient(theta[target], own)
            if self._laws == "drawn" and (factor := self._widening(target)) != 1.0:
                centre = np.tile(self.fit.target(target).theta, (len(value), 1))
                value, by_h = self._widened(centre, own, np.full((len(value), 1), factor), value, by_h)
            total, gradient = total + importance * value, gradient + importance * by_h
        return total, gradient

    def _widened(self, theta: Array, x: Inputs, factor: Array, value: Array, by_h: Array) -> tuple[Array, Array]:
        """Return resampled losses (b, n) and gradients (b, k, n), their deviations from the fit times factors.

        Parameters
        ----------
        theta, factor : parameters (b, p) of the fit around which each resampled law is widened, and its factor (b, 1)
        value, by_h : losses and gradients of the resampled laws
        """
        centre, centre_by_h = self._loss_and_gradient(theta, x)
        safe, safe_centre = np.maximum(value, LEAST), np.maximum(centre, LEAST)
        far = safe_centre * np.exp(np.minimum(factor * deviations(centre, value), MOST_LOG))
        wider = factor[:, None]
        slope = wider * by_h / safe[:, None] - (wider - 1) * centre_by_h / safe_centre[:, None]
        return far, far[:, None] * slope

    def _loss_and_gradient(self, theta: Array, x: Inputs) -> tuple[Array, Array]:
        """Return losses (b, n) of parameters (b, p), and their gradients (b, k, n) by the lifted weights."""
        return self._law.loss_and_gradient_h(theta, x)

    def _slope(self, h: Array) -> Array:
        """Return (b, k) the derivatives of the lifted weights by those of mixtures (b, k)."""
        return lifted(h)[1]

    def _of_own(self, x: Inputs, target: str) -> Inputs:
        """Return the inputs with the target's domain, if the law depends on the target's own share."""
        if "share" not in self._law.uses:
            return x
        return replace(x, target=np.full(x.h.shape[-1], self.fit.domains.index(target)))

    def _inputs(self, h: Array, n_params: Array | None = None, n_tokens: Array | None = None) -> Inputs:
        """Return the inputs at mixtures h (k, n), or (b, k, n) with mixtures per parameter vector.

        Parameters
        ----------
        n_params, n_tokens : (n,) N and D of runs; by default those of the big run
        """
        domains, units, more = self.fit.domains, self.fit.units, dict[str, Any]()
        if "available" in self._law.uses:
            known = dict(self.sizes) | self.question.available
            tokens = np.array([[known.get(d, UNLIMITED) / units.n_tokens] for d in domains])
            more["columns"] = {"available": np.repeat(tokens, h.shape[-1], axis=1)}
        n = np.full(h.shape[-1], self.question.n_params) if n_params is None else n_params
        d = np.full(h.shape[-1], self.question.n_tokens) if n_tokens is None else n_tokens
        return units.inputs(n, d, h, **more)


def run_noise(objective: Objective, seeds: Mapping[str, float]) -> float:
    """Return the sd of one run's loss [nats]: between seeds if runs were repeated, else around the law.

    The noise of targets is taken to be perfectly correlated, which is conservative.
    """
    total, fit = 0.0, objective.fit
    for target, importance in objective.question.targets.items():
        around = float(1.4826 * np.median(np.abs(fit.target(target).noise)))
        if fit.logarithmic:
            around *= objective.of(target).at(np.full(len(fit.domains), 1 / len(fit.domains)))
        total += importance * seeds.get(target, around)
    return total


def as_mixture(domains: Sequence[str], h: Array) -> Mixture:
    """Return weights (k,) as a mixture; weights below 1e-6 become zero."""
    kept = np.where(h < 1e-6, 0.0, h)
    return Mixture(domains, kept / kept.sum())
