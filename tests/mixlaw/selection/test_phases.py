"""When `auto` takes the law of phases, and when it does not."""

import numpy as np
import pytest

from mixlaw.selection.candidates import candidates
from mixlaw.selection.extended import without_twins
from mixlaw.selection.fit_laws import fit_laws
from mixlaw.selection.splits import held_out
from mixlaw.tables.phase_mixtures import phases_of
from tests.mixlaw.synthetic import phase_study, study

LAW = "multiplicative-phases"
QUICK = {"n_starts": 2, "n_bootstrap": 2, "n_jobs": 1}


def test_auto_considers_phases_only_where_runs_change_their_mixture():
    assert LAW in candidates(phase_study("multiplicative"))
    assert LAW not in candidates(study("multiplicative"))
    assert LAW not in candidates(phase_study("multiplicative", n_phased=0))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 2, 3])
def test_auto_takes_the_law_of_phases_where_the_order_matters(seed):
    laws = fit_laws(phase_study(LAW, noise=0.01, seed=seed), **QUICK)
    assert laws.chosen == LAW
    assert "show with 95 % confidence that the order of the data matters" in laws.reason


# with the seeds 3 and 4 the law of phases extrapolates better in N, by luck
@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 0, 4])
def test_auto_keeps_the_static_law_where_only_the_whole_mixture_matters(seed):
    laws = fit_laws(phase_study("multiplicative", noise=0.003, seed=seed), **QUICK)
    assert laws.chosen == "multiplicative"
    assert "do not show with 95 % confidence that the order of the data matters" in laws.reason


def test_a_choice_without_both_laws_says_nothing_of_the_order():
    assert without_twins(["multiplicative", "additive"], []) == (["multiplicative", "additive"], [])
    names = ["multiplicative-fixed-n", "additive-fixed-n", f"{LAW}-fixed-n"]
    kept, why = without_twins(names, [])  # nothing could be held out
    assert kept == names[:2]
    assert "do not show" in why[0]


def test_all_rows_of_a_run_that_changes_its_mixture_are_held_out_together():
    table = phase_study(LAW)
    held = held_out(table, "mixture")
    assert held.any()
    assert table.frame.assign(held=held).groupby("run_id")["held"].nunique().eq(1).all()
    assert np.unique(table.frame["run_id"][phases_of(table).changed & held]).size
