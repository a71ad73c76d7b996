"""Laws, runs and answers of any number of domains, written down instead of fitted, for the figures and the report."""

from typing import Any

import numpy as np
import pandas as pd

from mixlaw.advice.recommendation import Recommendation
from mixlaw.fitting.fitted import FittedLaw, FittedTarget
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.law import Units
from mixlaw.laws.registry import get_law
from mixlaw.tables.check import check_frame
from mixlaw.tables.table import Table

UNITS = Units(1e8, 1e10)
SIZES, TOKENS = (2e7, 1e8), (4e9, 8e9, 16e9)


def names(k: int) -> list[str]:
    """Return names of domains."""
    return [f"domain{i}" for i in range(k)]


def truth(k: int, target: int = 0) -> np.ndarray:
    """Return parameters of the additive law."""
    rng = np.random.default_rng([k, target])
    shapes = rng.uniform(0.3, 0.8, k)
    return np.log(np.concatenate([[1.6], rng.uniform(0.5, 2, k), shapes, [0.30, 0.35, 0.25, 0.30]]))


def mixtures(k: int, count: int = 9) -> np.ndarray:
    """Return (count, k) mixtures."""
    return np.random.default_rng(k).dirichlet(np.ones(k), count)


def laws(k: int, targets: tuple[str, ...] = ("main",), domains: list[str] | None = None) -> FittedLaws:
    """Return the additive law as if it had been fitted, with resamples around its parameters."""
    rng, fitted = np.random.default_rng(0), {}
    for i, target in enumerate(targets):
        theta = truth(k, i)
        draws = theta + 0.02 * rng.normal(size=(8, len(theta)))
        fitted[target] = FittedTarget(theta, draws, 0.002 * rng.normal(size=20), 0.0, "given", 20, 20)
    fit = FittedLaw(get_law("additive"), domains or names(k), UNITS, fitted)
    ranges = {"n_params": (SIZES[0], SIZES[-1]), "n_tokens": (TOKENS[0], TOKENS[-1])}
    return FittedLaws({"additive": fit}, "additive", "the only one", ranges, mixtures(k))


def runs(k: int, targets: tuple[str, ...] = ("main",), noise: float = 0.002) -> Table:
    """Return runs whose losses the laws wrote."""
    h, rng = mixtures(k), np.random.default_rng(1)
    n, mixture, d = (a.ravel() for a in np.meshgrid(SIZES, np.arange(len(h)), TOKENS, indexing="ij"))
    columns: dict[str, Any] = {"run_id": [f"{a:.0e}-{b}" for a, b in zip(n, mixture, strict=True)]}
    columns |= {"n_params": n, "n_tokens": d} | {f"weight_{name}": h[mixture, i] for i, name in enumerate(names(k))}
    x = UNITS.inputs(n, d, h[mixture].T)
    for i, target in enumerate(targets):
        columns[f"loss_{target}"] = get_law("additive").loss(truth(k, i)[None], x)[0] + noise * rng.normal(size=len(n))
    return check_frame(pd.DataFrame(columns), "the runs")


def answer(k: int, target: str = "main", domains: list[str] | None = None) -> Recommendation:
    """Return a saved recommendation: the more a domain counts, the later it stands."""
    return Recommendation.from_json(answer_facts(k, target, domains))


def answer_facts(k: int, target: str = "main", domains: list[str] | None = None) -> dict[str, Any]:
    """Return what is saved of it."""
    domains = domains or names(k)
    h = np.arange(1, k + 1) / np.arange(1, k + 1).sum()
    rows = [
        {
            "domain": name,
            "weight": w,
            "low": 0.8 * w,
            "high": min(1.2 * w, 1),
            "flat_low": 0.5 * w,
            "flat_high": min(1.5 * w, 1),
            "unconstrained": free,
            "gradient": 0.2 - w,
            "uniform": 1 / k,
            "natural": other,
        }
        for name, w, free, other in zip(domains, h, h[::-1], np.roll(h, 1), strict=True)
    ]
    weights = dict(zip(domains, h.tolist(), strict=True))
    uniform = dict.fromkeys(domains, 1 / k)
    outcomes = [
        {
            "mixture": "recommended",
            "predicted": 2.0,
            "low": 1.9,
            "high": 2.1,
            "gain": 0.0,
            "gain_low": 0.0,
            "gain_high": 0.0,
            "weights": weights,
        },
        {
            "mixture": "uniform",
            "predicted": 2.2,
            "low": 2.1,
            "high": 2.3,
            "gain": 0.2,
            "gain_low": 0.1,
            "gain_high": 0.3,
            "weights": uniform,
        },
    ]
    outcomes.append(outcomes[1] | {"mixture": "natural", "weights": dict(zip(domains, np.roll(h, 1), strict=True))})
    around = {"interval": {d: [0.8 * w, 1.2 * w] for d, w in weights.items()}}
    path = [
        {"n_params": n, "n_tokens": 20 * n, "regret": r, "weights": weights} | around
        for n, r in ((1e8, 0.03), (1e9, 0.01), (7e9, 0.0))
    ]
    others = [{"law": "additive", "predicted": 2.01, "regret": 0.002, "weights": uniform}]
    prices = [
        {"constraint": "group web", "cost": 0.002, "weight": float("nan"), "weight_without": float("nan")},
        {"constraint": f"min {domains[0]}", "cost": 0.0123, "weight": h[0], "weight_without": 0.0},
    ]
    return {
        "law": "additive",
        "reason": "the only one",
        "n_params": 7e9,
        "n_tokens": 150e9,
        "targets": {target: 1.0},
        "weights": weights,
        "override": "mixture.weights={}",
        "domains": rows,
        "outcomes": outcomes,
        "per_target": [{"mixture": "recommended", target: 2.0}, {"mixture": "uniform", target: 2.2}],
        "prices": prices,
        "path": path,
        "others": others,
        "noise": 0.01,
        "warnings": ["far away"],
    }
