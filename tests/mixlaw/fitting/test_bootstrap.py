"""Intervals: whole runs are resampled, unidentified directions stay wide, and nine in ten new losses fall inside."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.fitting.bootstrap import interval, run_weights, seed_noise, weight_variance
from mixlaw.fitting.estimator import LawFit
from mixlaw.tables.check import check_frame
from tests.marks import slow
from tests.mixlaw.synthetic import study


@given(st.integers(1, 200), st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_every_run_counts_in_every_resample(n_runs, n_free, seed):
    weight = run_weights(n_runs, weight_variance(n_runs, n_free), 7, np.random.default_rng(seed))
    assert weight.shape == (7, n_runs)
    assert (weight >= 0).all()
    assert (weight.sum(1) > 0).all()


def test_runs_count_once_on_average_and_vary_more_where_parameters_have_used_them_up():
    many, few = (
        run_weights(n, weight_variance(n, p), 4000, np.random.default_rng(0)) for n, p in ((1000, 0), (40, 20))
    )
    assert many.mean() == pytest.approx(1, abs=0.01)
    assert few.mean() == pytest.approx(1, abs=0.02)
    assert many.var() == pytest.approx(1, abs=0.02)
    assert few.var() == pytest.approx(2 * (1.725 / 1.645) ** 2, rel=0.05)


def test_an_interval_holds_its_share_of_the_draws():
    draws = np.arange(1001.0)[:, None] * np.ones(2)
    low, high = interval(draws, 0.9)
    np.testing.assert_allclose([low, high], [[50, 50], [950, 950]])


def coverage(law: str, sizes: tuple[float, ...], at: tuple[float, float], studies: int) -> float:
    """Return the share of new runs' losses, at N and D, that fall into their 90 % intervals."""
    inside = []
    for seed in range(studies):
        table = study(law, noise=0.01, seed=seed, sizes=sizes)
        fit = LawFit(law, n_starts=6, n_bootstrap=60, seed=seed).fit(table).fitted_
        new = study(law, noise=0.01, seed=1000 + seed, sizes=at[:1], tokens=at[1:])
        inside.append(fit.scores(new)["coverage"].item() / 100)
    return float(np.mean(inside))


@pytest.mark.parametrize(
    ("law", "at"),
    [
        ("base", (1e10, 1e12)),
        slow("base", (1e8, 1e10)),
        *(slow("additive", at) for at in ((1e8, 1e10), (5e9, 1e10), (1e8, 1e12), (1e10, 1e12))),
        *(slow("joint", at) for at in ((1e8, 1e10), (5e9, 1e10), (1e8, 1e12), (1e10, 1e12))),
        *(slow("multiplicative", at) for at in ((1e8, 1e10), (1e10, 1e12))),
    ],
)
def test_nine_in_ten_new_losses_fall_into_their_intervals_also_far_beyond_the_data(law, at):
    """45 runs of 3 sizes to 5e8 parameters and 5e10 tokens; over 24 studies a share strays by 0.03."""
    assert 0.83 <= coverage(law, (2e7, 1e8, 5e8), at, studies=24) <= 0.98


@pytest.mark.slow
def test_two_sizes_leave_the_exponent_open_and_intervals_say_so():
    """Coverage is right, and intervals are wide only in the direction that two sizes do not identify."""
    assert coverage("additive", (1e8, 5e8), (1e10, 1e10), studies=8) > 0.9
    two, three = (
        LawFit("additive", n_starts=6, n_bootstrap=60).fit(study("additive", noise=0.01, sizes=sizes))
        for sizes in ((1e8, 5e8), (2e7, 1e8, 5e8))
    )
    near, far = study("additive", seed=9, sizes=(2e8,)), study("additive", seed=9, sizes=(1e11,))
    width = lambda fit, table: float(fit.predict(table).eval("high - low").mean())  # noqa: E731
    assert width(two, far) > 3 * width(two, near)
    assert width(two, far) > 1.5 * width(three, far)
    assert width(two, near) < 1.4 * width(three, near)


def test_intervals_grow_with_the_distance_from_the_data():
    fit = LawFit("joint", n_starts=6, n_bootstrap=60).fit(study("joint", noise=0.01)).fitted_
    widths = [
        float(fit.predict(study("joint", seed=5, sizes=(n,), tokens=(d,))).eval("high - low").mean())
        for n, d in ((1e8, 1e10), (1e9, 1e11), (1e10, 1e12), (1e11, 1e13))
    ]
    assert widths == sorted(widths)
    assert widths[-1] > 1.2 * widths[0]


def test_seed_noise_is_the_spread_of_runs_that_differ_in_nothing_else():
    rows = [
        (f"r{i}", 1e8, d, 0.5, 0.5, seed, 9.0 if d == 1e9 else loss)
        for i, (seed, loss) in enumerate([(1, 2.0), (2, 2.2), (3, 2.1)])
        for d in (1e9, 2e9)
    ]
    rows.append(("other", 3e8, 2e9, 0.5, 0.5, 4, 1.0))
    columns = ["run_id", "n_params", "n_tokens", "weight_a", "weight_b", "seed", "loss_t"]
    table = check_frame(pd.DataFrame(rows, columns=columns), "t")
    table.frame[["requested_a", "requested_b"]] = 0.5
    noise = seed_noise(table)
    assert noise["sd"].tolist() == pytest.approx([0.1])
    assert noise["percent"].tolist() == pytest.approx([100 * 0.1 / 2.1])
    assert noise["n_runs"].tolist() == [3]


def test_runs_with_equal_totals_and_other_phases_are_no_repeats():
    one, other = [0.5, 0.8, 0.2, 0.5, 0.2, 0.8, 1.0], [0.5, 0.2, 0.8, 0.5, 0.8, 0.2, 1.0]
    columns = ["weight_a", "weight_a@1", "weight_b@1", "until@1", "weight_a@2", "weight_b@2", "until@2"]
    rows = [
        (f"r{i}", 1e8, 1e9, seed, loss, *run)
        for i, (seed, loss, run) in enumerate([(1, 2.0, one), (2, 2.2, one), (3, 5.0, other), (4, 5.2, other)])
    ]
    frame = pd.DataFrame(rows, columns=["run_id", "n_params", "n_tokens", "seed", "loss_t", *columns])
    noise = seed_noise(check_frame(frame.assign(weight_b=0.5), "t"))
    assert noise["sd"].tolist() == pytest.approx([0.02**0.5])
    assert noise["n_runs"].tolist() == [4]


def test_a_table_without_seeds_or_repeats_knows_no_seed_noise():
    frame = pd.DataFrame({"n_params": [1e8], "n_tokens": [1e9], "weight_a": [1.0], "loss_t": [2.0]})
    table = check_frame(frame, "t")
    assert seed_noise(table).empty
    table.frame["seed"], table.frame["requested_a"] = 1, 1.0
    assert seed_noise(table).empty
