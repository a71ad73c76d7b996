"""Whether a study pays: what it cost, what its mixture saves, and where both are equal."""

from dataclasses import replace

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.advice.break_even import break_even
from mixlaw.advice.constraints import Question
from mixlaw.advice.equivalents import EQUIVALENTS
from mixlaw.advice.recommend import recommend
from mixlaw.advice.recommendation import Recommendation
from mixlaw.counts import flops
from mixlaw.fitting.saved import FittedLaws
from mixlaw.report.answer_tables import sentences
from mixlaw.report.terminal import summary
from mixlaw.report.worth import balance
from tests.mixlaw.synthetic import TRUTHS, fitted, laws_of, study

N, D = 1e9, 1e11
BIG = Question(N, D, {"main": 1.0})


def worth(factor: float, low: float, high: float) -> pd.DataFrame:
    """Return a table of compute-equivalents: these factors of tokens, and twice these of FLOPs."""
    rows = [
        ["today", target, by, *(times * value for value in (factor, low, high))]
        for target in ("objective", "main")
        for by, times in (("tokens", 1.0), ("flops", 2.0))
    ]
    return pd.DataFrame(rows, columns=EQUIVALENTS)


@given(factor=st.floats(0.5, 100.0), study_share=st.floats(1e-6, 10.0))
def test_the_net_saving_is_what_the_baseline_would_need_less_minus_the_study(factor, study_share):
    (row,) = break_even(worth(factor, 0.9 * factor, 1.1 * factor), BIG, study_share * flops(N, D)).to_dict("records")
    assert row["study"] == pytest.approx(study_share)
    assert row["net"] == pytest.approx(1 - 1 / factor - study_share)
    assert row["saved_low"] < row["saved"] < row["saved_high"]


def test_a_question_about_flops_counts_savings_along_the_compute_optimal_path():
    (row,) = break_even(worth(2.0, 1.0, 3.0), replace(BIG, flops=flops(N, D)), 1.0).to_dict("records")
    assert row["saved"] == pytest.approx(1 - 1 / 4.0)


def test_a_study_of_unknown_cost_has_no_balance():
    assert break_even(worth(2.0, 1.0, 3.0), BIG, 0.0).empty


def test_the_laws_know_what_their_study_cost_also_after_they_were_saved(tmp_path):
    table = study("additive", noise=0.01)
    laws = laws_of(table, "additive", n_starts=4, n_bootstrap=4)
    runs = table.frame.groupby("run_id")[["n_params", "n_tokens"]].max()
    assert laws.study_flops == pytest.approx(float((6 * runs["n_params"] * runs["n_tokens"]).sum()))
    laws.save(tmp_path / "laws.json")
    assert FittedLaws.load(tmp_path / "laws.json").study_flops == laws.study_flops


def test_a_column_of_flops_counts_where_it_has_numbers():
    table = study("additive", n_mixtures=2, sizes=(1e8,), tokens=(1e9, 2e9))
    stated = [1e17, 3e17, float("nan"), float("nan")]
    assert replace(table, frame=table.frame.assign(flops=stated)).flops == pytest.approx(3e17 + 6 * 1e8 * 2e9)


@pytest.mark.parametrize(
    ("study_share", "words"), [(0.001, "a net saving of "), (0.999, "it breaks even at a big run of ")]
)
def test_an_answer_states_the_balance_and_keeps_it_in_its_file(tmp_path, study_share, words):
    laws = replace(fitted("additive", {"main": TRUTHS["additive"]}), study_flops=study_share * flops(N, D))
    answer = recommend(laws, n_params=N, n_tokens=D, target="main")
    (sentence,) = balance(answer)
    assert words in sentence
    assert sentence in summary(answer).splitlines()[:5]
    assert sentence in sentences(answer)
    answer.save(tmp_path / "answer.json")
    assert balance(Recommendation.load(tmp_path / "answer.json")) == [sentence]


def test_a_mixture_that_saves_nothing_is_not_said_to_pay():
    laws = replace(fitted("additive", {"main": TRUTHS["additive"]}), study_flops=1e18)
    best = recommend(laws, n_params=N, n_tokens=D, target="main").weights
    worse = recommend(laws, n_params=N, n_tokens=D, target="main", pins={"docs": 0.6}, baselines={"today": best})
    assert "h* saves none of them" in balance(worse)[0]
