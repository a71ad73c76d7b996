"""Widening: losses stay positive, rows inside the data do not change, and far rows get the error measured there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.fitting.widening import Widening, distances, factors, reach_of, widened, with_scatter

RANGES = {"n_params": (1e8, 1e9), "n_tokens": (1e9, 1e11)}


@given(
    centre=st.floats(1e-3, 20),
    spread=st.floats(0, 2),
    factor=st.floats(1, 30),
    noise=st.floats(-50, 50),
    seed=st.integers(0, 2**32 - 1),
)
def test_losses_are_above_zero_however_wide(centre, spread, factor, noise, seed):
    drawn = centre * np.exp(spread * np.random.default_rng(seed).normal(size=(20, 3)))
    wide = widened(np.full(3, centre), drawn, np.full(3, factor))
    assert (wide > 0).all()
    assert (with_scatter(wide, np.full((20, 1), noise)) >= 0).all()
    np.testing.assert_array_equal(widened(np.full(3, centre), drawn, np.ones(3)), drawn)
    np.testing.assert_allclose(np.log(wide / centre), factor * np.log(drawn / centre), atol=1e-9)


def test_scatter_is_added_as_it_is_where_losses_are_far_above_it():
    drawn = np.full((2, 1), 3.0)
    np.testing.assert_allclose(with_scatter(drawn, np.array([[0.02], [-0.02]])), [[3.02], [2.98]], atol=1e-4)


def test_rows_inside_the_data_are_at_no_distance():
    found = distances(RANGES, np.array([1e8, 5e8, 1e9, 1e10, 1e7]), np.array([1e9, 1e10, 1e11, 1e12, 1e8]))
    np.testing.assert_allclose(found["n_params"], [0, 0, 0, np.log(10), np.log(10)], atol=1e-12)
    np.testing.assert_allclose(found["n_tokens"], [0, 0, 0, np.log(10), np.log(10)], atol=1e-12)
    assert not distances({}, np.ones(2), np.ones(2))["n_params"].any()


def test_beyond_the_data_resamples_spread_at_least_as_far_as_the_law_missed_there():
    drawn = 3.0 * np.exp(0.001 * np.random.default_rng(0).normal(size=(2000, 3)))
    beyond = {"n_params": np.log([1.0, 4.0, 16.0]), "n_tokens": np.zeros(3)}
    reach = Widening(1.0, {"n_params": 0.01 / np.log(4)})
    factor = factors(reach, np.full(3, 3.0), drawn, beyond)
    spread = np.log(widened(np.full(3, 3.0), drawn, factor) / 3).std(0)
    np.testing.assert_allclose(spread, [0.001, 0.01, 0.02], rtol=0.05)
    assert (factors(Widening(2.0), np.full(3, 3.0), drawn, beyond) == 2.0).all()


def test_a_reach_is_the_error_without_the_runs_scatter_shared_half_with_the_other_targets():
    found = reach_of(np.array([0.05, 0.03]), np.array([0.03, 0.03]), distance=2.0)
    np.testing.assert_allclose(found, np.sqrt([(0.0016 + 0.0008) / 2, 0.0008 / 2]) / 2)
    assert reach_of(np.array([0.01]), np.array([0.02]), 1.0) == pytest.approx(0)
