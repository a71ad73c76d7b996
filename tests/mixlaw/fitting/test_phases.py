"""Laws of runs that change their mixture: fits, predictions, and which tables can support them."""

import numpy as np
import pytest

from mixlaw.errors import FitError
from mixlaw.fitting.estimator import LawFit
from mixlaw.tables.phase_mixtures import phases_of, without_phases
from tests.mixlaw.synthetic import DOMAINS, TRUTHS, phase_study, study

LAW = "multiplicative-phases"


@pytest.fixture(scope="module")
def fit():
    return LawFit(LAW, n_starts=4, n_bootstrap=10).fit(phase_study(LAW)).fitted_


def test_known_powers_are_recovered(fit):
    truth = fit.law.natural(TRUTHS[LAW], DOMAINS)
    found = fit.params.loc["main"]
    assert found["r"] == pytest.approx(truth["r"], rel=0.02)
    assert found["s"] == pytest.approx(truth["s"], rel=0.02)


def test_unseen_phases_are_predicted_and_the_static_law_cannot(fit):
    unseen = phase_study(LAW, seed=1)
    static = LawFit("multiplicative", n_starts=4, n_bootstrap=2).fit(phase_study(LAW)).fitted_
    changed = phases_of(unseen).changed
    error = {f.name: np.abs(1 - (p := f.predict(unseen)).predicted / p.observed)[changed].mean() for f in (fit, static)}
    assert error[LAW] < 1e-3
    assert error["multiplicative"] > 1e-2


def test_rows_without_phases_are_predicted_as_static_runs(fit):
    table = study("multiplicative", n_mixtures=3)
    alone = fit.predict(table)["predicted"]
    assert (fit.predict(phase_study(LAW))["predicted"] != fit.predict(_static(phase_study(LAW)))["predicted"]).any()
    empty = {f"weight_{d}@1": np.nan for d in DOMAINS} | {"until@1": np.nan}
    np.testing.assert_allclose(fit.predict(table.frame.assign(**empty))["predicted"], alone, rtol=1e-12)


def test_a_gain_over_a_static_baseline_counts_the_scatter_of_two_different_runs(fit):
    table = phase_study(LAW, n_mixtures=0, n_phased=4)
    total = dict(zip(DOMAINS, table.mixtures[-1], strict=True))
    last = fit.predict(table, baseline=total).iloc[-1]
    assert last["gain"] != 0  # the same mixture in total, in another order
    assert last["gain_low"] < last["gain"] < last["gain_high"]


def test_a_table_of_static_runs_is_refused_in_a_sentence():
    with pytest.raises(FitError, match=r"the multiplicative-phases law cannot be fitted to this table: no run changes"):
        LawFit(LAW).fit(study("multiplicative"))


def _static(table):
    table.frame = without_phases(table.frame)
    return table
