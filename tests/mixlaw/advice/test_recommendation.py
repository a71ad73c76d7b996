"""What a recommendation states of a big run that repeats domains."""

import pytest

from mixlaw.advice.recommend import recommend
from mixlaw.errors import FitError
from mixlaw.report.answer_tables import weights_table
from mixlaw.report.terminal import summary
from tests.mixlaw.synthetic import DOMAINS, TRUTHS, fitted

LAW = "multiplicative-repeats"
BIG = {"n_params": 1e8, "n_tokens": 1e10, "target": "main"}
PLENTY = dict.fromkeys(DOMAINS, 1e13)


@pytest.fixture(scope="module")
def laws():
    return fitted(LAW, {"main": TRUTHS[LAW]}, sizes=PLENTY)


@pytest.mark.slow
def test_a_scarce_domain_gets_less_without_any_limit_and_more_the_more_there_is(laws):
    shares = [
        recommend(laws, **BIG, available=PLENTY | {"docs": tokens}).weights["docs"] for tokens in (1e7, 1e8, 1e9, 1e13)
    ]
    assert shares == sorted(shares)
    assert shares[0] < 0.7 * shares[-1]


def test_h_star_without_repetition_and_the_epochs_are_shown(laws):
    answer = recommend(laws, **BIG, available=PLENTY | {"docs": 1e8})
    free = recommend(laws, **BIG)
    assert answer.table.set_index("domain")["unconstrained"]["docs"] == pytest.approx(free.weights["docs"], abs=1e-3)
    assert answer.epochs["docs"] == pytest.approx(answer.weights["docs"] * 1e10 / 1e8)
    assert "epochs" in summary(answer)
    assert f"{answer.epochs['docs']:.1f}" in weights_table(answer)["epochs"].tolist()


def test_epochs_are_left_out_where_nothing_is_read_twice(laws):
    answer = recommend(laws, **BIG)
    assert answer.epochs == {}
    assert "epochs" not in weights_table(answer)


def test_laws_of_runs_with_pools_need_the_tokens_of_the_big_run_and_only_of_scarce_domains():
    laws = fitted(LAW, {"main": TRUTHS[LAW]})  # of a table whose rows differ in their tokens: no sizes
    with pytest.raises(FitError, match="needs the tokens of the domains that are scarce: --available"):
        recommend(laws, **BIG)
    scarce = recommend(laws, **BIG, available={"docs": 1e8})
    assert scarce.table.set_index("domain")["unconstrained"]["docs"] > 1.2 * scarce.weights["docs"]
