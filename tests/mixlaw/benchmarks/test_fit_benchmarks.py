"""Curves from loss to score on synthetic runs: parameters, intervals, verdicts, and files."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mixlaw.benchmarks.fit_benchmarks import fit_benchmarks
from mixlaw.benchmarks.saved import Benchmarks
from mixlaw.errors import ConfigError, FitError, RunLogError
from tests.mixlaw.benchmarks.tables import scored_runs


def noise(frame):
    """Return the binomial noise of 400 questions at chance."""
    return np.random.default_rng(4).binomial(400, 0.25, len(frame)) / 400 - 0.25


def barely_rising(frame):
    """Return scores that rise by 3 % and, before the ends of runs, scatter more than that."""
    before_the_end = frame.duplicated("run_id", keep="last")
    return 0.25 + 0.08 * (frame["score_arc"] - 0.25) + 2 * noise(frame) * before_the_end


@pytest.fixture(scope="module")
def found():
    return fit_benchmarks(scored_runs(), 0.25)


def test_a_known_curve_is_recovered_and_predictable(found):
    curve = found["arc"]
    assert curve.reason == ""
    assert curve.params == pytest.approx({"midpoint": 0.95, "slope": 6.0, "ceiling": 0.95}, rel=0.1)
    loss = np.array([0.9, 1.0, 1.4])
    truth = 0.25 + 0.7 / (1 + np.exp(6 * (loss - 0.95)))
    predicted = curve.predict(loss)
    assert predicted["score"].to_numpy() == pytest.approx(truth, abs=0.02)
    assert ((predicted["low"] < truth) & (truth < predicted["high"])).all()
    assert curve.held["held_out"].tolist() == ["N = 40M", "N = 160M"]


def test_beyond_the_runs_intervals_grow_and_scores_are_not_predictable():
    curve = fit_benchmarks(scored_runs(n_runs=21).query("loss_arc > 1.2"), 0.25)["arc"]
    best, worst = curve.losses
    rows = curve.predict(np.array([1.25, 1.1, 0.8, best - 1.1 * (worst - best)]))
    assert (np.diff(rows["high"] - rows["low"])[:2] > 0).all()
    assert rows["reason"].iloc[0] == ""
    assert "lies further below the runs' 1.2" in rows["reason"].iloc[-1]


def test_an_interval_of_most_scores_is_no_prediction(found):
    drawn = np.random.default_rng(0).uniform(0.3, 1.6, (200, 1))
    assert "holds most scores from chance to 1" in found["arc"].predict(np.array([1.0]), drawn)["reason"].item()


def test_each_size_is_predicted_from_smaller_ones_only(found):
    frame = scored_runs()
    changed = frame["score_arc"].where(frame["n_params"] < 1e8, 0.9)
    again = fit_benchmarks(frame.assign(score_arc=changed), 0.25)["arc"]
    pd.testing.assert_series_equal(again.held.iloc[0], found["arc"].held.iloc[0])
    assert again.held["predicted"].iloc[1] == found["arc"].held["predicted"].iloc[1]


def test_errors_on_held_out_sizes_widen_the_intervals(found):
    frame = scored_runs()
    bent = fit_benchmarks(
        frame.assign(score_arc=frame["score_arc"] + 0.12 * (frame["n_params"] > 1e8)), 0.25, n_bootstrap=40
    )["arc"]
    assert bent.widening > 1.2
    assert bent.held["ratio"].iloc[-1] > found["arc"].held["ratio"].iloc[-1]
    wide, plain = (curve.predict(np.array([0.95])) for curve in (bent, replace(bent, widening=1.0)))
    grown = (wide["high"] - wide["low"]) / (plain["high"] - plain["low"])
    assert grown.item() == pytest.approx(bent.widening, rel=0.1)


def test_uncertain_losses_widen_the_interval_of_the_score(found):
    curve, loss = found["arc"], np.array([1.0])
    drawn = loss + np.random.default_rng(0).normal(0, 0.05, (200, 1))
    width = [(each["high"] - each["low"]).item() for each in (curve.predict(loss), curve.predict(loss, drawn))]
    assert width[1] > 1.5 * width[0]


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"score_arc": lambda f: 0.25 + noise(f)}, "does not rise"),
        ({"score_arc": lambda f: 1 - f["score_arc"]}, "the score falls .* if it is an error rate, state 1 minus it"),
        (
            {"score_arc": barely_rising},
            "the best runs are near chance, 25 %",
        ),
        ({"score_arc": 0.3}, "all 15 runs end with the same score, 30 %"),
        ({"loss_arc": 1.2}, r"all 15 runs end with the same loss, 1\.2"),
        ({"score_arc": lambda f: f["score_arc"] * (f["n_params"] < 1e8)}, "does not rise"),
        ({"score_arc": lambda f: f["score_arc"] + 0.2 * (f["n_params"] > 1e8)}, r"held-out runs \(N = 160M\)"),
        ({"score_arc": lambda f: f["score_arc"] / 4}, "score below chance"),
    ],
)
def test_runs_that_cannot_predict_a_score_say_why(cells, words):
    curve = fit_benchmarks(scored_runs().assign(**cells), 0.25, n_bootstrap=30)["arc"]
    assert re.search(words, curve.reason)
    assert (curve.predict(np.array([1.0]))["reason"] == curve.reason).all()


def test_one_size_holds_out_the_runs_of_the_lowest_losses():
    frame = scored_runs(n_runs=30).query("n_params == 4e7")
    assert fit_benchmarks(frame, 0.25, n_bootstrap=10)["arc"].held["held_out"].tolist() == ["lowest losses"]


def test_four_runs_in_order_may_be_luck():
    frame = scored_runs(n_runs=12).query("n_params == 4e7")
    curve = fit_benchmarks(frame, 0.25, n_bootstrap=10)["arc"]
    assert curve.held.empty
    assert "4 runs are too few to tell a rise of the score from luck" in curve.reason


def test_per_cent_are_converted_with_a_note_as_their_standard_errors_are():
    frame = scored_runs()
    error = np.sqrt(frame["score_arc"] * (1 - frame["score_arc"]) / np.where(frame.index % 2, 100, 1000))
    shares = frame.assign(score_se_arc=error)
    per_cent = shares.assign(score_arc=100 * frame["score_arc"], score_se_arc=100 * error)
    found, again = (fit_benchmarks(each, 0.25, n_bootstrap=10) for each in (shares, per_cent))
    assert again.notes == ["score_arc goes up to 62.1: read as per cent, and divided by 100"]
    assert again["arc"].fit.theta == pytest.approx(found["arc"].fit.theta)
    assert again["arc"].points.effort == pytest.approx(found["arc"].points.effort)


def test_one_cell_in_per_cent_among_shares_is_named():
    frame = scored_runs()
    frame.loc[3, "score_arc"] *= 100
    assert "row 4: no other score_arc lies above 1" in fit_benchmarks(frame, 0.25, n_bootstrap=10).notes[1]


def test_rows_of_fewer_questions_count_less():
    frame = scored_runs()
    shaken = frame["score_arc"] + np.where(frame.index % 2, 0.05, 0.0)
    error = np.sqrt(frame["score_arc"] * (1 - frame["score_arc"]) / np.where(frame.index % 2, 10, 1000))
    weighted = fit_benchmarks(frame.assign(score_arc=shaken, score_se_arc=error), 0.25, n_bootstrap=10)["arc"]
    plain = fit_benchmarks(frame.assign(score_arc=shaken), 0.25, n_bootstrap=10)["arc"]
    loss, truth = np.array([1.1]), 0.25 + 0.7 / (1 + np.exp(6 * 0.15))
    assert abs(weighted.score(loss) - truth) < 0.5 * abs(plain.score(loss) - truth)


def test_a_saved_file_predicts_the_same(found, tmp_path):
    found.save(tmp_path / "benchmarks.json")
    again = Benchmarks.load(tmp_path / "benchmarks.json")
    loss = np.linspace(0.5, 1.5, 7)
    pd.testing.assert_frame_equal(again["arc"].predict(loss), found["arc"].predict(loss))
    pd.testing.assert_frame_equal(again.summary(), found.summary())
    assert repr(again["arc"]) == repr(found["arc"])


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"format": 2}', '{"format": 1, "curves": []}', '{"format": 1, "curves": [{}]}']
)
def test_a_file_of_something_else_is_refused(text, tmp_path):
    path = tmp_path / "benchmarks.json"
    path.write_text(text)
    with pytest.raises(RunLogError, match=r"benchmarks\.json"):
        Benchmarks.load(path)


@pytest.mark.parametrize(("part", "value"), [("theta", [1.0]), ("draws", []), ("draws", [[1.0]]), ("points", {})])
def test_a_damaged_file_is_refused(found, part, value, tmp_path):
    facts = found.to_json()
    facts["curves"][0][part] = value
    path = tmp_path / "benchmarks.json"
    path.write_text(json.dumps(facts))
    with pytest.raises(RunLogError, match=r"benchmarks\.json is not a file of `mixlaw benchmarks`"):
        Benchmarks.load(path)


@pytest.mark.parametrize(
    ("change", "arguments", "error", "words"),
    [
        ({"score_arc": 140.0}, {}, RunLogError, "score_arc is 140; scores lie between 0 and 1"),
        ({"score_arc": "good"}, {}, RunLogError, "score_arc is 'good', not a number"),
        ({"score_arc": np.nan}, {}, RunLogError, "no row has both loss_arc and score_arc"),
        ({}, {"loss": "loss_arc", "score": "loss_arc"}, ConfigError, "--score loss_arc holds the losses of loss_arc"),
        ({"loss_x": 0.5, "score_arc": 0.5}, {}, ConfigError, "--score score_arc holds the losses of loss_x"),
        ({"loss_x": 0.5}, {"loss": "loss_x"}, ConfigError, "the table has no column score_x: name columns by"),
        ({}, {"loss": "loss_arc", "score": "acc_arc"}, ConfigError, "--score: unknown column 'acc_arc'; did you mean"),
        ({}, {"loss": ["loss_arc"] * 2, "score": "score_arc"}, ConfigError, "--loss names 2 columns and --score 1"),
        ({}, {"loss": "loss_arc", "score": ["score_arc"] * 2}, ConfigError, "--score names score_arc twice: fit it by"),
        ({}, {"chance": {}}, ConfigError, "--chance: state the score of guessing for arc"),
        ({}, {"chance": {"ark": 0.2}}, ConfigError, "--chance: unknown benchmark 'ark'; did you mean 'arc'"),
        ({}, {"chance": 25}, ConfigError, "arc is 25; the score of guessing is at least 0 and below 1"),
    ],
)
def test_bad_input_is_one_sentence(change, arguments, error, words):
    with pytest.raises(error, match=words):
        fit_benchmarks(scored_runs().assign(**change), **{"chance": 0.25, "n_bootstrap": 2} | arguments)


def test_too_few_runs_and_no_scores_are_refused():
    with pytest.raises(FitError, match="arc: a curve needs 4 runs with loss_arc and a score; the table has 3"):
        fit_benchmarks(scored_runs(n_runs=3), 0.25)
    with pytest.raises(ConfigError, match="no column score_<target>"):
        fit_benchmarks(scored_runs().drop(columns="score_arc"), 0.25)


@pytest.mark.slow
def test_nominal_intervals_hold_the_scores_of_larger_runs():
    inside = []
    for seed in range(24):
        frame = scored_runs(seed, n_runs=24)
        curve = fit_benchmarks(frame[frame["n_params"] < 1e8], 0.25)["arc"]
        new = frame[frame["n_params"] > 1e8].groupby("run_id").tail(1)
        rows = curve.predict(new["loss_arc"].to_numpy())
        score = new["score_arc"].to_numpy()
        inside += ((rows["low"] <= score) & (score <= rows["high"])).tolist()
    assert 0.8 <= np.mean(inside) <= 1.0
