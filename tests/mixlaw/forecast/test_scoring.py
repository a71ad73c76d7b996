"""Scoring: runs are matched by N, D and realised weights, and each loss and gain is inside its interval or not."""

import numpy as np
import pandas as pd
import pytest

from mixlaw.advice.recommend import recommend
from mixlaw.errors import RunLogError
from mixlaw.forecast.scoring import Score, score
from mixlaw.forecast.sealing import forecast_of
from mixlaw.forecast.words import gains_table, losses_table, verdict
from mixlaw.laws.registry import get_law
from tests.mixlaw.forecasts import TODAY, D, N, run_rows, runs
from tests.mixlaw.synthetic import TRUTHS, UNITS, laws_of, runs_table, study

UNIFORM = dict.fromkeys(TODAY, 1 / 3)


@pytest.fixture(scope="module")
def best(forecast):
    return run_rows("best", forecast.mixtures["recommended"])


@pytest.fixture(scope="module")
def today():
    return run_rows("today", TODAY)


def test_runs_of_the_law_itself_lie_inside_with_small_errors(forecast, best, today):
    found = score(forecast, runs(best, today, run_rows("even", UNIFORM)))
    assert len(found.losses) == 9
    assert len(found.gains) == 6
    assert (found.losses["measured"] / found.losses["predicted"] - 1).abs().max() < 0.01
    assert found.losses["inside"].all()
    assert found.gains["inside"].all()
    assert set(found.gains["mixture"]) == {"today", "uniform"}
    assert (found.notes, found.runs) == ([], ["best", "even", "today"])


def test_the_objective_and_gains_are_those_of_the_measured_losses(forecast, best, today):
    found = score(forecast, runs(best, today))
    losses = found.losses.set_index(["mixture", "target"])["measured"]
    gains = found.gains.set_index("target")["measured"]
    for name in ("recommended", "today"):
        mean = (2 * losses[name, "main"] + losses[name, "held"]) / 3
        assert losses[name, "(objective)"] == pytest.approx(mean)
    for target in ("main", "held", "(objective)"):
        assert gains[target] == pytest.approx(losses["today", target] - losses["recommended", target])
    assert found.notes == ["not scored, because no run trains on it: uniform"]


def test_seeds_are_averaged(forecast, best):
    other = best.assign(run_id="seed 2", loss_main=best["loss_main"] + 0.2)
    rows = score(forecast, runs(best, other)).losses.set_index("target")
    assert rows.loc["main", "n_runs"] == 2
    assert rows.loc["main", "measured"] == pytest.approx(best["loss_main"].iloc[-1] + 0.1)


def test_a_loss_beyond_its_interval_is_outside(forecast, best, today):
    found = score(forecast, runs(best.assign(loss_held=9.0), today))
    assert found.losses.query("mixture == 'recommended' and target == 'held'")["inside"].tolist() == [False]
    assert found.gains.query("target == 'held'")["inside"].tolist() == [False]
    assert "2 of 6 losses" not in verdict(found)
    assert verdict(found).startswith(f"Sealed {forecast.sealed[:10]}")
    assert losses_table(found)["inside"].tolist()[2] == "no"
    assert gains_table(found)["measured"].tolist()[2].startswith("-")


def test_a_shorter_run_is_scored_where_it_ends_and_gains_where_both_have_losses(forecast, best, today):
    found = score(forecast, runs(best[:1], today))
    at = found.losses.groupby("mixture")["n_tokens"].first()
    assert (at["recommended"], at["today"], set(found.gains["n_tokens"])) == (D / 4, D, {D / 4})
    assert found.losses["inside"].all()
    assert found.gains["inside"].all()
    assert "the runs on 'recommended' end at D = 16B of 64B and are scored there" in found.notes


def test_runs_that_end_at_whole_steps_are_scored_where_they_end(forecast, best):
    longer = run_rows("longer", TODAY, tokens=(D / 4, 0.9 * D, 1.04 * D, 1.3 * D))
    found = score(forecast, runs(best, longer))
    assert found.losses.groupby("mixture")["n_tokens"].first().to_dict() == {"recommended": D, "today": 1.04 * D}
    assert (set(found.gains["n_tokens"]), found.notes[1:]) == ({D}, [])
    assert found.losses["inside"].all()


def test_a_last_row_without_a_loss_does_not_hide_the_one_before(forecast, best):
    rows = best.assign(loss_held=[best["loss_held"].iloc[0], np.nan])
    at = score(forecast, runs(rows)).losses.set_index("target")["n_tokens"]
    assert (at["held"], at["(objective)"], at["main"]) == (D / 4, D / 4, D)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"n": 2 * N}, r"the nearest is x: its N is 2B, not 1B$"),
        ({"tokens": (D / 100,)}, r"the nearest is x: its D is 640M, outside 1B to 64B$"),
        ({"tokens": (2 * D,)}, r"the nearest is x: its D is 128B, outside 1B to 64B$"),
        ({"h": {"code": 0.5, "docs": 0.35, "web": 0.15}}, r"its weight of code is 0.500, not 0.600 as in 'today'$"),
    ],
)
def test_the_nearest_run_is_named_with_all_that_it_misses(forecast, rows, message):
    far = run_rows("far", {"code": 0.0, "docs": 0.0, "web": 1.0}, n=9 * N)
    with pytest.raises(RunLogError, match=message):
        score(forecast, runs(far, run_rows("x", **{"h": TODAY} | rows)))


def test_an_n_within_5_per_cent_is_scored_and_said(forecast):
    assert (
        score(forecast, runs(run_rows("x", TODAY, n=1.04 * N))).notes[-1]
        == "N of the runs is 1.04B, of the forecast 1B"
    )


def test_runs_of_other_domains_targets_or_units_are_refused(forecast, today):
    other = today.rename(columns={"weight_web": "weight_cc"})
    with pytest.raises(
        RunLogError, match="the forecast is of mixtures of code, docs, web; these runs train on code, doc"
    ):
        score(forecast, runs(other))
    with pytest.raises(
        RunLogError, match=r"the forecast is of \(objective\), main, held; these runs have no such loss"
    ):
        score(forecast, runs(today.rename(columns={"loss_main": "loss_a", "loss_held": "loss_b"})))
    table = runs(today)
    table.units["held"] = "bits/byte"
    with pytest.raises(RunLogError, match="the forecast of held is in nats/token, these runs have bits/byte: convert"):
        score(forecast, table)


def test_runs_that_match_without_a_loss_are_refused(forecast, today):
    other = run_rows("other", UNIFORM, n=5 * N)
    table = runs(today.assign(loss_main=np.nan).drop(columns="loss_held"), other.drop(columns="loss_held"))
    with pytest.raises(RunLogError, match="the runs that match the forecast have no loss of main between its tokens"):
        score(forecast, table)


def test_targets_that_were_not_measured_are_said(forecast, today):
    found = score(forecast, runs(today.drop(columns="loss_held")))
    assert found.losses["target"].tolist() == ["main"]
    assert found.notes[0] == "not scored, because the runs have no such loss: (objective), held"


def test_runs_that_began_before_the_seal_are_named(forecast, best, today):
    table = runs(best, today)
    early = score(forecast, table, {"best": forecast.time - 1, "today": forecast.time + 1})
    assert (early.early, early.undated) == (["best"], [])
    assert "not before the run (1 of 2 runs began earlier: best)" in verdict(early)
    late = score(forecast, table, dict.fromkeys(("best", "today"), forecast.time + 1))
    assert "UTC, before the runs began: 6 of 6 losses and 3 of 3 gains lie inside" in verdict(late)
    assert "UTC; no file shows when the runs began: " in verdict(score(forecast, table))


def test_a_score_comes_back_from_json(forecast, best, today):
    found = score(forecast, runs(best, today))
    again = Score.from_json(found.to_json())
    assert again.to_json() == found.to_json()
    assert again.key == found.key
    pd.testing.assert_frame_equal(again.losses, found.losses)


@pytest.mark.slow
def test_sealed_intervals_hold_the_losses_of_runs_of_a_known_law():
    inside, noise, big = [], 0.01, {"n_params": 2e9, "n_tokens": 2e11}
    for seed in range(12):
        laws = laws_of(study("additive", noise, seed), "additive", n_starts=6, n_bootstrap=60)
        forecast = forecast_of(laws, recommend(laws, **big, target="main"))
        h = np.array([list(mixture.values()) for mixture in forecast.mixtures.values()])
        n, d = (np.full(len(h), value) for value in big.values())
        truth = get_law("additive").loss(TRUTHS["additive"][None], UNITS.inputs(n, d, h.T))[0]
        for run in range(8):
            losses = truth + noise * np.random.default_rng([seed, run]).normal(size=len(h))
            found = score(forecast, runs_table(n, d, h, {"main": losses}, np.arange(len(h))))
            inside += found.losses["inside"].tolist()
    assert 0.75 <= np.mean(inside) <= 1
