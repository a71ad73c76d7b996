"""Resampling: whole runs together, and scatter that stands for a new run."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.tables import check_frame
from mixlaw.uncertainty import N_NOISE, interval, noise_sample, predictive_draws, resampled_weights, seed_noise

runs_of_rows = st.lists(st.integers(0, 6), min_size=1, max_size=30).map(lambda r: np.array(r, float))


@given(runs_of_rows, st.integers(0, 2**32 - 1))
def test_the_rows_of_a_run_are_drawn_together_and_weights_sum_to_one(runs, seed):
    weight = resampled_weights(runs, 7, np.random.default_rng(seed))
    assert weight.shape == (7, len(runs))
    np.testing.assert_allclose(weight.sum(1), 1)
    for run in np.unique(runs):
        of_run = weight[:, runs == run]
        assert (of_run == of_run[:, :1]).all()


def test_resamples_differ_and_leave_runs_out():
    weight = resampled_weights(np.repeat(np.arange(10.0), 3), 200, np.random.default_rng(0))
    assert len(np.unique(weight, axis=0)) > 190
    assert 0.3 < (weight == 0).mean() < 0.42  # 1/e


def test_scatter_is_widened_for_the_parameters_that_were_fitted():
    residual = np.array([1.0, -1.0, 2.0, -2.0])
    np.testing.assert_allclose(noise_sample(residual, 3, np.random.default_rng(0)), 2 * residual)
    assert np.isfinite(noise_sample(residual, 9, np.random.default_rng(0))).all()


def test_a_large_table_keeps_a_sample_of_its_scatter():
    residual = np.arange(5000.0)
    kept = noise_sample(residual, 0, np.random.default_rng(0))
    assert len(kept) == N_NOISE == len(set(kept))
    assert set(kept) <= set(residual)


def test_an_interval_holds_its_share_of_the_draws():
    draws = np.arange(1001.0)[:, None] * np.ones(2)
    low, high = interval(draws, 0.9)
    np.testing.assert_allclose([low, high], [[50, 50], [950, 950]])


def test_a_new_run_scatters_around_the_resampled_laws():
    values = np.tile([1.0, 5.0], (4000, 1))
    draws = predictive_draws(values, np.array([-0.1, 0.1]), np.random.default_rng(0))
    assert set(np.abs(draws - values).round(9).ravel()) == {0.1}
    np.testing.assert_allclose(draws.mean(0), [1, 5], atol=0.02)


def test_seed_noise_is_the_spread_of_runs_that_differ_in_nothing_else():
    rows = [(f"r{i}", 1e8, d, 0.5, 0.5, seed, 9.0 if d == 1e9 else loss) for i, (seed, loss) in enumerate(
        [(1, 2.0), (2, 2.2), (3, 2.1)]) for d in (1e9, 2e9)]  # fmt: skip
    rows.append(("other", 3e8, 2e9, 0.5, 0.5, 4, 1.0))
    columns = ["run_id", "n_params", "n_tokens", "weight_a", "weight_b", "seed", "loss_t"]
    table = check_frame(pd.DataFrame(rows, columns=columns), "t")
    table.frame[["requested_a", "requested_b"]] = 0.5
    noise = seed_noise(table)
    assert noise["sd"].tolist() == pytest.approx([0.1])
    assert noise["percent"].tolist() == pytest.approx([100 * 0.1 / 2.1])
    assert noise["n_runs"].tolist() == [3]


def test_a_table_without_seeds_or_repeats_knows_no_seed_noise():
    frame = pd.DataFrame({"n_params": [1e8], "n_tokens": [1e9], "weight_a": [1.0], "loss_t": [2.0]})
    table = check_frame(frame, "t")
    assert seed_noise(table).empty
    table.frame["seed"], table.frame["requested_a"] = 1, 1.0
    assert seed_noise(table).empty
