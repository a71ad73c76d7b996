"""Runs without a mixture: of the base law, and of the law of repeated tokens."""

import numpy as np
import pandas as pd

from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import Units
from mixlaw.laws.registry import get_law
from tests.mixlaw.synthetic import free_parameters

UNITS = Units(1e8, 1e10)
BASE = {"E": 1.8, "A": 0.4, "alpha": 0.34, "B": 0.5, "beta": 0.28}
REPEATED = {"E": 1.87, "A": 0.9, "alpha": 0.35, "B": 0.45, "beta": 0.35, "R_D": 15.4, "R_N": 5.3}
SIZES, EPOCHS = (3e7, 1e8, 4e8, 1.6e9), (1, 2, 4, 8, 40)


def bare(
    noise: float = 0.0, sizes: tuple[float, ...] = (1e7, 3e7, 1e8, 3e8), factors: tuple[float, ...] = (20, 60, 200)
) -> pd.DataFrame:
    """Return a row per run of the base law, without weights and without ids of runs."""
    n, factor = (a.ravel() for a in np.meshgrid(sizes, factors, indexing="ij"))
    return losses("base", BASE, n, n * factor, noise)


def losses(
    law: str, named: dict[str, float], n: Array, d: Array, noise: float = 0.0, unique: Array | None = None
) -> pd.DataFrame:
    """Return a run per row with the loss that a law with these parameters writes.

    Parameters
    ----------
    named : the law's parameters, N in 1e8 and D in 1e10
    noise : relative sd of single runs
    unique : tokens there are of the only domain, for the law of repeated tokens
    """
    columns = {} if unique is None else {"columns": {"available": unique[None] / UNITS.n_tokens}}
    x = UNITS.inputs(n, d, np.ones((1, len(n))), **columns)
    y = get_law(law).loss(free_parameters(get_law(law), ["all"], **named), x)[0]
    y = y * (1 + noise * np.random.default_rng(0).normal(size=len(n)))
    return pd.DataFrame({"run_id": [f"r{i}" for i in range(len(n))], "n_params": n, "n_tokens": d, "loss_val": y})


def repeated(noise: float = 0.0, column: str = "unique_tokens") -> pd.DataFrame:
    """Return runs on 1 to 40 epochs of pools of three sizes."""
    unique, n, epochs = (a.ravel() for a in np.meshgrid((4e8, 2e9, 9e9), SIZES, EPOCHS, indexing="ij"))
    return losses("muennighoff", REPEATED, n, unique * epochs, noise, unique).assign(**{column: unique})
