"""When `auto` takes the law of phases, and when it does not."""

import numpy as np

from mixlaw.selection.candidates import candidates
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


def test_auto_takes_the_law_of_phases_where_phases_matter():
    laws = fit_laws(phase_study(LAW, noise=0.002), **QUICK)
    assert laws.chosen == LAW
    assert "with 95 % confidence" in laws.reason


def test_auto_keeps_the_static_law_where_only_the_total_mixture_matters():
    laws = fit_laws(phase_study("multiplicative", noise=0.002), **QUICK)
    assert laws.chosen == "multiplicative"


def test_all_rows_of_a_run_that_changes_its_mixture_are_held_out_together():
    table = phase_study(LAW)
    held = held_out(table, "mixture")
    assert held.any()
    assert table.frame.assign(held=held).groupby("run_id")["held"].nunique().eq(1).all()
    assert np.unique(table.frame["run_id"][phases_of(table).changed & held]).size
