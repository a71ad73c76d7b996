"""Differences between runs: seed noise and lack of fit come out as they were put in, and intervals hold."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.fitting.differences import SAME_MIXTURE, Pairs, Scatter, correlations, estimate, gain_interval, variogram
from mixlaw.fitting.estimator import LawFit
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.fitting.saved import fit_from_json, fit_to_json
from mixlaw.laws.jacobian import Array
from mixlaw.selection.pair_scores import pair_scores
from tests.marks import slow
from tests.mixlaw.synthetic import study

SEED, LACK, LENGTH = 0.004, 0.01, 0.4


def grid(mixtures: Array, repeats: int, scales: int = 4) -> tuple[pd.DataFrame, Array]:
    """Return rows of every mixture at every scale, each run `repeats` times, and their mixtures."""
    m, s, _ = (a.ravel() for a in np.meshgrid(np.arange(len(mixtures)), np.arange(scales), np.arange(repeats)))
    scale = {"n_params": 1e8 * 2.0**s, "n_tokens": 1e10 * 2.0**s}
    return pd.DataFrame({"run_id": np.arange(len(m)).astype(str)} | scale), mixtures[m]


def scattered(frame: pd.DataFrame, h: Array, rng: np.random.Generator, seed: Array | float = SEED) -> Array:
    """Return residuals: a shift of every scale, a smooth function of the mixture per scale, and seed noise."""
    off, scale = rng.normal(size=len(h)) * seed, frame["n_params"].to_numpy()
    distance = np.abs(h[:, None] - h[None]).sum(-1) / 2
    for value in np.unique(scale):
        at = scale == value
        covariance = LACK**2 * np.exp(-distance[np.ix_(at, at)] / LENGTH) + 1e-12 * np.eye(at.sum())
        off[at] += rng.normal() * 0.05 + np.linalg.cholesky(covariance) @ rng.normal(size=at.sum())
    return off


@pytest.mark.parametrize("repeats", [1, 3])
def test_seed_noise_and_lack_of_fit_are_told_apart(repeats):
    rng = np.random.default_rng(0)
    frame, h = grid(rng.dirichlet(np.ones(4), 60), repeats)
    residuals = {f"t{i}": scattered(frame, h, rng) for i in range(6)}
    found, _ = estimate(residuals, frame, h)
    near, far = np.array([[0.25, 0.25, 0.25, 0.25]]), np.array([[1.0, 0, 0, 0]])
    alike = np.mean([s.sd(near, near)[0] for s in found.values()])
    apart = np.mean([s.sd(near, far)[0] for s in found.values()])
    assert 0.85 < alike / (2**0.5 * SEED) < (1.15 if repeats > 1 else 2.2)  # cautious without repeats
    assert apart == pytest.approx(np.sqrt(2 * SEED**2 + 2 * LACK**2 * (1 - np.exp(-0.75 / LENGTH))), rel=0.15)


def test_a_seed_noise_that_depends_on_the_mixture_is_found():
    rng = np.random.default_rng(1)
    frame, h = grid(np.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]]), 12, 1)
    quiet, loud = 0.002, 0.02
    varying = np.where(h[:, 0] > 0.8, loud, quiet)
    found, _ = estimate({"varying": rng.normal(size=len(h)) * varying}, frame, h)
    scatter = found["varying"]
    one, other = np.array([[0.9, 0.1]]), np.array([[0.1, 0.9]])
    assert scatter.sd(one, one)[0] > 2 * scatter.sd(other, other)[0]
    equal, _ = estimate({"equal": rng.normal(size=len(h)) * quiet}, frame, h)
    assert equal["equal"].seeds == ()


def test_without_runs_of_equal_scale_there_is_no_scatter():
    frame, h = grid(np.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]]), 1, 1)
    frame = frame.assign(n_params=[1e8, 2e8, 4e8])
    found, correlated = estimate({"a": np.ones(3), "b": np.zeros(3)}, frame, h)
    assert found == {"a": None, "b": None}
    assert (correlated == 1).all()


def test_unknown_losses_are_left_out():
    rng = np.random.default_rng(2)
    frame, h = grid(rng.dirichlet(np.ones(3), 20), 2)
    whole = scattered(frame, h, rng)
    part = np.where(np.arange(len(h)) % 3 == 0, np.nan, whole)
    found, correlated = estimate({"whole": whole, "part": part, "none": np.full(len(h), np.nan)}, frame, h)
    assert found["part"].sd(h[:1], h[7:8])[0] == pytest.approx(found["whole"].sd(h[:1], h[7:8])[0], rel=0.5)
    assert found["none"] is None
    assert np.isfinite(correlated).all()


def test_pairs_are_rows_of_one_scale_and_repeats_have_distance_zero():
    frame, h = grid(np.array([[0.9, 0.1], [0.1, 0.9]]), 2, 2)
    pairs = Pairs.of(frame, h)
    assert len(pairs.first) == 2 * 6
    assert (frame["n_params"].to_numpy()[pairs.first] == frame["n_params"].to_numpy()[pairs.second]).all()
    assert sorted(set(pairs.distance.round(6))) == [0.0, 0.8]
    assert (pairs.distance <= SAME_MIXTURE).sum() == 2 * 2


def test_correlations_are_those_of_the_differences():
    rng = np.random.default_rng(3)
    shared = rng.normal(size=5000)
    found = correlations({"a": shared, "b": shared + rng.normal(size=5000), "c": rng.normal(size=5000)})
    assert found[0, 1] == pytest.approx(0.5**0.5, abs=0.03)
    assert found[0, 2] == pytest.approx(0, abs=0.05)
    assert (np.diag(found) == 1).all()


def test_a_variogram_without_structure_is_all_nugget():
    rng = np.random.default_rng(4)
    squares = rng.chisquare(1, 20_000)
    assert variogram(rng.uniform(0, 1, 20_000), squares / squares.mean(), 500)[1] > 0.9


@given(st.floats(-1, 1), st.floats(0, 0.1), st.floats(0.5, 0.99), st.lists(st.floats(-1, 1), min_size=4, max_size=20))
def test_an_interval_holds_its_gain_and_grows_with_scatter_and_level(gain, sd, level, drawn):
    drawn = np.array(drawn)[:, None]
    centre = np.array([gain])
    low, high = gain_interval(centre, drawn, np.array([sd]), level)
    wide = gain_interval(centre, drawn, np.array([sd + 0.01]), level)
    more = gain_interval(centre, drawn, np.array([sd]), min(level + 0.005, 0.995))
    assert low <= gain <= high
    assert wide[0] <= low
    assert wide[1] >= high
    assert more[0] <= low + 1e-12 or more[1] >= high - 1e-12


def test_an_interval_is_that_of_a_normal_distribution():
    rng = np.random.default_rng(5)
    drawn = 0.5 + 0.03 * rng.normal(size=(200_000, 1))
    low, high = gain_interval(np.array([0.5]), drawn, np.array([0.04]), 0.9)
    assert [low[0], high[0]] == pytest.approx([0.5 - 1.645 * 0.05, 0.5 + 1.645 * 0.05], abs=0.001)


@pytest.mark.parametrize("law", ["additive", slow("multiplicative"), slow("joint")])
def test_nine_in_ten_differences_of_new_runs_lie_inside(law):
    inside = []
    for seed in range(4):
        fit = LawFit(law, n_bootstrap=60, seed=seed).fit(study(law, 0.01, seed)).fitted_
        inside.append(pair_scores(fit, study(law, 0.01, 100 + seed)))
    scores = pd.concat(inside)
    assert 85 <= np.average(scores["inside"], weights=scores["n"]) <= 96
    assert (scores["width"] / scores["error"]).mean() < 6


def a_fit(noise: float = 0.01) -> FittedLaw:
    return LawFit("additive", n_starts=4, n_bootstrap=20).fit(study("additive", noise)).fitted_


def test_the_gain_over_a_baseline_is_the_difference_of_two_predictions():
    fit, table = a_fit(), study("additive", 0.01)
    baseline = {"code": 0.2, "docs": 0.3, "web": 0.5}
    found = fit.predict(table, baseline=baseline)
    weights = {f"weight_{d}": w for d, w in baseline.items()}
    there = fit.predict(table.frame.assign(**weights)[["n_params", "n_tokens", *weights]])
    assert found["gain"].to_numpy() == pytest.approx(there["predicted"].to_numpy() - found["predicted"].to_numpy())
    assert (found["gain_low"] <= found["gain"]).all()
    assert (found["gain"] <= found["gain_high"]).all()
    assert "gain" not in fit.predict(table)


def test_the_scatter_survives_saving():
    fit = a_fit()
    again = fit_from_json(fit_to_json(fit))
    assert again.target("main").scatter == fit.target("main").scatter
    assert isinstance(again.target("main").scatter, Scatter)
    assert again.correlations == pytest.approx(fit.correlations, abs=1e-4)


def test_laws_saved_without_scatter_use_their_residuals():
    facts = fit_to_json(a_fit())
    del facts["correlations"], facts["targets"]["main"]["scatter"]
    old = fit_from_json(facts)
    h = np.array([[1.0, 0, 0]])
    expected = 2**0.5 * np.std(old.target("main").noise)
    assert old.scatter_sd("main", h, h, np.array([2.0]))[0] == pytest.approx(expected)
