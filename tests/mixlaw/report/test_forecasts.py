"""The report's section on sealed forecasts: the last score, the record, what waits, and what cannot be trusted."""

import shutil
from pathlib import Path

import pytest

from mixlaw.forecast.folder import forecasts_in
from mixlaw.forecast.ledger import NAME, record
from mixlaw.forecast.scoring import score
from mixlaw.forecast.sealed import Forecast
from mixlaw.report.build import write_report
from mixlaw.report.forecasts import forecast_sections
from tests.mixlaw.forecasts import LAWS, TODAY, D, run_rows, runs, sealed, write_files


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Return a folder with a forecast that was scored, to be copied."""
    place = tmp_path_factory.mktemp("made")
    forecast = sealed(place)
    best = run_rows("best", forecast.mixtures["recommended"])
    record(place / NAME, score(forecast, runs(best, run_rows("today", TODAY))))
    return place


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "folder")


def section(folder: Path) -> str:
    (found,) = forecast_sections(forecasts_in(folder))
    assert found.title == "The sealed forecast"
    return str(found.body)


def test_a_folder_without_forecasts_has_no_section(tmp_path):
    assert forecast_sections(forecasts_in(tmp_path)) == []


def test_the_report_shows_the_last_score_and_the_record(folder):
    write_report(folder / "report.html", LAWS, forecasts=folder)
    page = (folder / "report.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "6 of 6 losses and 3 of 3 gains lie inside their 90 % intervals." in page
    assert "1 forecast: 6 of 6 losses and 3 of 3 gains inside the intervals." in page
    assert "gain over" in page
    assert "not scored yet" not in page


def test_a_forecast_that_waits_has_the_command_that_scores_it(folder):
    write_files(folder, n_tokens=D / 2)
    body = section(folder)
    assert "laws.json changed" not in body
    (folder / NAME).unlink()
    waits = section(folder)
    sealed_at = Forecast.load(folder / "forecast.json").sealed[11:19]
    assert f"{sealed_at} UTC for N = 1B, D = 64B, not scored yet" in waits
    assert f"mixlaw forecast score {folder / 'forecast.json'} RUNS" in waits


def test_damaged_files_and_changed_laws_are_said(folder):
    (folder / "forecast2.json").write_text((folder / "forecast.json").read_text().replace("main", "mean"))
    (folder / NAME).write_text("{}\n")
    LAWS.__class__(**LAWS.__dict__ | {"reason": "fitted again"}).save(folder / "laws.json")
    body = section(folder)
    assert "forecast2.json was edited after it was sealed" in body
    assert f"{NAME} line 1 is damaged" in body
    assert "laws.json changed after the forecast was sealed" in body
