"""A sealed forecast states what the answer predicts, is never overwritten, and shows every edit."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.advice.recommendation import Recommendation, records
from mixlaw.errors import ConfigError, RunLogError
from mixlaw.fileio import file_sha256
from mixlaw.fitting.saved import FittedLaws
from mixlaw.forecast.sealed import Forecast
from mixlaw.forecast.sealing import forecast_of, seal
from tests.marks import slow
from tests.mixlaw.forecasts import FIT, LAWS, D, N, sealed, write_files


def test_the_forecast_holds_the_answer_s_numbers_and_the_hashes_of_its_files(folder, forecast):
    answer = Recommendation.load(folder / "answer.json")
    for row in records(answer.outcomes):
        stated = forecast.at(row["mixture"], forecast.objective, D)
        assert stated == pytest.approx({name: row[name] for name in stated}, rel=1e-9, abs=1e-9)
        assert forecast.mixtures[row["mixture"]] == row["weights"]
    assert (forecast.n_params, forecast.n_tokens, forecast.baselines) == (N, D, ["today", "uniform"])
    assert list(forecast.targets) == ["(objective)", "main", "held"]
    for name in ("laws", "answer"):
        assert forecast.hashes[name] == {"file": f"{name}.json", "sha256": file_sha256(folder / f"{name}.json")}


def test_the_objective_of_one_target_is_that_target(tmp_path):
    forecast = sealed(tmp_path, target="held")
    assert (forecast.objective, list(forecast.targets)) == ("held", ["held", "main"])


def test_a_saved_forecast_comes_back(folder, forecast):
    again = Forecast.from_json(json.loads((folder / "forecast.json").read_text()))
    assert again.to_json() == forecast.to_json()
    assert again.seal == forecast.seal == json.loads((folder / "forecast.json").read_text())["sha256"]


@given(data=st.data())
def test_every_edit_of_the_file_is_noticed(folder, tmp_path_factory, data):
    raw = (folder / "forecast.json").read_bytes()
    start = data.draw(st.integers(0, len(raw) - 1))
    stop = data.draw(st.integers(start, min(start + 3, len(raw))))
    edited = raw[:start] + data.draw(st.binary(max_size=3)) + raw[stop:]
    path = tmp_path_factory.getbasetemp() / "edited.json"
    path.write_bytes(edited)
    if edited == raw:
        Forecast.load(path)
    else:
        with pytest.raises(RunLogError, match=r"was edited after it was sealed|not a file of|has format"):
            Forecast.load(path)


def test_files_that_are_no_forecasts_are_named(tmp_path, folder):
    with pytest.raises(RunLogError, match=r"none\.json cannot be read: No such file"):
        Forecast.load(tmp_path / "none.json")
    with pytest.raises(RunLogError, match=r"answer\.json is not a file of `mixlaw forecast seal`"):
        Forecast.load(folder / "answer.json")


@pytest.mark.parametrize("n_points", [6, slow(17)])  # of 6, four lie between the sealed powers of two
def test_between_the_sealed_tokens_predictions_are_those_of_the_law(n_points, folder, forecast):
    answer, law = Recommendation.load(folder / "answer.json"), FittedLaws.load(folder / "laws.json")
    for factor in np.exp(np.linspace(np.log(1 / 64), 0, n_points)):
        facts = answer.to_json() | {"n_tokens": D * factor}
        there = forecast_of(law, Recommendation.from_json(facts))
        for mixture in forecast.mixtures:
            exact, stated = (f.at(mixture, "main", D * factor) for f in (there, forecast))
            assert stated == pytest.approx(exact, rel=1e-3, abs=1e-3)


@pytest.mark.slow
def test_sealing_again_keeps_the_first_seal_and_another_forecast_is_refused(tmp_path):
    first, laws, answer = sealed(tmp_path), tmp_path / "laws.json", tmp_path / "answer.json"
    edited = json.loads((tmp_path / "forecast.json").read_text())
    assert edited["sealed"] == first.sealed
    assert seal(laws, answer).seal == first.seal
    write_files(tmp_path, n_tokens=D / 2)
    with pytest.raises(ConfigError, match=rf"holds another forecast, sealed {first.sealed}, which is never overwr"):
        seal(laws, answer)
    assert seal(laws, answer, tmp_path / "more/second.json").n_tokens == D / 2
    with pytest.raises(ConfigError, match=r"answer\.json is not a file of .* it is not overwritten"):
        seal(laws, answer, answer)


def test_an_answer_of_another_fit_is_refused(folder, tmp_path):
    shutil.copy(folder / "answer.json", tmp_path)
    moved = {name: replace(target, draws=target.draws + 0.01) for name, target in FIT.targets.items()}
    for laws in (
        replace(LAWS, data_sha256="of another table"),
        replace(LAWS, fits={"additive": replace(FIT, targets=moved)}),
    ):
        laws.save(tmp_path / "laws.json")
        with pytest.raises(ConfigError, match=r"answer\.json was made from another fit than .*: run `mixlaw recommend"):
            seal(tmp_path / "laws.json", tmp_path / "answer.json")
    assert not (tmp_path / "forecast.json").exists()
