"""`mixlaw forecast` as a person types it: seal, score, ledger, and the mistakes that people make."""

import json
import os
import shutil

import pandas as pd
import pytest

from mixlaw.cli.main import main
from mixlaw.forecast.sealed import Forecast
from tests.mixlaw.forecasts import LAWS, TODAY, D, N, run_rows, write_files
from tests.mixlaw.run_logs import eval_row, train_row, write_run


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a folder with laws.json, answer.json, forecast.json and runs.csv, which tests copy before they use it."""
    folder = tmp_path_factory.mktemp("files")
    laws, answer = write_files(folder)
    assert main(["forecast", "seal", str(laws), str(answer)]) == 0
    best = Forecast.load(folder / "forecast.json").mixtures["recommended"]
    pd.concat([run_rows("best", best), run_rows("today", TODAY)]).to_csv(folder / "runs.csv", index=False)
    return folder


@pytest.fixture
def folder(files, tmp_path, monkeypatch):
    shutil.copytree(files, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_forecast_is_sealed_scored_and_recorded_once(folder, capsys):
    (folder / "forecast.json").unlink()
    assert main("forecast seal laws.json answer.json".split()) == 0
    seal = json.loads((folder / "forecast.json").read_text())["sha256"]
    sealed = capsys.readouterr().out
    assert f"sha256 {seal}" in sealed
    assert "score it by `mixlaw forecast score forecast.json RUNS`" in sealed
    (folder / "runs.csv").touch()
    assert main("forecast score forecast.json runs.csv".split()) == 0
    scored = capsys.readouterr()
    assert "6 of 6 losses and 3 of 3 gains lie inside their 90 % intervals." in scored.out
    assert "added to forecasts.jsonl" in scored.out
    assert "note: not scored, because no run trains on it: uniform" in scored.err
    assert main("forecast score forecast.json runs.csv".split()) == 0
    assert "forecasts.jsonl holds this score already" in capsys.readouterr().out
    assert main("forecast ledger".split()) == 0
    record = capsys.readouterr().out
    assert seal[:12] in record
    assert "1 forecast: 6 of 6 losses and 3 of 3 gains inside the intervals." in record


def test_runs_in_a_table_that_is_older_than_the_seal_are_not_sealed_before_the_run(folder, capsys):
    os.utime("runs.csv", (1e9, 1e9))
    assert main("forecast score forecast.json runs.csv --ledger other.jsonl".split()) == 0
    assert "not before the run (2 of 2 runs began earlier: best, today)" in capsys.readouterr().out
    assert main("forecast ledger other.jsonl".split()) == 0
    assert "0 forecasts; 1 more not sealed before the run." in capsys.readouterr().out


def run_directory(root, name, mixture, losses):
    tokens = {domain: round(weight * D) for domain, weight in mixture.items()}
    rows = [train_row(1, n_tokens=int(D), tokens_by_domain=tokens)]
    rows += [eval_row(1, target, loss, n_tokens=int(D)) for target, loss in losses.items()]
    sizes = {"total": int(N), "non_embedding": int(N)}
    data = {domain: {"n_tokens": int(D)} for domain in (*mixture, *losses)}
    return write_run(root, name, rows, mixture=dict(mixture), n_params=sizes, data=data, began="2100-01-01T00:00:00Z")


def test_run_directories_show_that_the_forecast_was_sealed_first(folder, capsys):
    best = Forecast.load("forecast.json").mixtures["recommended"]
    for name, mixture, losses in (("best", best, (2.3, 2.44)), ("today", TODAY, (2.45, 2.6))):
        run_directory(folder, name, mixture, dict(zip(("main", "held"), losses, strict=True)))
    assert main("forecast score forecast.json s".split()) == 0
    said = capsys.readouterr().out
    assert "UTC, before the runs began: 6 of 6 losses and " in said
    assert "Gain over today: +0.1533 nats" in said
    os.utime("s/today/run.json", (1e9, 1e9))
    assert main("forecast score forecast.json s".split()) == 0
    assert "not before the run (1 of 2 runs began earlier: today)" in capsys.readouterr().out


def test_laws_that_changed_after_the_seal_are_said_and_the_sealed_numbers_count(folder, capsys):
    LAWS.__class__(**LAWS.__dict__ | {"reason": "fitted again"}).save("laws.json")
    assert main("forecast score forecast.json runs.csv".split()) == 0
    assert "warning: laws.json changed after the forecast was sealed" in capsys.readouterr().err


@pytest.mark.slow  # draws a report
def test_the_report_finds_the_forecasts_beside_the_laws(folder, capsys):
    assert main("report runs.csv --laws laws.json --out page/report.html".split()) == 0
    assert "mixlaw forecast score forecast.json RUNS" in (folder / "page/report.html").read_text()


def edited(path):
    path.write_text(path.read_text().replace('"main"', '"mean"'))


def other_domains(path):
    pd.read_csv(path).rename(columns={"weight_web": "weight_cc"}).to_csv(path, index=False)


def other_d(path):
    pd.read_csv(path).assign(n_tokens=3 * D).drop_duplicates("run_id").to_csv(path, index=False)


@pytest.mark.parametrize(
    ("damaged", "how", "words", "code", "message"),
    [
        ("forecast.json", edited, "score forecast.json runs.csv", 3, "forecast.json was edited after it was sealed"),
        ("runs.csv", other_domains, "score forecast.json runs.csv", 3, "these runs train on code, docs, cc"),
        ("runs.csv", other_d, "score forecast.json runs.csv", 3, "no run matches the forecast; the nearest is best"),
        ("", None, "seal laws.json forecast.json", 3, "is not a file of `mixlaw recommend --out`"),
        ("laws.json", edited, "seal laws.json answer.json", 3, "laws.json was changed after `mixlaw fit` wrote it"),
        (
            "answer.json",
            edited,
            "seal laws.json answer.json",
            2,
            "answer.json was made from another fit than laws.json",
        ),
        ("", None, "seal laws.json none.json", 3, "none.json cannot be read: No such file or directory"),
        ("", None, "seal none.json answer.json", 3, "none.json does not exist"),
        ("", None, "score none.json runs.csv", 3, "none.json cannot be read: No such file or directory"),
        ("", None, "score laws.json runs.csv", 3, "laws.json is not a file of `mixlaw forecast seal`"),
        ("", None, "score forecast.json none.csv", 3, "none.csv"),
        ("", None, "score forecast.json runs.csv --ledger .", 4, "this is a folder, not a file to write"),
        ("", None, "ledger .", 3, "forecasts.jsonl does not exist"),
        ("", None, "ledger none.jsonl", 3, "none.jsonl does not exist"),
        ("", None, "ledger runs.csv", 3, "runs.csv line 1 is damaged"),
        (
            "",
            None,
            "seal laws.json answer.json --out runs.csv",
            2,
            "it is not overwritten: give --out another",
        ),
        ("", None, "seal laws.json answer.json --out .", 4, "this is a folder"),
    ],
)
def test_mistakes_end_in_one_sentence(folder, capsys, damaged, how, words, code, message):
    if how:
        how(folder / damaged)
    assert main(["forecast", *words.split()]) == code
    said = capsys.readouterr().err
    assert message in said.splitlines()[-1]
    assert said.splitlines()[-1].startswith("error: ")
    assert not (folder / "forecasts.jsonl").exists()


def test_an_answer_of_another_table_is_refused(folder, capsys):
    LAWS.__class__(**LAWS.__dict__ | {"data_sha256": "other"}).save("laws.json")
    assert main("forecast seal laws.json answer.json --out second.json".split()) == 2
    said = "answer.json was made from another fit than laws.json: run `mixlaw recommend` again"
    assert said in capsys.readouterr().err
