"""The phases of a recommendation as text, in the terminal and in the report."""

import pytest

from mixlaw.advice.recommend import recommend
from mixlaw.advice.recommendation import Recommendation
from mixlaw.report.phase_text import phases_block, phases_table, phases_verdict
from mixlaw.report.sections import answer_box
from mixlaw.text import percent
from tests.mixlaw.synthetic import DOMAINS, TRUTHS, fitted

BIG = {"n_params": 1e9, "n_tokens": 1e11, "target": "main"}


@pytest.fixture(scope="module")
def answer() -> Recommendation:
    laws = fitted("multiplicative-phases", {"main": TRUTHS["multiplicative-phases"]})
    return recommend(laws, **BIG, phases=2, switch=0.8)


def test_the_table_has_every_domain_in_both_phases(answer: Recommendation) -> None:
    table = phases_table(answer)
    assert table["domain"].tolist() == DOMAINS
    for name, mixture in zip(("0 to 80 % of D", "80 to 100 % of D"), answer.phases.weights, strict=True):
        assert table[name].tolist() == [percent(mixture[d]) for d in DOMAINS]


def test_the_block_ends_with_the_override_of_the_trainer(answer: Recommendation) -> None:
    assert phases_block(answer).endswith(f"train the phases with: {answer.phases.override}")


def test_the_box_of_the_report_holds_the_verdict(answer: Recommendation) -> None:
    assert phases_verdict(answer)[0] in answer_box(answer)


def test_an_answer_without_phases_says_nothing_of_them(answer: Recommendation) -> None:
    static = Recommendation.from_json(answer.to_json() | {"phases": None})
    assert phases_verdict(static) == []
    assert phases_table(static).empty
    assert phases_block(static) == ""
