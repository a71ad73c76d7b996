"""The errors to expect of a study before any of its runs is trained, from the prior of the multiplicative law."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mixlaw.advice.constraints import Question
from mixlaw.advice.objective import Objective
from mixlaw.advice.optima import drawn_optima
from mixlaw.advice.posterior import Noise, Points, Posterior
from mixlaw.fitting.fitted import FittedLaw, FittedTarget
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import Law, Units
from mixlaw.laws.registry import get_law

N_PRIOR_DRAWS = 48  # laws drawn from the prior, for a study without runs
N_POSTERIOR_DRAWS = 24  # laws drawn from the posterior of a study, for the spread of h*


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
    big = units.inputs(np.full(64, question.n_params), np.full(64, question.n_tokens), mixtures.T)
    prediction = float(np.sqrt((known.sd(known.jacobian(big)) ** 2).mean()))
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
