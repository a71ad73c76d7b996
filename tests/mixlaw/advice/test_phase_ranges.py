"""Phases that no run had are warned of, also by laws that were saved."""

import numpy as np

from mixlaw.advice.extrapolation import FAR_WEIGHT, phase_warnings
from mixlaw.fitting.saved import FittedLaws
from mixlaw.mixture import Mixture
from mixlaw.tables.phase_mixtures import phases_of, ranges_by_phase
from tests.mixlaw.synthetic import DOMAINS, laws_of, phase_study, study

LAW = "multiplicative-phases"


def test_weights_outside_of_those_of_their_phase_are_named(tmp_path):
    table = phase_study(LAW, n_mixtures=2, n_phased=6)
    phases = phases_of(table)
    assert phases is not None
    late = phases.weights[phases.changed & (phases.shares[:, 1] > 0), 1]
    file = tmp_path / "laws.json"
    laws_of(table, LAW, n_starts=2, n_bootstrap=3).save(file)
    laws = FittedLaws.load(file)
    high = dict(zip(DOMAINS, late.max(0), strict=True))
    assert {d: ends[1] for d, ends in laws.phase_ranges[1].items()} == high
    first = Mixture(DOMAINS, late.mean(0) / late.mean(0).sum())
    assert not [w for w in phase_warnings(laws, [first, first]) if w.startswith("phase 2")]
    corner = Mixture(DOMAINS, np.eye(3)[0])
    said = phase_warnings(laws, [first, corner])
    named = [w for w in said if w.startswith("phase 2 has 1.00 of 'code', runs had ")]
    assert bool(named) == (high["code"] < 1 - FAR_WEIGHT)
    assert named


def test_static_runs_have_no_phases():
    assert ranges_by_phase(study("additive")) == []
