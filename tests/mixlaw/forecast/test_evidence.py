"""What files show: when a run began, and that the laws changed."""

import os

import pytest

from mixlaw.errors import RunLogError
from mixlaw.forecast.evidence import beginnings, changed_laws
from mixlaw.forecast.sealed import Forecast
from mixlaw.runs.ledger import begin_attempt
from tests.mixlaw.forecasts import LAWS, sealed
from tests.mixlaw.run_logs import write_run


def age(path, seconds):
    os.utime(path, (seconds, seconds))


def test_a_run_began_at_the_first_trace_that_its_files_keep(tmp_path):
    copied, started = write_run(tmp_path, "copied"), write_run(tmp_path, "started")
    for folder, ages in ((copied, (5e8, 7e8, 6e8)), (started, (8e8, 8e8, 8e8))):
        for name, seconds in zip(("run.json", "metrics.jsonl", "done.json"), ages, strict=True):
            age(folder / name, seconds)
    begin_attempt(started, "here")
    (started / "attempts.jsonl").write_text('{"event":"start","time":4e8,"where":"here","job":""}\n')
    assert beginnings([tmp_path], ["copied", "started"], before=1e9) == {"copied": 5e8, "started": 4e8}
    assert beginnings([tmp_path], ["copied", "started"], before=3e8) == {"started": 4e8}


def test_a_copied_run_began_when_its_run_json_says(tmp_path):
    write_run(tmp_path, "copied", began="2020-09-13T12:26:40Z")
    assert beginnings([tmp_path], ["copied"], before=1e9) == {"copied": 1.6e9}
    write_run(tmp_path, "wrong", began="yesterday")
    with pytest.raises(RunLogError, match=r"wrong/run\.json: 'began' is 'yesterday', expected a time such as 2026"):
        beginnings([tmp_path], ["wrong"], before=1e9)


@pytest.mark.parametrize(("written", "known"), [(5e8, {"x": 5e8, "y": 5e8}), (2e9, {})])
def test_a_table_only_shows_that_its_runs_began_before_it_was_written(tmp_path, written, known):
    table = tmp_path / "table.csv"
    table.write_text("")
    age(table, written)
    assert beginnings([table], ["x", "y"], before=1e9) == known
    assert beginnings(["example:text"], ["x"], before=1e9) == {}


def test_laws_that_were_fitted_again_are_said_and_absent_ones_are_not(tmp_path):
    forecast = sealed(tmp_path)
    assert changed_laws(forecast, tmp_path) == ""
    LAWS.__class__(**LAWS.__dict__ | {"reason": "another"}).save(tmp_path / "laws.json")
    changed = changed_laws(Forecast.load(tmp_path / "forecast.json"), tmp_path)
    assert changed.endswith(
        "laws.json changed after the forecast was sealed (its sha256 differs): the sealed predictions count"
    )
    (tmp_path / "laws.json").unlink()
    assert changed_laws(forecast, tmp_path) == ""
