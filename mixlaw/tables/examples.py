"""Example tables: three measured studies that ship with the package, and a synthetic one whose law is known.

>>> names()
['multimodal', 'text', 'vision']
>>> load("text").domains
['code', 'dialogue', 'dict', 'docs']

The command line reads the same tables as `example:text`. `measured/README.md` says how they were measured.
"""

import numpy as np
import pandas as pd

from mixlaw.laws.law import Units
from mixlaw.laws.registry import get_law
from mixlaw.tables.check import check_frame
from mixlaw.tables.example_files import PREFIX, names, path
from mixlaw.tables.read import read_table
from mixlaw.tables.table import Table

__all__ = ["load", "names", "path", "small_study"]
DOMAINS = ("code", "docs", "web")
THETA = np.concatenate([np.log([1.6, 1.2, 0.6, 2.0, 0.5, 0.3, 0.7]), np.log([0.30, 0.35, 0.25, 0.30])])
UNITS = Units(1e8, 1e10)


def load(name: str) -> Table:
    """Return a measured table: "text", "multimodal" or "vision".

    Losses are in nats per token: a byte in "text". In "vision" a loss is the training loss of a domain, with its parts
    for images (`-image`, squared error) and for text (`-text`).

    Raises
    ------
    ConfigError
        If there is no such example; the message names the closest one.
    """
    return read_table([PREFIX + name])


def small_study(noise: float = 0.002, seed: int = 0) -> Table:
    """Return a synthetic table: 12 mixtures of 3 domains at 3 sizes and 4 numbers of tokens, losses of an additive law.

    Parameters
    ----------
    noise : standard deviation of the losses around the law [nats]
    seed : of the mixtures and of the noise
    """
    rng = np.random.default_rng(seed)
    h = rng.dirichlet(np.ones(3), 12)
    runs = [(n, m) for n in (2e7, 1e8, 5e8) for m in range(12)]
    mixture = np.repeat([m for _, m in runs], 4)
    n, d = np.repeat([n for n, _ in runs], 4), np.tile([4e9, 8e9, 16e9, 32e9], len(runs))
    loss = get_law("additive").loss(THETA[None], UNITS.inputs(n, d, h[mixture].T))[0]
    columns = {"run_id": np.repeat([f"{n:.0e}-{m}" for n, m in runs], 4), "n_params": n, "n_tokens": d}
    columns |= {f"weight_{name}": h[mixture, i] for i, name in enumerate(DOMAINS)}
    return check_frame(pd.DataFrame(columns | {"loss_main": loss + noise * rng.normal(size=len(n))}), "the small study")
