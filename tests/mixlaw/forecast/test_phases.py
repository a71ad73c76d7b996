"""Forecasts of an answer with phases: sealed along D, and scored by runs that change their mixture as it says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mixlaw.advice.recommend import recommend
from mixlaw.errors import RunLogError
from mixlaw.forecast.scoring import score
from mixlaw.forecast.sealed import Forecast
from mixlaw.forecast.sealing import seal
from mixlaw.mixture import Mixture
from mixlaw.phased_mixture import PhasedMixture
from mixlaw.tables.phase_mixtures import run_of
from mixlaw.tables.table import Table
from tests.mixlaw.synthetic import DOMAINS, TRUTHS, fitted

LAW, N, D = "multiplicative-phases", 1e9, 6.4e10
MADE = fitted(LAW, {"main": TRUTHS[LAW]}, n_draws=40)
FIRST, SECOND = (Mixture(DOMAINS, h) for h in ([0.6, 0.3, 0.1], [0.1, 0.3, 0.6]))
LAWS = replace(MADE, fits={LAW: replace(MADE.best, settings={"law": LAW})}, data_sha256="of the table")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with laws.json and answer.json, whose phases end at 0.6 and 1."""
    folder = tmp_path_factory.mktemp("phases")
    LAWS.save(folder / "laws.json")
    answer = recommend(LAWS, n_params=N, n_tokens=D, target="main", phases=2, switch=0.6)
    plan = replace(answer.phases, weights=[FIRST, SECOND])  # those of the law hardly differ
    replace(answer, phases=plan).save(folder / "answer.json")
    return folder


@pytest.fixture(scope="module")
def forecast(folder: Path) -> Forecast:
    return seal(folder / "laws.json", folder / "answer.json")


def rows_of(mixture: PhasedMixture, shares: tuple[float, ...] = (0.25, 0.5, 0.7, 1.0)) -> Table:
    """Return one run, evaluated at shares of D, with the losses of the law."""
    tables = [run_of(mixture.at(share), N, D * share) for share in shares]
    losses = [LAWS.best.predict(table)["predicted"].item() for table in tables]
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    return replace(tables[-1], frame=frame.assign(loss_main=losses, row=np.arange(len(frame))), targets=["main"])


def test_a_sealed_file_keeps_the_phases(folder: Path, forecast: Forecast) -> None:
    assert Forecast.load(folder / "forecast.json").mixtures == forecast.mixtures
    assert isinstance(forecast.mixtures["phases"], PhasedMixture)
    assert forecast.mixtures["phases"].ends == (0.6, 1.0)


def test_losses_along_d_are_those_of_the_run_so_far(forecast: Forecast) -> None:
    rows = rows_of(forecast.mixtures["phases"])
    for d, loss in zip(rows.frame["n_tokens"], rows.frame["loss_main"], strict=True):
        curve = forecast.at("phases", "main", d)
        assert curve["predicted"] == pytest.approx(loss, rel=0.01)
        assert curve["low"] < curve["predicted"] < curve["high"]
    ends = [forecast.at(name, "main", D)["predicted"] for name in ("phases", "recommended")]
    assert forecast.at("phases", "main", D)["gain"] == pytest.approx(ends[0] - ends[1])


def test_a_run_with_the_phases_is_scored_and_lies_inside(forecast: Forecast) -> None:
    found = score(forecast, rows_of(forecast.mixtures["phases"]))
    assert found.losses["mixture"].tolist() == ["phases"]
    assert found.losses["n_tokens"].item() == D
    assert found.losses["inside"].all()


@pytest.mark.parametrize("change", ["order", "switch", "one mixture"])
def test_runs_with_other_phases_are_not_scored(forecast: Forecast, change: str) -> None:
    other = {
        "order": PhasedMixture([0.6, 1.0], [SECOND, FIRST]),
        "switch": PhasedMixture([0.65, 1.0], [FIRST, SECOND]),
        "one mixture": PhasedMixture([0.6, 1.0], [Mixture.of(dict(forecast.mixtures["phases"]))] * 2),
    }
    with pytest.raises(RunLogError, match="no run matches the forecast"):
        score(forecast, rows_of(other[change]))
