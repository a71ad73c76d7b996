"""The ledger counts every forecast once, whoever writes, and names a damaged line."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from mixlaw.errors import RunLogError
from mixlaw.forecast.ledger import Ledger, record
from mixlaw.forecast.scoring import Score, score
from mixlaw.forecast.words import history, totals
from tests.mixlaw.forecasts import TODAY, run_rows, runs


@pytest.fixture(scope="module")
def scored(forecast) -> Score:
    return score(forecast, runs(run_rows("best", forecast.mixtures["recommended"]), run_rows("today", TODAY)))


def test_the_same_score_is_added_once(scored, tmp_path):
    path = tmp_path / "new/forecasts.jsonl"
    assert record(path, scored)
    raw = path.read_bytes()
    assert not record(path, scored)
    assert path.read_bytes() == raw
    assert [found.to_json() for found in Ledger.load(path).scores] == [scored.to_json()]


def test_two_writers_add_the_same_score_once_and_lose_no_other(scored, tmp_path):
    path = tmp_path / "forecasts.jsonl"
    all_scores = [replace(scored, seal=f"{i:064d}") for i in range(20)]
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda found: record(path, found), all_scores * 2))
    assert sum(added) == 20
    assert {found.seal for found in Ledger.load(path).scores} == {found.seal for found in all_scores}
    assert len(path.read_text().splitlines()) == 20


def test_of_a_forecast_that_was_scored_again_the_last_score_counts(scored, tmp_path):
    path = tmp_path / "forecasts.jsonl"
    later = replace(scored, losses=scored.losses.assign(inside=False))
    for found in (replace(scored, seal="other"), scored, later):
        record(path, found)
    ledger = Ledger.load(path)
    assert [found.seal for found in ledger.scores] == ["other", scored.seal]
    assert totals(ledger) == "2 forecasts: 6 of 12 losses and 6 of 6 gains inside the intervals."
    assert history(ledger)["losses inside"].tolist() == ["6 of 6", "0 of 6"]


def test_forecasts_that_are_younger_than_their_runs_are_shown_and_not_counted(scored, tmp_path):
    path = tmp_path / "forecasts.jsonl"
    record(path, replace(scored, early=["best"]))
    ledger = Ledger.load(path)
    assert history(ledger)["sealed first"].tolist() == ["no"]
    assert totals(ledger) == "0 forecasts; 1 more not sealed before the run."


def test_the_history_states_the_gain_over_the_first_baseline(scored):
    row = history(Ledger([scored])).iloc[0]
    gain = scored.gains.query("target == '(objective)' and mixture == 'today'").iloc[0]
    assert row["gain over"] == "today"
    assert row["measured"] == f"{gain['measured']:+.4f}"
    assert row["predicted"] == f"{gain['predicted']:+.4f}"
    assert row["sealed first"] == "unknown"


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:50], lambda raw: raw.replace(b"true", b"false", 1), lambda raw: b"[1]\n"]
)
def test_a_damaged_line_is_named_and_nothing_is_added(scored, tmp_path, damage):
    path = tmp_path / "forecasts.jsonl"
    record(path, scored)
    path.write_bytes(path.read_bytes() + damage(path.read_bytes()))
    message = r"forecasts\.jsonl line 2 is damaged: delete this line and score its forecast again"
    with pytest.raises(RunLogError, match=message):
        Ledger.load(path)
    with pytest.raises(RunLogError, match=message):
        record(path, replace(scored, seal="other"))
    assert len(path.read_text().splitlines()) == 2


def test_an_absent_ledger_is_named(tmp_path):
    with pytest.raises(RunLogError, match="does not exist: `mixlaw forecast score` writes it"):
        Ledger.load(tmp_path / "forecasts.jsonl")
