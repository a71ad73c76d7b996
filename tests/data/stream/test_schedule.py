"""The mixture is exact at every prefix, and the order is a pure function of the index."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data.stream.schedule import SCHEDULE_VERSION, MixtureSchedule, keyed_permutation
from mixlaw.errors import ConfigError

_weight = st.one_of(st.just(0.0), st.just(1e-9), st.floats(1e-6, 1.0))
mixtures = st.lists(_weight, min_size=1, max_size=50).filter(lambda w: sum(w) > 0)
starts = st.one_of(st.integers(0, 2000), st.integers(0, 10**9))
one_hot = [0.0, 1.0, 0.0]


def shares(weights: list[float]) -> np.ndarray:
    return np.array(weights) / np.sum(weights)


@given(weights=mixtures, start=starts, length=st.integers(1, 3000))
@example(weights=one_hot, start=0, length=10)
@example(weights=[1e-9] * 49 + [1.0], start=10**9 - 5, length=10)
@settings(max_examples=60)
def test_every_prefix_is_within_two_sequences_of_the_mixture(weights: list[float], start: int, length: int) -> None:
    domain, _ = MixtureSchedule(weights).block(start, start + length)
    before = MixtureSchedule(weights).counts(start)
    after = before + np.cumsum(domain[:, None] == np.arange(len(weights)), axis=0)
    exact = (start + 1 + np.arange(length))[:, None] * shares(weights)
    assert np.abs(after - exact).max() <= 2


@given(weights=mixtures, n=st.integers(0, 10**9))
def test_counts_without_listing_are_within_two_sequences_and_add_up(weights: list[float], n: int) -> None:
    counts = MixtureSchedule(weights).counts(n)
    assert counts.sum() == n
    assert np.abs(counts - n * shares(weights)).max() <= 2


@given(weights=mixtures, start=starts, length=st.integers(0, 500))
def test_a_block_is_what_the_counts_of_its_ends_say(weights: list[float], start: int, length: int) -> None:
    schedule = MixtureSchedule(weights)
    domain, _ = schedule.block(start, start + length)
    listed = np.bincount(domain, minlength=len(weights))
    assert (listed == schedule.counts(start + length) - schedule.counts(start)).all()


@given(weights=mixtures, start=starts, cuts=st.lists(st.integers(0, 400), min_size=3, max_size=6))
def test_a_block_does_not_depend_on_how_it_is_cut(weights: list[float], start: int, cuts: list[int]) -> None:
    schedule, edges = MixtureSchedule(weights), sorted(start + c for c in cuts)
    whole = schedule.block(edges[0], edges[-1])
    parts = [schedule.block(a, b) for a, b in pairwise(edges)]
    for i in range(2):
        assert (np.concatenate([part[i] for part in parts]) == whole[i]).all()


@given(weights=mixtures)
def test_the_draws_of_a_domain_are_numbered_without_gaps(weights: list[float]) -> None:
    domain, draw = MixtureSchedule(weights).block(0, 2000)
    for i in range(len(weights)):
        assert (draw[domain == i] == np.arange((domain == i).sum())).all()


@given(weights=mixtures, start=starts)
def test_draws_continue_from_the_count_before_the_block(weights: list[float], start: int) -> None:
    schedule = MixtureSchedule(weights)
    domain, draw = schedule.block(start, start + 300)
    for i, before in enumerate(schedule.counts(start)):
        assert (draw[domain == i] == before + np.arange((domain == i).sum())).all()


def test_a_long_block_is_the_same_as_its_parts_on_both_sides_of_the_inner_cut() -> None:
    schedule, middle = MixtureSchedule([0.3, 0.5, 0.2]), 1 << 20
    domain, draw = schedule.block(0, middle + 100)
    near = schedule.block(middle - 100, middle + 100)
    assert (domain[-200:] == near[0]).all()
    assert (draw[-200:] == near[1]).all()


def test_weights_of_zero_are_never_drawn_and_a_one_hot_mixture_is_one_domain() -> None:
    domain, _ = MixtureSchedule([0.5, 0.0, 0.5]).block(0, 10_000)
    assert set(domain) == {0, 2}
    assert set(MixtureSchedule(one_hot).block(10**9, 10**9 + 100)[0]) == {1}


def test_the_order_is_the_one_of_schedule_version_1() -> None:
    """A run's identity holds SCHEDULE_VERSION: whoever changes this order must raise it."""
    domain, draw = MixtureSchedule([0.5, 0.3, 0.15, 0.05, 0.0]).block(0, 20)
    wide, _ = MixtureSchedule([0.3, 0.3, 0.2, 0.2]).block(0, 20)
    assert SCHEDULE_VERSION == 1
    assert wide.tolist() == [0, 2, 1, 3, 0, 1, 2, 0, 3, 1, 0, 2, 1, 3, 0, 1, 2, 0, 3, 1]
    assert domain.tolist() == [0, 1, 0, 2, 0, 1, 0, 3, 0, 1, 0, 1, 0, 2, 0, 1, 0, 2, 0, 1]
    assert draw.tolist() == [0, 0, 1, 0, 2, 1, 3, 0, 4, 2, 5, 3, 6, 1, 7, 4, 8, 2, 9, 5]
    assert keyed_permutation(range(12), 12, 2026).tolist() == [1, 2, 0, 3, 8, 5, 10, 7, 4, 9, 6, 11]


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [-0.1, 1.1], [float("nan"), 1.0], [float("inf")], [[1.0]]])
def test_what_is_not_a_mixture_is_refused(weights: list[float]) -> None:
    with pytest.raises(ConfigError, match="mixture"):
        MixtureSchedule(weights)


def test_a_range_that_is_not_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[-1, 5\)"):
        MixtureSchedule([1.0]).block(-1, 5)


@given(key=st.integers(0, 2**64 - 1))
@settings(max_examples=5)
def test_a_keyed_permutation_is_a_bijection_at_every_size(key: int) -> None:
    for size in range(1, 301):
        assert (np.sort(keyed_permutation(np.arange(size), size, key)) == np.arange(size)).all()


@given(size=st.integers(1, 2**40), key=st.integers(0, 2**64 - 1), item=st.integers(0, 2**40 - 1))
def test_a_keyed_permutation_sends_one_item_where_it_sends_it_among_others(size: int, key: int, item: int) -> None:
    items = np.unique([item % size, 0, size - 1])
    images = keyed_permutation(items, size, key)
    assert len(set(images)) == len(items)
    assert [int(keyed_permutation([i], size, key)[0]) for i in items] == images.tolist()
    assert ((images >= 0) & (images < size)).all()


def test_other_keys_give_unrelated_orders() -> None:
    orders = np.stack([keyed_permutation(np.arange(1000), 1000, key) for key in range(20)])
    agreement = (orders[:, None] == orders[None]).sum(-1)[~np.eye(20, dtype=bool)]
    assert agreement.mean() < 2  # one item in a thousand by chance
    assert np.abs(np.corrcoef(orders)[~np.eye(20, dtype=bool)]).max() < 0.2
