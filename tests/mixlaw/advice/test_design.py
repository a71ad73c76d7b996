"""Designs fill the simplex exactly to their digits, within their budget, and at several sizes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.advice.design import Size, anchors, as_runs, candidates, epochs, plan_study, spread
from mixlaw.errors import ConfigError

SIZES = [Size("a", 1e7, 2e8), Size("b", 4e7, 8e8), Size("c", 1e8, 2e9)]


@given(k=st.integers(2, 50), count=st.integers(1, 200), seed=st.integers(0, 9), skip=st.integers(0, 100))
def test_mixtures_are_mixtures_above_their_floor(k: int, count: int, seed: int, skip: int) -> None:
    floor = 0.5 / k
    h = spread(k, count, floor, seed, skip)
    assert h.shape == (count, k)
    assert np.allclose(h.sum(1), 1)
    assert h.min() >= floor - 1e-12


def test_a_sequence_goes_on_where_it_was() -> None:
    assert np.array_equal(spread(4, 20), np.vstack([spread(4, 7), spread(4, 13, skip=7)]))


def test_the_simplex_is_filled_evenly() -> None:
    """Every region of equal volume holds about its share: in halves by each weight's median, as exact as Sobol is."""
    h = spread(3, 512, floor=0.0)
    median = 1 - 0.5**0.5  # of one weight under the uniform distribution on the triangle
    assert np.abs((h < median).mean(0) - 0.5).max() < 0.02


def test_a_floor_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the floor of 4 weights is 0.25, but must be at least 0 and below 0.25"):
        spread(4, 3, 0.25)


@given(k=st.integers(2, 12), factor=st.floats(1.0, 10.0), seed=st.integers(0, 5), natural=st.booleans())
def test_a_study_keeps_to_its_budget_and_has_what_a_fit_needs(k: int, factor: float, seed: int, natural: bool) -> None:
    domains = [f"d{i}" for i in range(k)]
    with pytest.raises(ConfigError, match="the smallest study of these sizes") as refused:
        plan_study(domains, SIZES, 1.0)
    least = float(str(refused.value).split("takes ")[1].split(" FLOPs")[0]) * 1.01
    shares = dict(zip(domains, np.random.default_rng(seed).dirichlet(np.ones(k)), strict=True)) if natural else None
    runs = plan_study(domains, SIZES, factor * max(least, 1.1 * least), shares, 0.01, seed)
    weights = runs[[f"weight_{d}" for d in domains]].to_numpy()
    assert runs["flops"].sum() <= factor * 1.1 * least * 1.001
    assert np.allclose(weights.sum(1), 1, atol=1e-12)
    assert np.allclose(weights, weights.round(3))
    fitted = runs[runs["role"] == "fit"]
    n_mixtures = fitted.groupby("model").size()
    assert n_mixtures["a"] >= max(12, 3 * k)
    assert (n_mixtures >= 3).all()
    assert {tuple(c) for c in np.eye(k)} <= {tuple(h) for h in weights}  # exact zeros are trained
    assert (fitted["n_tokens"] / fitted["n_params"]).nunique() == 3  # D varies beside N
    held = runs[runs["role"] == "heldout"]
    assert set(held["model"]) == {"c"}
    assert 2 <= len(held) <= max(2, int(np.ceil(0.1 * len(fitted))))
    assert len(held) == 2 or held["flops"].sum() <= fitted["flops"].sum() / 3 * (1 + 1e-9)
    one_more = held["flops"].sum() + held["flops"].iloc[0]
    assert len(held) >= int(np.ceil(0.1 * len(fitted))) or one_more > fitted["flops"].sum() / 3
    seen = {tuple(h) for h in fitted[[f"weight_{d}" for d in domains]].to_numpy()}
    assert not seen & {tuple(h) for h in held[[f"weight_{d}" for d in domains]].to_numpy()}
    repeated = runs[runs["role"] == "seeds"]
    assert repeated["seed"].tolist() == [1, 2, 3]
    assert (fitted[fitted["model"] == "b"].iloc[0][repeated.columns[6:]] == repeated.iloc[0][6:]).all()


def test_too_few_sizes_or_domains_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2 domains and 3 numbers of parameters, not 2 and 2"):
        plan_study(["a", "b"], SIZES[:2], 1e30)
    with pytest.raises(ConfigError, match="not 1 and 3"):
        plan_study(["a"], SIZES, 1e30)


def test_candidates_lie_everywhere_and_around_what_may_be_best() -> None:
    near = np.array([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1]])
    found = candidates(["x", "y", "z"], SIZES, near)
    weights = found[["weight_x", "weight_y", "weight_z"]].to_numpy()
    assert np.allclose(weights.sum(1), 1)
    for h in (*near, *np.eye(3)):
        assert (np.abs(weights - h).max(1) < 1e-9).sum() == len(SIZES)
    assert not found.duplicated(["model", "weight_x", "weight_y", "weight_z"]).any()


@given(near=st.lists(st.sampled_from([0.0, 0.001, 0.004, 0.005, 0.3, 0.9]), min_size=4, max_size=4).filter(any))
def test_no_candidate_comes_twice(near: list[float]) -> None:
    domains = ["w", "x", "y", "z"]
    found = candidates(domains, SIZES[:1], np.array([near]) / sum(near))
    assert not found.duplicated([f"weight_{d}" for d in domains]).any()


def test_epochs_are_of_the_run_that_takes_most() -> None:
    runs = as_runs("fit", SIZES[0], anchors(2), ["x", "y"], [1.0, 2.0])
    table = epochs(runs, {"x": 1e8, "y": 1e9}).set_index("domain")
    assert table.loc["x", "epochs"] == pytest.approx(4.0)  # its corner has the factor 2
    assert table.loc["y", "epochs"] == pytest.approx(0.2)
    assert table.loc["x", "mean"] == pytest.approx((0.5 * 2e8 + 4e8) / 3)
