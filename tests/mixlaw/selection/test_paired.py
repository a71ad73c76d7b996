"""Paired differences: laws are compared on the same rows, and intervals come from resampling whole runs."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlaw.fitting.estimator import LawFit
from mixlaw.selection.paired import difference, row_errors
from tests.marks import slow
from tests.mixlaw.synthetic import study


def errors(sizes, run_ids, target="t"):
    return pd.DataFrame({"target": target, "run_id": run_ids, "error": sizes})


def test_rows_know_their_run_their_size_and_their_signed_error():
    table = study("additive", noise=0.01)
    fit = LawFit("additive", n_starts=4, n_bootstrap=10).fit(table).fitted_
    found = row_errors(fit.predict(table), table)
    assert len(found) == len(table.frame)
    assert found["run_id"].tolist() == table.frame["run_id"].tolist()
    assert found["error"].abs().mean() == pytest.approx(fit.scores(table)["mre"].item())
    assert 100 * found["inside"].mean() == pytest.approx(fit.scores(table)["coverage"].item())


def test_a_difference_is_of_means_over_targets_whatever_their_numbers_of_rows():
    ours = pd.concat([errors([2.0, -2.0], ["a", "b"]), errors([1.0] * 8, list("aaaabbbb"), "u")])
    theirs = pd.concat([errors([1.0, -1.0], ["a", "b"]), errors([0.0] * 8, list("aaaabbbb"), "u")])
    found = difference(ours, theirs)
    assert found.mean == pytest.approx(1.0)
    assert found.low == pytest.approx(1.0)  # every run says the same
    assert found.high == pytest.approx(1.0)


def test_targets_that_only_one_law_predicts_do_not_count():
    ours = pd.concat([errors([2.0], ["a"]), errors([50.0], ["a"], "only ours")])
    assert difference(ours, errors([1.0], ["a"])).mean == pytest.approx(1.0)


@given(seed=st.integers(0, 2**31), shift=st.floats(-1, 1))
@settings(max_examples=20, deadline=None)
def test_swapping_the_laws_swaps_the_sign(seed, shift):
    rng = np.random.default_rng(seed)
    runs = [str(i // 3) for i in range(30)]
    ours, theirs = errors(rng.normal(size=30) + shift, runs), errors(rng.normal(size=30), runs)
    one, other = difference(ours, theirs), difference(theirs, ours)
    assert one.mean == pytest.approx(-other.mean)
    assert one.low == pytest.approx(-other.high)
    assert one.low <= one.mean <= one.high


def test_rows_of_one_run_are_not_independent_evidence():
    rng = np.random.default_rng(0)
    per_run = rng.normal(0.3, 1.0, 12)
    ours = errors(2 + np.repeat(per_run, 50), np.repeat([str(i) for i in range(12)], 50))
    theirs = errors(np.full(600, 2.0), np.repeat([str(i) for i in range(12)], 50))
    found = difference(ours, theirs)
    assert found.high - found.low > 0.5  # as of 12 observations; of 600 it would be 0.13


@pytest.mark.parametrize("n_runs", [slow(2), 4, slow(10)])
def test_intervals_of_few_runs_hold_the_truth_as_often_as_they_say(n_runs):
    inside, runs = 0, [str(i) for i in range(n_runs)]
    for seed in range(200):
        rng = np.random.default_rng(seed)
        found = difference(errors(5 + rng.normal(size=n_runs), runs), errors(5 + rng.normal(size=n_runs), runs))
        inside += found.low <= 0 <= found.high
    assert 0.8 <= inside / 200 <= 0.97


def test_one_run_is_no_evidence():
    found = difference(errors([5.0, 5.0], ["a", "a"]), errors([1.0, 1.0], ["a", "a"]))
    assert found.mean == pytest.approx(4.0)
    assert np.isnan(found.low)
    assert np.isnan(found.high)
