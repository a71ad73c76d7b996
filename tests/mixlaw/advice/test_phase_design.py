"""A study of two phases: within its budget, every pair has its trunk, both orders and new mixtures, unseen held-out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.advice.design import Size
from mixlaw.advice.phase_design import PAIRS, between, couples, distances, plan_phase_study
from mixlaw.counts import flops
from mixlaw.errors import ConfigError
from tests.marks import examples

SIZES = [Size("a", 1e7, 2e8), Size("b", 4e7, 8e8), Size("c", 1e8, 2e9)]


def least(domains: list[str], switches: list[float]) -> float:
    with pytest.raises(ConfigError, match="the smallest study of these sizes with two phases takes") as refused:
        plan_phase_study(domains, SIZES, 1.0, switches)
    return float(str(refused.value).split("takes ")[1].split(" FLOPs")[0]) * 1.01


@given(
    k=st.integers(2, 8),
    factor=st.floats(1.0, 3.0),
    seed=st.integers(0, 5),
    switches=st.lists(st.sampled_from([0.25, 0.5, 0.6, 0.75, 0.9]), min_size=1, max_size=3, unique=True),
)
@examples(12)
def test_a_study_keeps_to_its_budget_and_every_pair_has_its_trunk(
    k: int, factor: float, seed: int, switches: list[float]
) -> None:
    domains = [f"d{i}" for i in range(k)]
    budget = factor * least(domains, switches)
    runs = plan_phase_study(domains, SIZES, budget, switches, seed=seed)
    assert runs["flops"].sum() <= budget
    first, second, whole = (runs[[f"weight_{d}{p}" for d in domains]].to_numpy() for p in ("@1", "@2", ""))
    is_pair = runs["until@1"].notna().to_numpy()
    switch = runs["until@1"].to_numpy()
    trained = np.where(is_pair, 1 - switch, 1) * runs["n_tokens"]
    assert np.allclose(runs["flops"], flops(runs["n_params"], trained))
    for role in ("fit", "heldout"):
        mine, static = (runs["role"] == role).to_numpy(), (runs["role"] == role).to_numpy() & ~is_pair
        assert (mine & is_pair).sum() == PAIRS * static.sum()
        for i in np.flatnonzero(mine & is_pair):
            same = static & (runs["model"] == runs["model"][i]) & (runs["n_tokens"] >= runs["n_tokens"][i])
            assert (whole[same] == first[i]).all(1).any()
            assert np.allclose(whole[i], switch[i] * first[i] + (1 - switch[i]) * second[i])
            assert np.abs(first[i] - second[i]).sum() > 0
    fit = is_pair & (runs["role"] == "fit").to_numpy()
    orders = {(tuple(first[i]), tuple(second[i]), switch[i], runs["n_tokens"][i]) for i in np.flatnonzero(fit)}
    swapped = {(b, a, t, n) for a, b, t, n in orders}
    assert len(orders & swapped) >= len(orders) / 4
    assert set(switch[fit]) == set(switches)


def test_held_out_pairs_have_unseen_mixtures_and_switches_at_the_largest_size() -> None:
    runs = plan_phase_study(["x", "y", "z"], SIZES, 2e19)
    fit, held = (runs[runs["role"] == role] for role in ("fit", "heldout"))
    assert set(held["model"]) == {"c"}
    assert set(held["until@1"].dropna()) <= set(between([0.5, 0.75])) == {0.625, 0.875}
    seen = {tuple(h) for p in ("", "@1", "@2") for h in fit[[f"weight_{d}{p}" for d in "xyz"]].dropna().to_numpy()}
    for phase in ("@1", "@2"):
        assert not seen & {tuple(h) for h in held[[f"weight_{d}{phase}" for d in "xyz"]].dropna().to_numpy()}
    assert 0 < held["flops"].sum() < 0.5 * fit["flops"].sum()


@given(n=st.integers(2, 12), seed=st.integers(0, 99))
def test_couples_are_disjoint_and_the_farthest_apart_is_the_first(n: int, seed: int) -> None:
    h = np.random.default_rng(seed).dirichlet(np.ones(3), n)
    found = couples(h)
    members = [i for couple in found for i in couple]
    assert len(found) == n // 2
    assert len(set(members)) == len(members)
    assert distances(h, h)[found[0]] == distances(h, h).max()
