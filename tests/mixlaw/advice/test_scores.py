"""Predicted scores of benchmarks under several mixtures: through law and curve, saved, printed, and refused."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mixlaw.advice.ask import ask
from mixlaw.advice.objective import Objective
from mixlaw.advice.phase_plan import PhasePlan
from mixlaw.advice.phased_objective import PhasedObjective
from mixlaw.advice.recommend import recommend
from mixlaw.advice.recommendation import Recommendation
from mixlaw.advice.scores import scores_of
from mixlaw.benchmarks.fit_benchmarks import fit_benchmarks
from mixlaw.benchmarks.saved import Benchmarks
from mixlaw.benchmarks.two_stages import predict_scores
from mixlaw.errors import ConfigError
from mixlaw.phased_mixture import PhasedMixture
from mixlaw.report.answer_tables import scores_sentences, scores_table
from mixlaw.report.terminal import summary
from mixlaw.tables.check import check_frame
from tests.mixlaw.benchmarks.curves import curves as written_curves
from tests.mixlaw.benchmarks.tables import scored_runs
from tests.mixlaw.synthetic import TRUTHS, fitted, laws_of

BIG = {"n_params": 6e8, "n_tokens": 2e10}


@pytest.fixture(scope="module")
def laws():
    return laws_of(check_frame(scored_runs(), "runs"), "additive", n_starts=4, n_bootstrap=40)


@pytest.fixture(scope="module")
def curves():
    return fit_benchmarks(scored_runs(), 0.25)


@pytest.fixture(scope="module")
def answer(laws, curves):
    return recommend(laws, **BIG, target="arc", baselines=["code=1"], benchmarks=curves)


def test_the_best_mixture_has_the_best_score_and_intervals_hold_both_stages(answer, curves):
    scores = answer.scores.set_index("mixture")
    assert scores.index.tolist() == ["recommended", "baseline", "uniform"]
    assert scores["score"].idxmax() == "recommended"
    assert (scores["low"] <= scores["score"]).all()
    assert (scores["score"] <= scores["high"]).all()
    loss = answer.outcomes["predicted"].to_numpy()
    assert scores["score"].to_numpy() == pytest.approx(curves["arc"].score(loss))
    alone = curves["arc"].predict(loss)
    assert (scores["high"] - scores["low"]).sum() > (alone["high"] - alone["low"]).sum()


def test_recommended_phases_have_the_score_of_their_loss():
    law = "multiplicative-phases"
    fitted_laws = fitted(law, {"main": TRUTHS[law]})
    question = ask(fitted_laws, n_params=1e9, n_tokens=1e11, target="main", baselines=["web=1", "docs=1"])
    objective = Objective(fitted_laws.best, question, fitted_laws.sizes)
    one, other = question.baselines.values()
    quiz = Benchmarks({"quiz": written_curves()["quiz"]})

    def found(*phases):
        plan = PhasePlan([0.5, 1.0], list(phases), pd.DataFrame(), 0.0, pd.DataFrame(), pd.DataFrame())
        return scores_of(objective, {"one": one}, quiz, 0.9, plan).set_index("mixture")[["score", "low", "high"]]

    equal, changing = found(one, one), found(one, other)
    assert equal.loc["phases"].to_numpy() == pytest.approx(equal.loc["one"].to_numpy())
    phased = PhasedObjective(objective, [0.5, 1.0])
    loss = phased.at(PhasedMixture([0.5, 1.0], [one, other]))
    assert changing.loc["phases", "score"] == pytest.approx(quiz["quiz"].score(np.array(loss)).item())
    assert changing.loc["phases", "score"] != pytest.approx(equal.loc["one", "score"], rel=1e-3)


def test_rows_of_a_table_get_the_scores_of_their_losses(laws, curves):
    rows = check_frame(scored_runs(n_runs=3).drop(columns="loss_arc"), "rows", need_losses=False)
    found = predict_scores(curves, laws.best, rows)
    losses = laws.best.predict(rows)["predicted"].to_numpy()
    assert found["predicted"].to_numpy() == pytest.approx(curves["arc"].score(losses))
    assert found["row"].tolist() == rows.frame["row"].tolist()


def test_saved_scores_and_printed_ones_are_the_same(answer, tmp_path):
    answer.save(tmp_path / "answer.json")
    again = Recommendation.load(tmp_path / "answer.json")
    pd.testing.assert_frame_equal(again.scores, answer.scores)
    assert scores_table(answer)["recommended"].item() in summary(again)
    assert scores_sentences(answer) == []


def test_a_score_that_is_not_predictable_is_a_dash_with_its_reason(laws, curves):
    told = Benchmarks(
        {"arc": curves["arc"], "quiz": replace(curves["arc"], name="quiz", reason="all runs are at chance")}
    )
    answer = recommend(laws, **BIG, target="arc", benchmarks=told)
    assert scores_table(answer).set_index("benchmark").loc["quiz"].tolist() == ["-", "-"]
    assert scores_sentences(answer) == ["quiz is not predictable: all runs are at chance"]
    assert "quiz is not predictable: all runs are at chance" in summary(answer)


def test_reasons_of_single_mixtures_name_them(answer):
    reasons = ["", "its loss is far below the runs'", ""]
    assert scores_sentences(replace(answer, scores=answer.scores.assign(reason=reasons))) == [
        "arc is not predictable under baseline: its loss is far below the runs'"
    ]


def test_answers_without_benchmarks_have_no_scores(answer):
    facts = answer.to_json()
    del facts["scores"]
    old = Recommendation.from_json(facts)
    assert old.scores.empty
    assert "predicted scores" not in summary(old)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"target": "ark"}, "the benchmark arc needs a law of its loss: unknown target 'ark'; did you mean 'arc'"),
        (
            {"unit": "bits/byte"},
            "fitted to losses of arc in bits/byte, its law to nats/token: fit both to the same table",
        ),
    ],
)
def test_curves_of_other_targets_or_units_are_refused(laws, curves, change, words):
    with pytest.raises(ConfigError, match=words):
        recommend(laws, **BIG, benchmarks=Benchmarks({"arc": replace(curves["arc"], **change)}))
