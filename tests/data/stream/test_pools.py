"""Pools: a part of a domain, the same one in every run, read again and again in a new order."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.store.tokens import Manifest
from data.stream.items import Kinds, Layout, kinds_in
from data.stream.loader import WeightedStream
from data.stream.order import Draws, GlobalOrder, Ints, first_items
from data.stream.pools import pool_of, pools_of
from data.stream.views import View
from mixlaw.errors import ConfigError
from tests.data.pictures import SIZE, write_pictures

IMAGE_LAYOUTS = {
    "multimodal": Layout(24, "multimodal", 4, View(SIZE, 0.5, 0.5)),
    "vision": Layout(20, "vision", 4, View(SIZE, 0.5, 0.5)),
}


@st.composite
def domains(draw: st.DrawFn) -> tuple[Ints, int]:
    """Return the items of each kind of a domain, and a size of a pool of it."""
    n_items = np.array(draw(st.lists(st.integers(1, 40), min_size=1, max_size=4)))
    return n_items, draw(st.integers(1, int(n_items.sum())))


def draws_of(n_items: Ints, pool: int | None, n: int, seed: int = 0) -> Draws:
    """Return n draws of the only domain, in their order."""
    pools = {} if pool is None else {0: first_items(n_items, pool)}
    return GlobalOrder(["a"], [1.0], [n_items], 1, seed, pools=pools).steps(0, n)


@given(domain=domains(), seed=st.integers(0, 99))
def test_the_first_epoch_is_that_of_the_whole_domain(domain: tuple[Ints, int], seed: int) -> None:
    n_items, n = domain
    limited, whole = draws_of(n_items, n, n, seed), draws_of(n_items, None, n, seed)
    assert (limited.item == whole.item).all()
    assert not limited.epoch.any()


@given(domain=domains(), seed=st.integers(0, 99), smaller=st.integers(1, 160))
def test_a_smaller_pool_is_a_prefix_of_a_larger_one(domain: tuple[Ints, int], seed: int, smaller: int) -> None:
    n_items, larger = domain
    smaller = min(smaller, larger)
    small, large = draws_of(n_items, smaller, 3 * smaller, seed), draws_of(n_items, larger, larger, seed)
    assert (small.item[:smaller] == large.item[:smaller]).all()
    assert set(small.item.flat) == set(large.item[:smaller].flat)


@given(domain=domains(), seed=st.integers(0, 99), n=st.integers(1, 200))
def test_items_of_a_pool_are_read_equally_often_at_any_point(domain: tuple[Ints, int], seed: int, n: int) -> None:
    n_items, pool = domain
    draws = draws_of(n_items, pool, n, seed)
    assert (draws.epoch.ravel() == np.arange(n) // pool).all()
    seen = Counter(draws.item.ravel().tolist())
    assert set(seen.values()) <= {n // pool, -(-n // pool)}
    assert len(seen) == min(n, pool)


def test_every_epoch_of_a_pool_has_another_order() -> None:
    epochs = draws_of(np.array([50]), 20, 80).item.reshape(4, 20)
    assert len({tuple(epoch) for epoch in epochs.tolist()}) == 4
    assert len({tuple(sorted(epoch)) for epoch in epochs.tolist()}) == 1


@given(domain=domains(), batch=st.integers(1, 7), first=st.sampled_from([0, 1, 97, 10**9]), n=st.integers(1, 30))
def test_a_block_anywhere_has_the_draws_and_counts_of_single_steps(
    domain: tuple[Ints, int], batch: int, first: int, n: int
) -> None:
    """Also blocks of many epochs, next to a domain without a pool."""
    n_items, pool = domain
    order = GlobalOrder(["a", "b"], [0.6, 0.4], [n_items, 11], batch, 3, pools={0: first_items(n_items, pool)})
    block, single = order.steps(first, n), [order.steps(first + step, 1) for step in range(n)]
    for column in ("domain", "epoch", "item"):
        assert (getattr(block, column) == np.concatenate([getattr(step, column) for step in single])).all()
    read = order.counts_by_kind(first + n)[0] - order.counts_by_kind(first)[0]
    kind = np.searchsorted(np.cumsum(n_items), block.item[block.domain == 0], side="right")
    assert (read == np.bincount(kind, minlength=len(n_items))).all()


@given(
    n_items=st.lists(st.integers(1, 10**9), min_size=1, max_size=5),
    lengths=st.lists(st.integers(1, 4096), min_size=5, max_size=5),
    share=st.floats(0, 1),
)
def test_a_pool_is_the_largest_one_within_its_tokens(n_items: list[int], lengths: list[int], share: float) -> None:
    columns = [np.array(lengths[: len(n_items)])] * 4
    kinds = Kinds(np.array(n_items), *columns)
    n_tokens = share * kinds.total("n_tokens")
    pool = pool_of(kinds, n_tokens)
    assert pool.total("n_tokens") <= n_tokens
    assert (pool.n_items <= kinds.n_items).all()
    if pool.size < kinds.size:
        assert first_items(kinds.n_items, pool.size + 1) @ kinds.n_tokens > n_tokens


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"wikki": 99.0}, "stream.unique_tokens: unknown domain 'wikki'; did you mean 'wiki'?"),
        ({"wiki": 1001.0}, "'wiki' would need a pool of 1,001 tokens and has 1,000 training tokens: lower it"),
        ({"wiki": 15.0}, "a pool of 15 tokens of 'wiki' is smaller than one sequence: raise it"),
        ({"wiki": -1.0}, "a pool of -1 tokens of 'wiki' is smaller than one sequence"),
    ],
)
def test_impossible_pools_are_one_sentence(wanted: dict[str, float], sentence: str) -> None:
    column = np.array([16])
    kinds = {"wiki": Kinds(np.array([62]), column, column, column, column)}
    with pytest.raises(ConfigError, match=sentence.replace("?", r"\?")):
        pools_of(kinds, {"wiki": 1000}, wanted, "stream.unique_tokens")
    assert pools_of(kinds, {"wiki": 1000}, {"wiki": 1000.0}, "") == {}  # all of it is no limit
    assert pools_of(kinds, {"wiki": 1000}, {"wiki": 991.0}, "")["wiki"].size == 61


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder: Path = tmp_path_factory.mktemp("pictures")
    return write_pictures(folder, names=("captions", "loud", "other"))


@pytest.mark.parametrize("family", ["multimodal", "vision"])
def test_images_of_a_pool_come_back_on_any_ranks(pictures: Manifest, family: str) -> None:
    layout, weights = IMAGE_LAYOUTS[family], {"captions": 0.3, "loud": 0.7}
    loud = pool_of(kinds_in(pictures, "loud", "train", layout), 200)

    def stream(**more: int) -> WeightedStream:
        return WeightedStream(pictures, weights, layout, 4, 5, pools={"loud": loud}, **more)

    whole, step, counts = stream(), 0, 0
    for n_steps, world_size in ((5, 2), (3, 1), (12, 4)):
        ranks = [stream(rank=r, world_size=world_size) for r in range(world_size)]
        for _ in range(n_steps):
            for name, array in whole[step].items():
                assert torch.equal(torch.stack([rank[step][name] for rank in ranks], 1).flatten(0, 1), array)
            counts += int((whole[step]["domain"] == 1).sum())
            step += 1
    read = whole.tokens_by_domain(step)["loud"]
    epochs, rest = divmod(counts, loud.size)
    assert epochs >= 2
    assert epochs * loud.total("n_tokens") <= read <= (epochs + bool(rest)) * loud.total("n_tokens")


@pytest.mark.parametrize("family", ["multimodal", "vision"])
def test_weights_are_exact_shares_of_tokens_where_the_items_of_a_pool_differ(pictures: Manifest, family: str) -> None:
    layout = IMAGE_LAYOUTS[family]
    loud = pool_of(kinds_in(pictures, "loud", "train", layout), 200)
    stream = WeightedStream(pictures, {"captions": 0.3, "loud": 0.7}, layout, 4, 0, pools={"loud": loud})
    n_steps = 1000
    share = stream.tokens_by_domain(n_steps)["loud"] / stream.totals(n_steps)["n_tokens"]
    assert share == pytest.approx(0.7, abs=1e-3)
