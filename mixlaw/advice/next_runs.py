"""Bayesian experimental design: choose the next runs, and the errors to expect of a study, from Fisher information.

A law linearised in its parameters has a posterior in closed form: the information of the runs' losses adds up, and the
variance of any prediction follows (Chaloner and Verdinelli 1995, Statistical Science 10). The decision is the mixture
of the big run, not the law, so we minimise the variance of differences between candidate optima at the big run's N and
D: I-optimality (average variance of predictions) over contrasts. Because the parameters are not known when runs are
chosen, everything is averaged over resampled laws.

Legend of shapes: b parameter vectors, p parameters, n rows, c candidate runs of m rows each, q contrasts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.advice.constraints import Question
from mixlaw.advice.objective import Objective
from mixlaw.advice.optima import drawn_optima, optimum
from mixlaw.advice.simplex import starts
from mixlaw.errors import ConfigError, FitError
from mixlaw.fitting.fitted import FittedLaw, FittedTarget
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import Law, Units
from mixlaw.laws.registry import get_law
from mixlaw.tables.columns import LOSS
from mixlaw.tables.table import Table

LINEAR_AT = 16  # resampled laws at which laws are linearised
N_PRIOR_DRAWS = 48  # laws drawn from the prior, for a study without runs
LEAST_NOISE = 1e-5  # nats; keeps the information of noise-free runs finite
N_POSTERIOR_DRAWS = 24  # laws drawn from the posterior of a study, for the spread of h*
FLAT_PRIOR = 10.0  # sd that stands for a flat prior; most parameters are logarithms
Points = tuple[int, float]  # number of evaluations of a run, and ratio of D between them: evaluation.n_points, ratio


@dataclass(frozen=True)
class Noise:
    """Scatter of losses around a law [nats]: sd between runs (shared by a run's rows) and sd within runs."""

    run: float
    row: float

    @classmethod
    def of(cls, fit: FittedLaw, table: Table, target: str) -> "Noise":
        """Return the noise estimated from the residuals of a fit."""
        table = table.rows(table.frame[LOSS + target].notna())
        seen = fit.predict(table, targets=[target])
        residual = (seen["predicted"] - seen["observed"]).to_numpy(float)
        runs = pd.Series(residual).groupby(table.runs())
        row, run = (1.4826 * float(np.median(np.abs(off))) for off in (residual - runs.transform("mean"), runs.mean()))
        return cls(max(run, LEAST_NOISE), max(row, LEAST_NOISE))

    def whiten(self, jacobian: Array, runs: NDArray[np.int64]) -> Array:
        """Return the Jacobian (b, p, n) of whitened losses; the rows of a run must be consecutive.

        The covariance of a run's m rows, run^2 11' + row^2 I, has the eigenvalues m run^2 + row^2, for their mean, and
        row^2.
        """
        starts = np.flatnonzero(np.append(True, np.diff(runs) != 0))
        length = np.diff(np.append(starts, len(runs)))
        mean = np.add.reduceat(jacobian, starts, axis=-1) / length
        shrunk = mean * (1 - self.row / np.sqrt(self.row**2 + length * self.run**2))
        whitened: Array = (jacobian - np.repeat(shrunk, length, axis=-1)) / self.row
        return whitened


@dataclass
class Posterior:
    """Linearised posterior of one target's law: covariance (b, p, p) around each of b parameter vectors."""

    law: Law
    units: Units
    theta: Array
    noise: Noise
    covariance: Array

    @classmethod
    def prior(cls, law: Law, units: Units, theta: Array, noise: Noise, k: int) -> "Posterior":
        """Return the prior."""
        sd = law.term.prior(k)[1]
        sd = np.where(np.isfinite(sd), sd, FLAT_PRIOR)
        covariance: Array = np.tile(np.diag(sd**2), (len(theta), 1, 1))
        return cls(law, units, theta, noise, covariance)

    def jacobian(self, n_params: Array, n_tokens: Array, h: Array) -> Array:
        """Return the Jacobian (b, p, n) of losses at N, D (n,) and mixtures h (n, k)."""
        return self.law.loss_and_jacobian(self.theta, self.units.inputs(n_params, n_tokens, h.T))[1]

    def given(self, runs: pd.DataFrame, domains: Sequence[str], points: Points | None = None) -> "Posterior":
        """Return the posterior given further runs.

        Parameters
        ----------
        runs : n_params, n_tokens and weight_<domain> of runs; or, without `points`, of rows, with their run_id
        """
        rows = runs.sort_values("run_id", kind="stable") if points is None else curves(runs, points)
        number = pd.factorize(rows["run_id"])[0]
        seen = self.noise.whiten(self.jacobian(*_inputs(rows, domains)), number)
        information = np.linalg.inv(self.covariance) + seen @ seen.swapaxes(1, 2)
        covariance: Any = np.linalg.inv(information)
        return replace(self, covariance=covariance)

    def sd(self, jacobian: Array) -> Array:
        """Return (b, q) the sd [nats] of quantities with this Jacobian (b, p, q)."""
        variance = np.einsum("bpq,bpr,brq->bq", jacobian, self.covariance, jacobian)
        sd: Array = np.sqrt(np.maximum(variance, 0.0))
        return sd


def curves(runs: pd.DataFrame, points: Points) -> pd.DataFrame:
    """Return the rows of planned runs: one per evaluation, on a logarithmic grid that ends at n_tokens."""
    count, ratio = points
    rows = runs.loc[runs.index.repeat(count)].assign(run_id=np.repeat(np.arange(len(runs)), count))
    return rows.assign(
        n_tokens=rows["n_tokens"].to_numpy() * np.tile(ratio ** -np.arange(count - 1.0, -1, -1), len(runs))
    )


def _inputs(rows: pd.DataFrame, domains: Sequence[str]) -> tuple[Array, Array, Array]:
    h = rows[[f"weight_{d}" for d in domains]].to_numpy(float)
    return rows["n_params"].to_numpy(float), rows["n_tokens"].to_numpy(float), h


@dataclass
class Proposal:
    """The chosen runs, in the order of the choice.

    Attributes
    ----------
    runs : rows of the candidates, with `sd_before` and `sd_after` [nats]: sd of the loss differences between
        contenders before and after each run, given the runs above it
    contenders : (q, k) mixtures that may be optimal
    best : (k,) the mixture that would be recommended now
    """

    runs: pd.DataFrame
    contenders: Array
    best: Array


def next_runs(
    laws: FittedLaws,
    question: Question,
    table: Table,
    candidates: pd.DataFrame,
    count: int,
    points: Points = (7, 1.3),
    by: str = "flops",
) -> Proposal:
    """Choose greedily the runs that reduce the uncertainty of the decision most.

    Parameters
    ----------
    laws : fitted laws; the chosen one is used
    question : the big run and the importance of its targets
    table : the runs that the laws were fitted to
    candidates : n_params, n_tokens, flops and weight_<domain> of runs that could be trained; duplicates, and runs
        that the table already has, are left out
    count : number of runs to choose
    by : "flops": variance reduction per FLOP; "runs": variance reduction per run, whatever it costs

    Raises
    ------
    ConfigError
        If there are fewer candidates than `count`.
    """
    identity = ["n_params", "n_tokens", *(f"weight_{d}" for d in table.domains)]
    candidates = candidates[~trained(candidates, table)].sort_values("flops", kind="stable")
    candidates = candidates.drop_duplicates(identity, ignore_index=True)
    if count > len(candidates):
        raise ConfigError(f"cannot choose {count} runs from {len(candidates)} candidates: ask for fewer or offer more")
    fit = laws.best
    decision = Decision(fit, question, laws.sizes, table, points)
    cost = candidates["flops"].to_numpy(float) if by == "flops" else np.ones(len(candidates))
    offers = decision.whitened(candidates)
    chosen, before = list[int](), decision.sd()
    trail = []
    for _ in range(count):
        gain = sum(k.gain(o) for k, o in zip(decision.parts, offers, strict=True)) / cost
        if not np.isfinite(gain).all():
            raise FitError(
                "the information gain of the candidates is not finite: check the laws' parameters, or fit again"
            )
        gain[chosen] = -np.inf
        best = int(np.argmax(gain))
        for part, offer in zip(decision.parts, offers, strict=True):
            part.update(offer[:, :, best])
        chosen.append(best)
        trail.append((before, before := decision.sd()))
    picked = candidates.iloc[chosen].reset_index(drop=True)
    picked[["sd_before", "sd_after"]] = trail
    return Proposal(picked, decision.contenders, decision.best)


def trained(candidates: pd.DataFrame, table: Table) -> NDArray[np.bool_]:
    """Return (c,) whether a table has the run already: N and D to 5 % (steps are whole), weights to 0.003."""
    last = table.frame.sort_values("n_tokens").groupby("run_id").tail(1)
    near = np.ones((len(candidates), len(last)), dtype=bool)
    for name in ("n_params", "n_tokens"):
        near &= np.abs(np.log(np.divide.outer(candidates[name].to_numpy(float), last[name].to_numpy(float)))) < 0.05
    for domain in table.domains:
        asked = f"requested_{domain}" if f"requested_{domain}" in last else f"weight_{domain}"
        own, there = candidates[f"weight_{domain}"].to_numpy(float), last[asked].to_numpy(float)
        near &= np.abs(np.subtract.outer(own, there)) < 0.003
    return np.array([bool(row.any()) for row in near], dtype=bool)


class Decision:
    """The choice of the big run's mixture, and how uncertain the loss differences between contenders are.

    Parameters
    ----------
    fit : the law
    question : the big run, and the constraints on its mixture
    sizes : tokens per domain, for the laws that need them
    table : the runs that the law was fitted to
    points : evaluations of each further run
    """

    def __init__(
        self, fit: FittedLaw, question: Question, sizes: dict[str, float], table: Table, points: Points
    ) -> None:
        self._domains, self._points = fit.domains, points
        objective = Objective(fit, question, sizes)
        self.best = optimum(objective, {})
        self.contenders = drawn_optima(objective.drawn(), [self.best, starts(objective.limits)[0]])
        big = np.full(len(self.contenders) + 1, question.n_params), np.full(len(self.contenders) + 1, question.n_tokens)
        mixtures = np.vstack([self.contenders, self.best])
        self.parts = []
        for target, importance in question.targets.items():
            if importance:
                known = posterior_of(fit, table, target)
                jacobian = known.jacobian(*big, mixtures)
                self.parts.append(Part(known, importance * (jacobian[..., :-1] - jacobian[..., -1:])))

    def sd(self) -> float:
        """Return the sd of loss differences to the best mixture [nats], root mean square over contenders and laws."""
        return float(np.sqrt(sum(part.variance() for part in self.parts)))

    def whitened(self, candidates: pd.DataFrame) -> list[Array]:
        """Return, per part, the whitened Jacobian (b, p, c, m) of the candidates' losses."""
        rows = curves(candidates, self._points)
        place, found = rows["run_id"].to_numpy(), []
        for part in self.parts:
            seen = part.posterior.noise.whiten(part.posterior.jacobian(*_inputs(rows, self._domains)), place)
            found.append(seen.reshape(*seen.shape[:2], len(candidates), self._points[0]))
        return found


def posterior_of(fit: FittedLaw, table: Table, target: str) -> Posterior:
    """Return the posterior of a target's law given a table of runs, linearised at some of the resampled laws.

    Raises
    ------
    FitError
        If the law has inputs beside N, D and h, which candidates do not have.
    """
    law, draws = fit.law, fit.target(target).draws
    if law.uses - {"N", "D", "h"} or law.joint_targets:
        raise FitError(f"the {law.name} law cannot say which runs to train next: fit multiplicative, additive or joint")
    every = draws[np.unique(np.linspace(0, len(draws) - 1, LINEAR_AT).round().astype(int))]
    noise = Noise.of(fit, table, target)
    rows = table.frame[table.frame[LOSS + target].notna()]
    return Posterior.prior(law, fit.units, every, noise, len(fit.domains)).given(rows, fit.domains)


@dataclass
class Part:
    """One target of a decision: the posterior of its law, and the Jacobian of the contrasts (b, p, q)."""

    posterior: Posterior
    contrasts: Array

    def variance(self) -> float:
        """Return the mean variance of the contrasts [nats^2]."""
        return float((self.posterior.sd(self.contrasts) ** 2).mean())

    def gain(self, offer: Array) -> Array:
        """Return (c,) the reduction of the contrasts' mean variance by each candidate (b, p, c, m) [nats^2]."""
        flat = self.posterior.covariance.swapaxes(1, 2) @ offer.reshape(*offer.shape[:2], -1)
        spread = flat.reshape(offer.shape).transpose(0, 2, 3, 1)
        within = spread @ offer.transpose(0, 2, 1, 3) + np.eye(offer.shape[-1])
        moments = (self.contrasts @ self.contrasts.swapaxes(1, 2))[:, None]
        shown = np.linalg.solve(within, spread @ moments @ spread.swapaxes(2, 3))
        gained: Array = np.trace(shown, axis1=2, axis2=3).mean(0) / self.contrasts.shape[-1]
        return gained

    def update(self, seen: Array) -> None:
        """Condition the posterior on a run with this whitened Jacobian (b, p, m)."""
        spread = self.posterior.covariance @ seen
        within = seen.swapaxes(1, 2) @ spread + np.eye(seen.shape[-1])
        self.posterior.covariance = self.posterior.covariance - spread @ np.linalg.solve(within, spread.swapaxes(1, 2))


@dataclass(frozen=True)
class Expected:
    """Errors to expect after a study, averaged over laws drawn from the prior.

    Attributes
    ----------
    prediction : standard error of a predicted loss of the big run [nats], over the simplex
    weight : standard error of one weight of h*
    regret : loss of the big run on the recommended mixture minus the lowest possible one [nats]
    """

    prediction: float
    weight: float
    regret: float


def expected(
    runs: pd.DataFrame,
    domains: Sequence[str],
    question: Question,
    noise: Noise,
    points: Points = (7, 1.3),
    seed: int = 0,
) -> Expected:
    """Return the errors to expect for a big run if the multiplicative law generates the losses.

    The result depends on the seed: by a factor of up to 1.5 for the weights, less for the rest.

    Parameters
    ----------
    runs : n_params, n_tokens, weight_<domain> of the runs that will be fitted
    """
    rng, k, law = np.random.default_rng(seed), len(domains), get_law("multiplicative")
    units = Units.of(runs["n_params"].to_numpy(float), runs["n_tokens"].to_numpy(float))
    laws_drawn = draw_from_prior(law, k, N_PRIOR_DRAWS, rng)
    known = Posterior.prior(law, units, laws_drawn, noise, k).given(runs, domains, points)
    mixtures = rng.dirichlet(np.ones(k), 64)
    big = np.full(64, question.n_params), np.full(64, question.n_tokens)
    prediction = float(np.sqrt((known.sd(known.jacobian(*big, mixtures)) ** 2).mean()))
    weight, regret = zip(
        *(_decision_errors(known, i, domains, question, rng) for i in range(len(laws_drawn))), strict=True
    )
    return Expected(prediction, float(np.sqrt(np.mean(np.square(weight)))), float(np.mean(regret)))


def draw_from_prior(law: Law, k: int, count: int, rng: np.random.Generator) -> Array:
    """Return (count, p) parameters drawn from a law's prior; amplitudes, which have none, are a tenth to a few nats."""
    mean, sd = law.term.prior(k)
    flat = ~np.isfinite(sd)
    drawn = np.where(flat, np.log(0.8), mean) + np.where(flat, 0.5, sd) * rng.normal(size=(count, len(sd)))
    inside: Array = np.clip(drawn, *law.bounds(k))
    return inside


def _decision_errors(
    known: Posterior, index: int, domains: Sequence[str], question: Question, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the sd of h* (root mean square over domains) and its mean regret, if one of the prior draws is true."""
    root = np.linalg.cholesky(known.covariance[index])
    theta = known.theta[index] + rng.normal(size=(N_POSTERIOR_DRAWS, len(root))) @ root.T
    theta = np.vstack([known.theta[index], np.clip(theta, *known.law.bounds(len(domains)))])
    fit = FittedLaw(known.law, list(domains), known.units, {"loss": FittedTarget(theta[0], theta, np.zeros(1))})
    asked = replace(question, targets={"loss": 1.0})
    drawn = Objective(fit, asked, {}, "drawn")
    optima = drawn_optima(drawn, [np.full(len(domains), 1 / len(domains))])
    true = Objective(fit, asked, {}, "best").loss(optima)
    return float(np.sqrt(((optima[1:] - optima[0]) ** 2).mean())), float((true[1:] - true[0]).mean())
