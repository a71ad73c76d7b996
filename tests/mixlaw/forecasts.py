"""A synthetic forecast with files, and the runs that follow it, written by the law that made it."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.advice.recommend import recommend
from mixlaw.forecast.sealed import Forecast
from mixlaw.forecast.sealing import seal
from mixlaw.laws.registry import get_law
from mixlaw.tables.check import check_frame
from mixlaw.tables.table import Table
from tests.mixlaw.synthetic import TRUTHS, UNITS, fitted

N, D = 1e9, 6.4e10
THETAS = {"main": TRUTHS["additive"], "held": TRUTHS["additive"] + 0.1}
GIVEN = fitted("additive", THETAS, n_draws=40)
FIT = replace(GIVEN.best, settings={"law": "additive"})
LAWS = replace(GIVEN, fits={"additive": FIT}, data_sha256="of the table")
TODAY = {"code": 0.6, "docs": 0.3, "web": 0.1}


def write_files(folder: Path, **asked: Any) -> tuple[Path, Path]:
    """Write laws.json and answer.json of a question; return their paths."""
    question = {"n_params": N, "n_tokens": D, "target": "main:2,held:1", "baselines": {"today": TODAY}} | asked
    laws, answer = folder / "laws.json", folder / "answer.json"
    LAWS.save(laws)
    recommend(LAWS, **question).save(answer)
    return laws, answer


def sealed(folder: Path, **asked: Any) -> Forecast:
    """Write laws.json, answer.json and forecast.json; return the forecast."""
    return seal(*write_files(folder, **asked))


def run_rows(run: str, h: Mapping[str, float], n: float = N, tokens: tuple[float, ...] = (D / 4, D)) -> pd.DataFrame:
    """Return the rows of one run without noise."""
    d, weights = np.array(tokens), np.array(list(h.values()))
    x = UNITS.inputs(np.full(len(d), n), d, np.repeat(weights[:, None], len(d), axis=1))
    columns: dict[str, Any] = {"run_id": run, "n_params": n, "n_tokens": d}
    columns |= {f"weight_{name}": w for name, w in h.items()}
    columns |= {f"loss_{t}": get_law("additive").loss(theta[None], x)[0] for t, theta in THETAS.items()}
    return pd.DataFrame(columns)


def runs(*rows: pd.DataFrame) -> Table:
    """Return a checked table of runs."""
    return check_frame(pd.concat(rows, ignore_index=True), "the runs")
