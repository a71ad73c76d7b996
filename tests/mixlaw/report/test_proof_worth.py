"""Measured compute-equivalents: equal to the predicted ones where the law itself wrote the losses of the proof."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.advice.equivalents import MOST
from mixlaw.advice.recommend import recommend
from mixlaw.advice.recommendation import Recommendation
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.registry import get_law
from mixlaw.report.build import write_report
from mixlaw.report.proof import prove
from mixlaw.report.proof_worth import factor, measured_factors, worth_sentences
from mixlaw.tables.check import check_frame
from mixlaw.tables.table import Table
from tests.mixlaw.synthetic import DOMAINS, TRUTHS, UNITS, fitted

N, D = 1e9, 1e11
THETA = np.array([0.5, *np.log([5.0, 20.0, 5.0, 0.5, 0.4, 0.6]), *np.log([0.30, 0.35, 0.25, 0.30])])


def proof_of(answer: Recommendation, points: int = 40) -> Table:
    """Return runs on every mixture of an answer, whose losses the law wrote, evaluated down to a tenth of D."""
    rows = []
    for name, mixture in {"recommended": answer.weights, **answer.baselines}.items():
        tokens = D * np.geomspace(0.1, 1.0, points)
        h = np.tile(mixture.array[:, None], points)
        loss = get_law("additive").loss(THETA[None], UNITS.inputs(np.full(points, N), tokens, h))[0]
        weights = {f"weight_{d}": w for d, w in mixture.items()}
        rows.append(pd.DataFrame({"run_id": name, "n_params": N, "n_tokens": tokens, "loss_main": loss} | weights))
    return check_frame(pd.concat(rows, ignore_index=True), "the proof")


@pytest.fixture(scope="module")
def laws() -> FittedLaws:
    return fitted("additive", {"main": THETA}, spread=0.0)


def measured(laws: FittedLaws, answer: Recommendation, proof: Table) -> dict[str, float]:
    return measured_factors(prove(answer, proof), laws, answer, proof)


def predicted(answer: Recommendation) -> dict[str, float]:
    rows = answer.equivalents.query("target == 'objective' and by == 'tokens'")
    return dict(zip(rows["mixture"], rows["factor"], strict=True))


def test_beyond_the_end_of_a_run_the_law_extends_it(laws):
    answer = recommend(laws, n_params=N, n_tokens=D, target="main")
    assert predicted(answer)["uniform"] > 1.01
    assert measured(laws, answer, proof_of(answer)) == pytest.approx(predicted(answer), rel=1e-6)


def test_a_baseline_that_was_better_met_the_loss_between_its_evaluations(laws):
    best = recommend(laws, n_params=N, n_tokens=D, target="main").weights
    worse = recommend(laws, n_params=N, n_tokens=D, target="main", pins={"docs": 0.5}, baselines={"best": best})
    assert predicted(worse)["best"] < 0.99
    assert measured(laws, worse, proof_of(worse)) == pytest.approx(predicted(worse), rel=0.01)


@pytest.mark.slow  # draws a report
def test_the_sentences_compare_measured_with_predicted_factors_also_in_the_report(tmp_path, laws):
    answer = recommend(laws, n_params=N, n_tokens=D, target="main")
    proof = proof_of(answer)
    (sentence,) = worth_sentences(answer, measured(laws, answer, proof))
    assert sentence.startswith("To reach the loss of h*, uniform needed ")
    assert "; predicted: " in sentence
    write_report(tmp_path / "report.html", laws, None, answer=answer, proof=proof)
    assert sentence in (tmp_path / "report.html").read_text()


def test_without_a_run_on_the_recommended_mixture_or_without_tokens_in_the_law_nothing_is_measured(laws):
    answer = recommend(laws, n_params=N, n_tokens=D, target="main")
    proof = proof_of(answer)
    others = proof.rows(proof.frame["run_id"] != "recommended")
    assert measured(laws, answer, others) == {}
    fixed = fitted("additive-fixed-d", {"main": TRUTHS["additive-fixed-d"]}, spread=0.0)
    flat = recommend(fixed, n_params=N, n_tokens=D, target="main")
    assert measured(fixed, flat, proof_of(flat)) == {}
    assert list(flat.weights) == DOMAINS


@given(beta=st.floats(0.1, 0.9), wanted=st.floats(0.11, 20.0), points=st.integers(2, 30))
def test_a_power_curve_gives_the_factor_of_algebra(beta, wanted, points):
    tokens = D * np.geomspace(0.1, 1.0, points)
    goal = wanted**-beta
    found = factor((tokens, (tokens / D) ** -beta), goal, lambda gain: min((1 - gain) ** (-1 / beta), MOST))
    assert found == pytest.approx(wanted, rel=2.0 / points**2 if wanted < 1 else 1e-9)
