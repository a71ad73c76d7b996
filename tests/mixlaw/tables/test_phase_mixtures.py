"""The phases of rows as arrays: what an empty cell means, and the mixtures of both halves of a run."""

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.tables.check import check_frame
from mixlaw.tables.phase_mixtures import Phases, changes_mixture, phases_of, without_phases

ROWS = {
    "run_id": ["a", "a", "b"],
    "n_params": 1e6,
    "n_tokens": [1e6, 2e6, 2e6],
    "weight_web": [1.0, 0.5, 0.3],
    "weight_code": [0.0, 0.5, 0.7],
    "loss_web": [3.0, 2.5, 2.6],
    "weight_web@1": [1.0, 1.0, np.nan],
    "weight_code@1": [0.0, 0.0, np.nan],
    "until@1": [1.0, 0.499, np.nan],
    "weight_web@2": [np.nan, 0.0, np.nan],
    "weight_code@2": [np.nan, 1.0, np.nan],
    "until@2": [np.nan, 0.998, np.nan],
}


def test_a_phase_that_has_not_begun_and_a_run_of_one_mixture_count_nothing():
    phases = phases_of(check_frame(pd.DataFrame(ROWS), "runs.csv"))
    assert phases.shares.tolist() == [[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]]
    assert phases.weights[1].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert phases.weights[2].tolist() == [[0.3, 0.7]] * 2
    assert phases.changed.tolist() == [False, True, False]


def test_a_table_without_columns_of_phases_has_none():
    table = check_frame(pd.DataFrame(ROWS), "runs.csv")
    assert changes_mixture(table)
    table.frame = without_phases(table.frame)
    assert phases_of(table) is None
    assert not changes_mixture(table)


@given(seed=st.integers(0, 2**32 - 1), n_phases=st.integers(1, 5))
def test_halves_of_a_run_add_up_to_its_mixture(seed, n_phases):
    rng = np.random.default_rng(seed)
    until = np.sort(rng.uniform(size=(4, n_phases)), axis=1)
    until[:, -1] = 1.0
    phases = Phases(rng.dirichlet(np.ones(3), (4, n_phases)), until)
    early, late = np.split(phases.halves(), 2, axis=1)
    np.testing.assert_allclose(early.sum(1), 0.5)
    np.testing.assert_allclose(early + late, (phases.shares[:, :, None] * phases.weights).sum(1))
