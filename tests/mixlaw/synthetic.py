"""Synthetic studies: tables of runs whose losses a law with known parameters wrote, with or without noise."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.advice.constraints import Question
from mixlaw.advice.objective import Objective
from mixlaw.advice.simplex import lowest, starts
from mixlaw.fitting.estimator import LawFit
from mixlaw.fitting.fitted import FittedLaw, FittedTarget
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import Law, Units, lifted
from mixlaw.laws.registry import get_law
from mixlaw.laws.terms import Inputs
from mixlaw.tables.check import check_frame
from mixlaw.tables.table import Table
from tests.marks import all_slow_but

DOMAINS = ["code", "docs", "web"]
UNITS = Units(1e8, 1e10)
SIZES, TOKENS = (2e7, 1e8, 5e8), (2e9, 1e10, 5e10)

_DECAYS = np.log([0.30, 0.35, 0.25, 0.30])  # A, alpha, B, beta
_INVERSE = np.log([1.2, 0.6, 2.0, 0.5, 0.3, 0.7])  # C_i, gamma_i
_USEFUL = np.log([1.2, 2.0, 0.3, 0.6])  # C_i, gamma
TRUTHS = {
    "base": np.array([np.log(1.8), *_DECAYS]),
    "additive": np.array([np.log(1.6), *_INVERSE, *_DECAYS]),
    "simple": np.array([np.log(1.6), np.log(0.5), -1.5, 0.6, -0.8, *_DECAYS]),
    "joint": np.array(
        [np.log(1.6), *_INVERSE, np.log(0.3), 1.4, 0.5, -0.7, np.log(0.35), np.log(0.25), -0.8, -0.4, 0.6, np.log(0.3)]
    ),
    "multiplicative": np.array(
        [
            np.log(1.2),
            0.02,
            -0.02,
            0.0,
            np.log(2.0),
            *_DECAYS,
            np.log(0.1),
            0.1,
            -0.1,
            0.0,
            np.log(0.03),
            *_USEFUL,
        ]
    ),
    "multiplicative-phases": np.array(
        [
            np.log(1.2),
            0.02,
            -0.02,
            0.0,
            np.log(2.0),
            *_DECAYS,
            np.log(0.1),
            0.1,
            -0.1,
            0.0,
            np.log(0.03),
            np.log(4.0),  # r
            np.log(0.7),  # s
            *_USEFUL,
        ]
    ),
    "multiplicative-repeats": np.array(
        [
            np.log(1.2),
            0.02,
            -0.02,
            0.0,
            np.log(4.0),  # R
            np.log(1.5),  # p
            0.4,  # delta
            0.6,  # sigma
            np.log(2.0),
            *_DECAYS,
            np.log(0.1),
            0.1,
            -0.1,
            0.0,
            np.log(0.03),
            *_USEFUL,
        ]
    ),
    "additive-fixed-nd": np.array([np.log(1.6), *_INVERSE]),
    "additive-fixed-n": np.array([np.log(1.6), *_INVERSE, *_DECAYS[2:]]),
    "additive-fixed-d": np.array([np.log(1.6), *_INVERSE, *_DECAYS[:2]]),
    "joint-fixed-n": np.array([np.log(1.6), *_INVERSE, np.log(0.25), -0.8, -0.4, 0.6, np.log(0.3)]),
    "joint-fixed-d": np.array([np.log(1.6), *_INVERSE, np.log(0.3), 1.4, 0.5, -0.7, np.log(0.35)]),
    "multiplicative-fixed-d": np.array(
        [np.log(1.2), 0.02, -0.02, 0.0, np.log(2.0), *_DECAYS[:2], np.log(0.5), 0.1, -0.1, 0.0, *_USEFUL]
    ),
}


def study(
    law: str,
    noise: float = 0.0,
    seed: int = 0,
    n_mixtures: int = 15,
    sizes: tuple[float, ...] = SIZES,
    tokens: tuple[float, ...] = TOKENS,
) -> Table:
    """Return runs of random mixtures at every size, evaluated at every number of tokens.

    Half of the noise's variance is shared by the rows of one run, as in real runs.
    """
    rng = np.random.default_rng(seed)
    h = rng.dirichlet(np.ones(len(DOMAINS)), n_mixtures)
    n, mixture, d = (axis.ravel() for axis in np.meshgrid(sizes, np.arange(n_mixtures), tokens, indexing="ij"))
    runs = len(sizes) * n_mixtures
    error = np.repeat(rng.normal(size=runs), len(tokens)) + rng.normal(size=len(n))
    loss = get_law(law).loss(TRUTHS[law][None], UNITS.inputs(n, d, h[mixture].T))[0] + noise * error / np.sqrt(2)
    return runs_table(n, d, h[mixture], {"main": loss}, np.repeat(np.arange(runs), len(tokens)))


def phase_study(law: str, noise: float = 0.0, seed: int = 0, n_mixtures: int = 10, n_phased: int = 20) -> Table:
    """Return a study with static runs, and runs that change their mixture after a half or 80 % of their tokens."""
    rng = np.random.default_rng(seed)
    first, second = rng.dirichlet(np.ones(len(DOMAINS)), (2, n_mixtures + n_phased))
    second[:n_mixtures] = first[:n_mixtures]
    switch = TOKENS[-1] * rng.choice([0.5, 0.8], len(first))
    n, run, d = (axis.ravel() for axis in np.meshgrid(SIZES, np.arange(len(first)), TOKENS, indexing="ij"))
    until = np.stack([np.minimum(switch[run] / d, 1.0), np.ones(len(d))])
    phases = np.stack([first[run].T, second[run].T])
    total = (np.diff(until, axis=0, prepend=0.0)[:, None] * phases).sum(0)
    x = UNITS.inputs(n, d, total, columns={"phases": lifted(phases)[0], "until": until})
    loss = get_law(law).loss(TRUTHS[law][None], x)[0] + noise * rng.normal(size=len(n))
    table = runs_table(n, d, total.T, {"main": loss}, np.repeat(np.arange(len(n) // len(TOKENS)), len(TOKENS)))
    cells = {f"until@{p + 1}": until[p] for p in (0, 1)}
    cells |= {f"weight_{name}@{p + 1}": phases[p, i] for p in (0, 1) for i, name in enumerate(DOMAINS)}
    begun = {"1": run >= n_mixtures, "2": (run >= n_mixtures) & (until[0] < 1)}
    return replace(table, frame=table.frame.assign(**{c: np.where(begun[c[-1]], v, np.nan) for c, v in cells.items()}))


def pool_study(law: str, noise: float = 0.0, seed: int = 0, n_mixtures: int = 24, epochs: float = 40.0) -> Table:
    """Return a study whose runs repeat a random domain up to `epochs` times, every third of them none."""
    rng = np.random.default_rng(seed)
    h, k = rng.dirichlet(np.ones(len(DOMAINS)), n_mixtures), len(DOMAINS)
    pools = np.full((n_mixtures, k), 1e13)
    scarce = rng.integers(0, k, n_mixtures)
    again = np.where(np.arange(n_mixtures) % 3, np.exp(rng.uniform(0, np.log(epochs), n_mixtures)), 1.0)
    pools[np.arange(n_mixtures), scarce] = h[np.arange(n_mixtures), scarce] * TOKENS[-1] / again
    n, run, d = (axis.ravel() for axis in np.meshgrid(SIZES, np.arange(n_mixtures), TOKENS, indexing="ij"))
    x = UNITS.inputs(n, d, h[run].T, columns={"available": pools[run].T / UNITS.n_tokens})
    loss = get_law(law).loss(TRUTHS[law][None], x)[0] + noise * rng.normal(size=len(n))
    table = runs_table(n, d, h[run], {"main": loss}, np.repeat(np.arange(len(n) // len(TOKENS)), len(TOKENS)))
    known = {f"available_{name}": pools[run, i] for i, name in enumerate(DOMAINS)}
    return replace(table, frame=table.frame.assign(**known))


def runs_table(n: Array, d: Array, h: Array, losses: Mapping[str, Array], runs: Array) -> Table:
    """Return a checked table of these rows."""
    weights = {f"weight_{name}": h[:, i] for i, name in enumerate(DOMAINS)}
    columns = {"run_id": runs.astype(str), "n_params": n, "n_tokens": d} | weights
    return check_frame(pd.DataFrame(columns | {f"loss_{t}": y for t, y in losses.items()}), "study")


def fitted(
    law: str,
    theta: Mapping[str, Array],
    domains: list[str] = DOMAINS,
    n_draws: int = 6,
    spread: float = 0.01,
    sizes: Mapping[str, float] | None = None,
) -> FittedLaws:
    """Return laws that hold these parameters, as if a perfect fit had found them."""
    rng = np.random.default_rng(0)
    targets = {}
    for target, t in theta.items():
        draws = t + spread * rng.normal(size=(n_draws, len(t)))
        targets[target] = FittedTarget(t, draws, spread * rng.normal(size=20), 0.0, "given", 20, 20)
    fit = FittedLaw(get_law(law), domains, UNITS, targets)
    ranges = {"n_params": (2e7, 5e8), "n_tokens": (2e9, 5e10)}
    seen = rng.dirichlet(np.ones(len(domains)), 20)
    return FittedLaws({law: fit}, law, "given", ranges, seen, dict(sizes or {}))


def optimum(laws: FittedLaws, question: Question) -> dict[str, float]:
    """Return the mixture that is recommended, without its intervals, which take most of the time."""
    objective = Objective(laws.best, question, laws.sizes)
    best = lowest(objective, starts(objective.limits), objective.limits)
    return dict(zip(laws.best.domains, best.tolist(), strict=True))


def laws_of(study: Table, law: str, **settings: Any) -> FittedLaws:
    """Return one law fitted to a study, in the form that is saved."""
    fit = LawFit(law, **settings).fit(study).fitted_
    return FittedLaws.of({law: fit}, study, law, "the only law that was fitted", fit.scores(study))


def warned(laws: FittedLaws, law: str, *warnings: str) -> FittedLaws:
    """Return laws of which one has these warnings."""
    return replace(laws, fits=laws.fits | {law: replace(laws.fits[law], warnings=list(warnings))})


def random_case(law: Law, seed: int, k: int = 3, n: int = 6, b: int = 2) -> tuple[Array, Inputs]:
    """Return parameters (b, p) that the law may start from, and n rows of everything that any law reads.

    The first row has a weight of zero and the second has only one domain, lifted as the fitter lifts them.
    """
    rng = np.random.default_rng(seed)
    h = rng.dirichlet(np.ones(k), n)
    h[0, seed % k] = 0
    h[1] = np.eye(k)[seed % k]
    columns = {
        "available": np.exp(rng.normal(-1.5, 1.0, (k, n))),
        "before": rng.uniform(2, 4, n),
        "sparsity": rng.choice([0.0, 0.5, 0.9, 0.98], n),
    }
    n_params, n_tokens = 1e8 * np.exp(rng.normal(size=n)), 1e10 * np.exp(rng.normal(size=n))
    mixtures = (h / h.sum(1, keepdims=True)).T
    x = UNITS.inputs(n_params, n_tokens, mixtures, target=rng.integers(0, k, n), columns=columns)
    return np.clip(law.term.start(rng, b, k), *law.bounds(k)), x


def free_parameters(law: Law, domains: list[str] = DOMAINS, **named: float) -> Array:
    """Return (1, p) the free parameters at which `law.natural` reports these, for laws without a power of a sum."""
    zeros = law.natural(np.zeros(law.n_free(len(domains))), domains)
    with np.errstate(divide="ignore"):  # a source may print 0 for what is fitted as a logarithm
        free = [np.maximum(np.log(named[name]), -700) if zero == 1 else named[name] for name, zero in zeros.items()]
    return np.array([free])


def each_law(laws: Iterable[str]) -> list[Any]:
    """Return names of laws as parameters; forms with N or D fixed, which have the same terms, are slow tests."""
    names = list(laws)
    return all_slow_but([name for name in names if "-fixed" not in name], names)
