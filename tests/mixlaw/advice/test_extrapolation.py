"""Extrapolation warnings: recommend and predict share the rules."""

from dataclasses import replace

import numpy as np
import pytest

from mixlaw.advice.constraints import Question
from mixlaw.advice.extrapolation import Asked, far_warnings, rows_of
from mixlaw.advice.recommend import big_run
from mixlaw.tables.check import check_frame
from tests.mixlaw.synthetic import DOMAINS, TRUTHS, fitted, study

N, D = (2e7, 5e8), (2e9, 5e10)  # the ranges of `fitted`
INSIDE = [1 / 3, 1 / 3, 1 / 3]


def laws(law: str = "additive"):
    found = fitted(law, {"main": TRUTHS[law]})
    return replace(found, mixtures=np.array([[0.3, 0.3, 0.4], [0.4, 0.3, 0.3], [0.3, 0.4, 0.3]]))


def asked(n, d, h, rows=True):
    return Asked(np.atleast_1d(np.asarray(n, float)), np.atleast_1d(np.asarray(d, float)), np.atleast_2d(h), rows)


def test_what_lies_inside_of_the_runs_gives_no_warning():
    many = asked(np.geomspace(N[0] / 9, N[1] * 9, 20), np.geomspace(D[0] / 9, D[1] * 9, 20), np.tile(INSIDE, (20, 1)))
    assert far_warnings(laws(), "additive", many) == []


@pytest.mark.parametrize("factor", [10, 33])
def test_ten_times_the_largest_or_a_tenth_of_the_smallest_is_far(factor):
    for n, d in ((N[1] * factor, D[1]), (N[0] / factor, D[1]), (N[1], D[1] * factor), (N[1], D[0] / factor)):
        words = far_warnings(laws(), "additive", asked(n, d, INSIDE, rows=False))
        assert len(words) == 1
        assert "is far outside the data" in words[0]


def test_rows_are_counted_and_every_kind_is_one_line():
    h = np.array([INSIDE, [0.9, 0.05, 0.05], [0.1, 0.8, 0.1], INSIDE])
    words = far_warnings(laws(), "additive", asked([1e8, 6e9, 9e9, 1e8], [1e10, 1e10, 1e12, 1e10], h))
    assert words == [
        "n_params of 2 of 4 rows (6e+09 to 9e+09) is far outside the data (2e+07 to 5e+08)",
        "n_tokens of 1 of 4 rows (1e+12) is far outside the data (2e+09 to 5e+10)",
        "2 of 4 rows have weights that no run had: code 0.10 to 0.90 (runs had 0.30 to 0.40), docs 0.05 to 0.80 (runs "
        "had 0.30 to 0.40), web 0.05 to 0.10 (runs had 0.30 to 0.40)",
        "2 of 4 rows have a mixture that differs from every trained one in up to 50 % of the tokens",
    ]


def test_h_star_is_judged_by_the_same_rules_as_a_row():
    question = Question(9e9, 1e12, {"main": 1.0})
    words = far_warnings(laws(), "additive", big_run(question, np.array([0.9, 0.05, 0.05])))
    assert words == [
        "n_params 9e+09 is far outside the data (2e+07 to 5e+08)",
        "n_tokens 1e+12 is far outside the data (2e+09 to 5e+10)",
        "h* has 0.90 of 'code', runs had 0.30 to 0.40: train a run near it",
        "h* has 0.05 of 'docs', runs had 0.30 to 0.40: train a run near it",
        "h* has 0.05 of 'web', runs had 0.30 to 0.40: train a run near it",
        "the nearest mixture that was trained differs from h* in 50 % of its tokens",
    ]


def test_a_law_that_does_not_know_d_says_so_where_another_d_is_asked():
    one = laws("additive-fixed-d")
    one.ranges["n_tokens"] = (2e9, 2.0002e9)
    assert far_warnings(one, "additive-fixed-d", asked(1e8, 2.05e9, INSIDE, rows=False)) == []
    assert far_warnings(one, "additive-fixed-d", asked(1e8, 4e10, INSIDE, rows=False)) == [
        "the additive-fixed-d law does not depend on D: losses are those of the runs' n_tokens (2e+09), "
        "not of n_tokens 4e+10"
    ]
    assert far_warnings(one, "additive-fixed-d", asked([1e8, 1e8], [2e9, 4e10], np.tile(INSIDE, (2, 1)))) == [
        "the additive-fixed-d law does not depend on D: losses are those of the runs' n_tokens (2e+09), "
        "not of n_tokens of 1 of 2 rows (4e+10)"
    ]


def test_the_rows_of_a_table_are_read_in_the_order_of_the_laws_domains():
    frame = study("additive").frame[["n_params", "n_tokens", *(f"weight_{d}" for d in reversed(DOMAINS)), "loss_main"]]
    table = check_frame(frame.assign(run_id=np.arange(len(frame))), "turned")
    assert table.domains == DOMAINS[::-1]
    read = rows_of(laws(), "additive", table)
    assert read.mixtures[:, 0].tolist() == table.frame["weight_code"].tolist()
    assert rows_of(laws("base"), "base", table).mixtures is None


def test_many_rows_far_from_many_mixtures_are_judged_without_much_memory():
    found, rng = laws(), np.random.default_rng(0)
    found = replace(found, mixtures=rng.dirichlet(np.ones(3), 2000))
    h = rng.dirichlet(np.ones(3), 20_000)
    words = far_warnings(found, "additive", asked(np.full(20_000, 1e8), np.full(20_000, 1e10), h))
    assert words == []
