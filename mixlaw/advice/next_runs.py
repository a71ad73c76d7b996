"""What runs would tell about a decision before they are trained: Fisher information, expected errors, the next runs.

A law that is linear in its parameters around what is known of them has a posterior in closed form: every run adds the
information of its losses, and the variance of anything that the law says follows from the sum (Chaloner and Verdinelli
1995, Statistical Science 10). What is to be decided is not the law but the mixture of the big run, so what counts is
the variance of the differences between mixtures that may be the best one, at the big run's N and D. That is
I-optimality (average variance of predictions) over contrasts. Parameters are not known when runs are chosen: everything
is averaged over resampled laws.

Legend of shapes: b parameter vectors, p parameters, n rows, c candidate runs of m rows each, q contrasts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.advice.constraints import Question
from mixlaw.advice.objective import Objective, drawn_optima, optimum
from mixlaw.advice.simplex import starts
from mixlaw.errors import ConfigError, FitError
from mixlaw.fitting.fitted import FittedLaw, FittedTarget
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.jacobian import Array
from mixlaw.laws.registry import Law, Units, get_law
from mixlaw.tables.columns import LOSS
from mixlaw.tables.table import Table

LINEAR_AT = 16  # resampled laws that information is averaged over
N_WORLDS = 48  # laws that may be true, of which a study that is not fitted yet will meet one
LEAST_NOISE = 1e-5  # nats; runs that lie on the law to the last digit would know everything
N_GUESSES = 24  # laws drawn from what a study would tell, for the spread of h*
FLAT_PRIOR = 10.0  # sd of what nothing is believed about: in logarithms, as parameters are
Points = tuple[int, float]  # evaluations of a run, and the ratio of D between neighbours: evaluation.n_points, ratio


@dataclass(frozen=True)
class Noise:
    """How runs scatter around a law [nats]: what the rows of one run share, and what each has of its own."""

    run: float
    row: float

    @classmethod
    def of(cls, fit: FittedLaw, table: Table, target: str) -> "Noise":
        """Return what the residuals of a fit say: how far runs lie apart, and how far the rows of one run do."""
        table = table.rows(table.frame[LOSS + target].notna())
        seen = fit.predict(table, targets=[target])
        residual = (seen["predicted"] - seen["observed"]).to_numpy(float)
        runs = pd.Series(residual).groupby(table.runs())
        row, run = (1.4826 * float(np.median(np.abs(off))) for off in (residual - runs.transform("mean"), runs.mean()))
        return cls(max(run, LEAST_NOISE), max(row, LEAST_NOISE))

    def whiten(self, slopes: Array, runs: NDArray[np.int64]) -> Array:
        """Return slopes (b, p, n) in units of the noise, whose rows are independent; rows of one run follow each other.

        The covariance within a run of m rows, run^2 11' + row^2, has two eigenvalues: m run^2 + row^2 for their mean,
        row^2 for the rest.
        """
        starts = np.flatnonzero(np.append(True, np.diff(runs) != 0))
        length = np.diff(np.append(starts, len(runs)))
        mean = np.add.reduceat(slopes, starts, axis=-1) / length
        shrunk = mean * (1 - self.row / np.sqrt(self.row**2 + length * self.run**2))
        whitened: Array = (slopes - np.repeat(shrunk, length, axis=-1)) / self.row
        return whitened


@dataclass
class Knowledge:
    """What is known of one target's law: for each of some parameter vectors, the covariance (b, p, p) around it."""

    law: Law
    units: Units
    theta: Array
    noise: Noise
    covariance: Array

    @classmethod
    def before(cls, law: Law, units: Units, theta: Array, noise: Noise, k: int) -> "Knowledge":
        """Return what the law's own beliefs say, before any run."""
        spread = law.term.prior(k)[1]
        spread = np.where(np.isfinite(spread), spread, FLAT_PRIOR)
        covariance: Array = np.tile(np.diag(spread**2), (len(theta), 1, 1))
        return cls(law, units, theta, noise, covariance)

    def slopes(self, n_params: Array, n_tokens: Array, h: Array) -> Array:
        """Return (b, p, n) how losses at N, D (n,) and mixtures h (n, k) depend on the parameters."""
        return self.law.loss_and_jacobian(self.theta, self.units.inputs(n_params, n_tokens, h.T))[1]

    def after(self, runs: pd.DataFrame, domains: Sequence[str], points: Points | None = None) -> "Knowledge":
        """Return what is known once these runs are there.

        Parameters
        ----------
        runs : n_params, n_tokens and weight_<domain> of runs; or, without `points`, of rows, with their run_id
        """
        rows = runs.sort_values("run_id", kind="stable") if points is None else curves(runs, points)
        number = pd.factorize(rows["run_id"])[0]
        seen = self.noise.whiten(self.slopes(*_inputs(rows, domains)), number)
        information = np.linalg.inv(self.covariance) + seen @ seen.swapaxes(1, 2)
        covariance: Any = np.linalg.inv(information)
        return replace(self, covariance=covariance)

    def spread(self, slopes: Array) -> Array:
        """Return (b, q) the sd [nats] of what depends on the parameters by these slopes (b, p, q)."""
        variance = np.einsum("bpq,bpr,brq->bq", slopes, self.covariance, slopes)
        sd: Array = np.sqrt(np.maximum(variance, 0.0))
        return sd


def curves(runs: pd.DataFrame, points: Points) -> pd.DataFrame:
    """Return the rows that runs will have: one per evaluation, on a logarithmic grid that ends at n_tokens."""
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
    """The runs that are worth most, the first one first.

    Attributes
    ----------
    runs : rows of the candidates, with `sd_before` and `sd_after` [nats]: how uncertain the differences between the
        mixtures that may be best are before and after each run, all runs above it being there
    contenders : (q, k) those mixtures
    best : (k,) the one that would be recommended now
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
    """Choose the runs that reduce the uncertainty of a decision most, one after the other.

    Parameters
    ----------
    laws : what was fitted; the trusted law is asked
    question : the big run, and which targets count how much
    table : the runs that the laws were fitted to
    candidates : n_params, n_tokens, flops and weight_<domain> of runs that could be trained; the same run again is the
        same run: those that the table has already, and repetitions, are left out
    count : how many are wanted
    by : "flops": what a run tells for each FLOP; "runs": what it tells, whatever it costs

    Raises
    ------
    ConfigError
        If there are fewer candidates than wanted runs.
    """
    identity = ["n_params", "n_tokens", *(f"weight_{d}" for d in table.domains)]
    candidates = candidates[~trained(candidates, table)].sort_values("flops", kind="stable")
    candidates = candidates.drop_duplicates(identity, ignore_index=True)
    if count > len(candidates):
        raise ConfigError(f"{count} runs are wanted, and there are {len(candidates)} candidates")
    fit = laws.best
    decision = Decision(fit, question, laws.sizes, table, points)
    cost = candidates["flops"].to_numpy(float) if by == "flops" else np.ones(len(candidates))
    offers = decision.offers(candidates)
    chosen, before = list[int](), decision.sd()
    trail = []
    for _ in range(count):
        gain = sum(k.gain(o) for k, o in zip(decision.parts, offers, strict=True)) / cost
        if not np.isfinite(gain).all():
            raise FitError("what runs would tell is no number: look at the laws' parameters, or fit again")
        gain[chosen] = -np.inf
        best = int(np.argmax(gain))
        for part, offer in zip(decision.parts, offers, strict=True):
            part.learn(offer[:, :, best])
        chosen.append(best)
        trail.append((before, before := decision.sd()))
    picked = candidates.iloc[chosen].reset_index(drop=True)
    picked[["sd_before", "sd_after"]] = trail
    return Proposal(picked, decision.contenders, decision.best)


def trained(candidates: pd.DataFrame, table: Table) -> NDArray[np.bool_]:
    """Return (c,) which candidates a table has already: same N, D to 5 % (steps are whole), weights to 0.003."""
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
    """Which mixture the big run should have, and how well the mixtures that may be best are told apart.

    Parameters
    ----------
    fit : the law
    question : the big run, and what limits its mixture
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
                known = knowledge_of(fit, table, target)
                slopes = known.slopes(*big, mixtures)
                self.parts.append(Part(known, importance * (slopes[..., :-1] - slopes[..., -1:])))

    def sd(self) -> float:
        """Return the root mean square, over contenders and resampled laws, of the uncertainty of their difference."""
        return float(np.sqrt(sum(part.variance() for part in self.parts)))

    def offers(self, candidates: pd.DataFrame) -> list[Array]:
        """Return, per part, what each candidate would measure: whitened slopes (b, p, c, m)."""
        rows = curves(candidates, self._points)
        place, found = rows["run_id"].to_numpy(), []
        for part in self.parts:
            seen = part.known.noise.whiten(part.known.slopes(*_inputs(rows, self._domains)), place)
            found.append(seen.reshape(*seen.shape[:2], len(candidates), self._points[0]))
        return found


def knowledge_of(fit: FittedLaw, table: Table, target: str) -> Knowledge:
    """Return what a table of runs says about a target's law, around some of the resampled laws.

    Raises
    ------
    FitError
        If the law reads more than N, D and h, which candidate runs do not have.
    """
    law, draws = fit.law, fit.target(target).draws
    if law.uses - {"N", "D", "h"} or law.joint_targets:
        raise FitError(f"the {law.name} law cannot say which runs to train next: fit multiplicative, additive or joint")
    every = draws[np.unique(np.linspace(0, len(draws) - 1, LINEAR_AT).round().astype(int))]
    noise = Noise.of(fit, table, target)
    rows = table.frame[table.frame[LOSS + target].notna()]
    return Knowledge.before(law, fit.units, every, noise, len(fit.domains)).after(rows, fit.domains)


@dataclass
class Part:
    """One target's share in a decision: what is known of its law, and the contrasts (b, p, q) that count."""

    known: Knowledge
    contrasts: Array

    def variance(self) -> float:
        """Return the mean variance of the contrasts [nats^2]."""
        return float((self.known.spread(self.contrasts) ** 2).mean())

    def gain(self, offer: Array) -> Array:
        """Return (c,) by how much each candidate (b, p, c, m) would lower the mean variance of the contrasts."""
        spread = np.einsum("bpr,bpcm->brcm", self.known.covariance, offer)
        within = np.einsum("bpcm,bpcl->bcml", offer, spread) + np.eye(offer.shape[-1])
        across = np.einsum("brcm,brq->bcmq", spread, self.contrasts)
        gained: Array = (across * np.linalg.solve(within, across)).sum((2, 3)).mean(0) / self.contrasts.shape[-1]
        return gained

    def learn(self, seen: Array) -> None:
        """Take in a run with these whitened slopes (b, p, m)."""
        spread = self.known.covariance @ seen
        within = seen.swapaxes(1, 2) @ spread + np.eye(seen.shape[-1])
        self.known.covariance = self.known.covariance - spread @ np.linalg.solve(within, spread.swapaxes(1, 2))


@dataclass(frozen=True)
class Expected:
    """What a study may be expected to tell, averaged over worlds that are believable before any run.

    Attributes
    ----------
    prediction : standard error of a predicted loss of the big run [nats], over the simplex
    weight : standard error of one weight of h*
    regret : by how much the big run's loss on the recommended mixture will miss the lowest possible one [nats]
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
    """Return what fitted runs would tell about a big run, if the multiplicative law wrote their losses.

    It depends on the worlds that are drawn: by a factor of up to 1.5 for the weights, less for the rest.

    Parameters
    ----------
    runs : n_params, n_tokens, weight_<domain> of the runs that will be fitted
    """
    rng, k, law = np.random.default_rng(seed), len(domains), get_law("multiplicative")
    units = Units.of(runs["n_params"].to_numpy(float), runs["n_tokens"].to_numpy(float))
    worlds = believable(law, k, N_WORLDS, rng)
    known = Knowledge.before(law, units, worlds, noise, k).after(runs, domains, points)
    mixtures = rng.dirichlet(np.ones(k), 64)
    big = np.full(64, question.n_params), np.full(64, question.n_tokens)
    prediction = float(np.sqrt((known.spread(known.slopes(*big, mixtures)) ** 2).mean()))
    weight, regret = zip(*(_decided(known, i, domains, question, rng) for i in range(len(worlds))), strict=True)
    return Expected(prediction, float(np.sqrt(np.mean(np.square(weight)))), float(np.mean(regret)))


def believable(law: Law, k: int, count: int, rng: np.random.Generator) -> Array:
    """Return (count, p) parameters drawn from a law's beliefs; about amplitudes, from a tenth to a few nats."""
    centre, sd = law.term.prior(k)
    free = ~np.isfinite(sd)
    drawn = np.where(free, np.log(0.8), centre) + np.where(free, 0.5, sd) * rng.normal(size=(count, len(sd)))
    inside: Array = np.clip(drawn, *law.bounds(k))
    return inside


def _decided(
    known: Knowledge, world: int, domains: Sequence[str], question: Question, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the spread of h* (root mean square over domains) and its mean regret, if one of the worlds is true."""
    root = np.linalg.cholesky(known.covariance[world])
    theta = known.theta[world] + rng.normal(size=(N_GUESSES, len(root))) @ root.T
    theta = np.vstack([known.theta[world], np.clip(theta, *known.law.bounds(len(domains)))])
    fit = FittedLaw(known.law, list(domains), known.units, {"loss": FittedTarget(theta[0], theta, np.zeros(1))})
    asked = replace(question, targets={"loss": 1.0})
    drawn = Objective(fit, asked, {}, "drawn")
    optima = drawn_optima(drawn, [np.full(len(domains), 1 / len(domains))])
    true = Objective(fit, asked, {}, "best").loss(optima)
    return float(np.sqrt(((optima[1:] - optima[0]) ** 2).mean())), float((true[1:] - true[0]).mean())
