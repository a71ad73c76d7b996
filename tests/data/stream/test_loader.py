"""Every batch is a pure function of the step: ranks, workers and interruptions change nothing."""

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.store.tokens import SPLITS, Manifest, open_manifest, token_dtype, write_manifest, write_split
from data.stream.items import Layout, kinds_in, open_items
from data.stream.loader import Batch, WeightedStream, check_epochs, evaluation_batches
from data.stream.order import derived_key
from mixlaw.errors import ConfigError, DataError
from tests.marks import examples, slow

SEQ_LEN, BATCH = 8, 8
LAYOUT = Layout(SEQ_LEN)
SIZES = {"ants": 200, "bees": 81, "cats": 1000}  # tokens: 24, 10 and 124 sequences
MIXTURE = {"ants": 0.5, "bees": 0.2, "cats": 0.3}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Return domains in which every token occurs once, so that a token says where it came from."""
    folder = tmp_path_factory.mktemp("numbered")
    domains = {}
    for i, (name, size) in enumerate(SIZES.items()):
        text = 100_000 * i + np.arange(size)
        documents = np.split(text, np.arange(7, size, 7))
        splits = {s: write_split(folder / name, s, documents, token_dtype(1_000_000), 37) for s in SPLITS}
        domains[name] = {"role": "train", "splits": splits}
    write_manifest(folder, {"tokenizer": {"vocab_size": 1_000_000}, "domains": domains})
    return open_manifest(folder)


def stream_of(manifest: Manifest, weights: dict[str, float] = MIXTURE, **more: int) -> WeightedStream:
    return WeightedStream(manifest, weights, LAYOUT, BATCH, **({"seed": 3} | more))


def n_sequences(manifest: Manifest, domain: str) -> int:
    return kinds_in(manifest, domain, "train", LAYOUT).size


def check(manifest: Manifest, weights: dict[str, float], n_tokens: int, seq_len: int, most: float) -> None:
    kinds = {name: kinds_in(manifest, name, "train", Layout(seq_len)) for name in weights}
    check_epochs(kinds, {name: w * n_tokens for name, w in weights.items()}, most)


def drawn(stream: WeightedStream, n_steps: int, name: str) -> list[int]:
    """Return the items of a domain in the order of their draws (inside a step: of the shuffled batch)."""
    rows = [batch["tokens"][batch["domain"] == stream.names.index(name)] for batch in stream.batches(0, n_steps)]
    return (torch.cat(rows)[:, 0] % 100_000 // SEQ_LEN).tolist()


def assert_same(left: list[Batch], right: list[Batch]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert torch.equal(a["tokens"], b["tokens"])
        assert torch.equal(a["domain"], b["domain"])


@pytest.mark.filterwarnings("ignore:This DataLoader will create 3 worker processes")  # more than there are cores
@pytest.mark.parametrize(
    ("world_size", "workers"),
    [
        *((world_size, 0) for world_size in (1, 2, 3, 4, 8)),
        (2, 3),
        *(slow(*case) for case in itertools.product((1, 2, 3, 4, 8), (1, 3)) if case != (2, 3)),
    ],
)
def test_ranks_and_workers_share_one_global_order(manifest: Manifest, world_size: int, workers: int) -> None:
    """Also where a domain has fewer shards than there are workers, and across the ends of epochs."""

    def stream(**more: int) -> WeightedStream:
        return WeightedStream(manifest, MIXTURE, LAYOUT, 24, 3, **more)

    whole = list(stream().batches(0, 7))
    ranks = [list(stream(rank=r, world_size=world_size).batches(0, 7, workers)) for r in range(world_size)]
    for step, batch in enumerate(whole):
        for key in ("tokens", "domain"):
            together = torch.stack([rank[step][key] for rank in ranks], dim=1).flatten(0, 1)
            assert torch.equal(together, batch[key])


@st.composite
def interrupted(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Return legs of one training: [(steps, ranks), ...]."""
    return draw(st.lists(st.tuples(st.integers(1, 9), st.sampled_from([1, 2, 3, 4, 8])), min_size=1, max_size=10))


@given(
    legs=interrupted(),
    weights=st.lists(st.sampled_from([0.0, 1e-4, 0.2, 1.0]), min_size=3, max_size=3).filter(any),
    first=st.sampled_from([0, 1, 341, 10**6, 10**12]),
    ends=st.lists(st.integers(1, 20), max_size=2, unique=True),
)
@examples(40)
def test_a_training_stopped_on_some_ranks_goes_on_on_others(
    manifest: Manifest, legs: list[tuple[int, int]], weights: list[float], first: int, ends: list[int]
) -> None:
    """Wherever it is, also around the ends of phases: the sequences are those of one rank that was never stopped."""
    mixture = dict(zip(SIZES, np.array(weights) / sum(weights), strict=True))
    changes = list(zip((first + end for end in sorted(ends)), ({**MIXTURE}, mixture), strict=False))

    def stream(**more: int) -> WeightedStream:
        return WeightedStream(manifest, mixture, LAYOUT, 24, 5, changes=changes, **more)

    whole, step = stream(), first
    for n_steps, world_size in legs:
        ranks = [stream(rank=r, world_size=world_size) for r in range(world_size)]
        for _ in range(n_steps):
            together = torch.stack([rank[step]["tokens"] for rank in ranks], dim=1).flatten(0, 1)
            assert torch.equal(together, whole[step]["tokens"])
            step += 1


@given(start=st.integers(0, 200), length=st.integers(1, 20))
@settings(max_examples=20)
def test_a_stream_entered_at_any_step_is_the_stream_from_there_on(manifest: Manifest, start: int, length: int) -> None:
    stream, resumed = stream_of(manifest), stream_of(manifest)
    assert_same([stream[step] for step in range(start, start + length)], list(resumed.batches(start, start + length)))


def test_every_epoch_of_a_domain_visits_each_sequence_once(manifest: Manifest) -> None:
    n = n_sequences(manifest, "bees")
    items = drawn(WeightedStream(manifest, {"bees": 1.0}, LAYOUT, batch_size=1, seed=3), 4 * n, "bees")
    epochs = np.reshape(items, (4, n))
    assert (np.sort(epochs, axis=1) == np.arange(n)).all()
    assert len({tuple(epoch) for epoch in epochs}) == 4  # in another order each time


def test_in_a_mixture_no_sequence_comes_back_before_its_epoch_is_over(manifest: Manifest) -> None:
    n_steps = 40
    stream = stream_of(manifest)
    for name in SIZES:
        n = n_sequences(manifest, name)
        seen = Counter(drawn(stream, n_steps, name))
        draws = sum(seen.values())
        assert draws == stream.tokens_by_domain(n_steps)[name] // SEQ_LEN
        assert set(seen.values()) <= {draws // n, draws // n + 1}  # floor and ceiling of the epochs
        assert len(seen) == min(n, draws)


@given(
    weights=st.lists(st.sampled_from([0.0, 1e-9, 0.1, 1.0, 3.0]), min_size=3, max_size=3).filter(any),
    n_steps=st.integers(1, 12),
)
@settings(max_examples=25)
def test_tokens_by_domain_is_what_was_yielded(manifest: Manifest, weights: list[float], n_steps: int) -> None:
    stream = stream_of(manifest, dict(zip(SIZES, np.array(weights) / sum(weights), strict=True)))
    counts = torch.zeros(3, dtype=torch.int64)
    for batch in stream.batches(0, n_steps):
        assert batch["tokens"].shape == (BATCH, SEQ_LEN + 1)
        assert torch.equal(batch["tokens"][:, 0] // 100_000, batch["domain"])
        counts += torch.bincount(batch["domain"], minlength=3)
    assert stream.tokens_by_domain(n_steps) == dict(zip(SIZES, (counts * SEQ_LEN).tolist(), strict=True))
    assert sum(stream.tokens_by_domain(n_steps).values()) == n_steps * BATCH * SEQ_LEN


def test_a_domain_of_weight_zero_need_not_even_have_data(manifest: Manifest, tmp_path: Path) -> None:
    facts = manifest.facts | {"domains": manifest.facts["domains"] | {"void": {"role": "train", "splits": {}}}}
    stream = stream_of(Manifest(manifest.folder, facts, ""), {"void": 0.0, "ants": 1.0})
    assert {int(d) for b in stream.batches(0, 5) for d in b["domain"]} == {1}
    assert stream.tokens_by_domain(5) == {"void": 0, "ants": 5 * BATCH * SEQ_LEN}


def test_another_seed_is_another_order_of_the_same_mixture(manifest: Manifest) -> None:
    one, two = stream_of(manifest, seed=1), stream_of(manifest, seed=2)
    assert not torch.equal(one[0]["tokens"], two[0]["tokens"])
    assert one.tokens_by_domain(10) == two.tokens_by_domain(10)


def test_a_batch_is_shuffled_so_that_no_rank_sees_a_periodic_part(manifest: Manifest) -> None:
    """Half and half alternates in the schedule: unshuffled, each of two ranks would see one domain only."""
    halves = {"ants": 0.5, "cats": 0.5}
    ranks = [stream_of(manifest, halves, rank=r, world_size=2) for r in range(2)]
    for rank in ranks:
        assert {int(d) for b in rank.batches(0, 4) for d in b["domain"]} == {0, 1}


def test_neighbouring_sequences_share_the_token_that_is_target_and_input(manifest: Manifest) -> None:
    n = np.arange(n_sequences(manifest, "cats"))
    rows = open_items(manifest, "cats", "train", LAYOUT).arrays(n, n, 0)["tokens"]
    assert (rows[:-1, -1] == rows[1:, 0]).all()
    assert (rows[:, :-1].ravel() == 200_000 + np.arange(len(n) * SEQ_LEN)).all()


def test_a_domain_too_small_for_one_sequence_is_refused_by_name(manifest: Manifest) -> None:
    with pytest.raises(DataError, match="'bees' has 81 train tokens, too few for a sequence of 81"):
        WeightedStream(manifest, MIXTURE, Layout(81), BATCH, 0)
    assert kinds_in(manifest, "bees", "train", Layout(80)).size == 1


def test_a_batch_that_the_ranks_cannot_share_is_refused(manifest: Manifest) -> None:
    with pytest.raises(ConfigError, match="8 is not a multiple of the 3 ranks"):
        stream_of(manifest, world_size=3)


def test_a_mixture_with_too_many_epochs_is_refused_with_a_table(manifest: Manifest) -> None:
    with pytest.raises(ConfigError) as refused:
        check(manifest, MIXTURE, 1600, SEQ_LEN, 3.9)
    head, titles, *rows = str(refused.value).splitlines()
    assert "4.17 times, stream.max_epochs allows 3.9" in head
    assert titles.split() == ["domain", "tokens", "needed", "available", "epochs"]
    assert [row.split() for row in rows] == [
        ["ants", "800", "192", "4.17", "<-", "too", "many"],
        ["bees", "320", "80", "4.00", "<-", "too", "many"],
        ["cats", "480", "992", "0.48"],
    ]


def test_exactly_as_many_epochs_as_allowed_are_accepted(manifest: Manifest) -> None:
    check(manifest, {"bees": 1.0}, 320, SEQ_LEN, 4.0)
    check(manifest, {"bees": 0.0, "cats": 1.0}, 992, SEQ_LEN, 1.0)
    with pytest.raises(ConfigError, match="inf times"):
        check(manifest, {"bees": 1.0}, 100, 81, 4.0)


def test_evaluation_sequences_are_fixed_distinct_and_spread_over_the_split(manifest: Manifest) -> None:
    def batches_of(domain: str, batch_size: int) -> list[torch.Tensor]:
        return [b["tokens"] for b in evaluation_batches(manifest, domain, "eval", LAYOUT, 31, batch_size)]

    batches = batches_of("cats", 10)
    assert [len(b) for b in batches] == [10, 10, 10, 1]
    items = (torch.cat(batches)[:, 0] - 200_000) // SEQ_LEN
    assert torch.equal(items, torch.arange(31) * 124 // 31)
    again = batches_of("cats", 31)
    assert torch.equal(again[0], torch.cat(batches))
    assert sum(map(len, batches_of("bees", 10))) == 10  # all there are


@given(st.tuples(st.integers(0, 5), st.sampled_from(["batch", "ants", "weights"]), st.integers(0, 99)))
def test_keys_are_64_bits_and_differ_for_every_purpose(key: tuple[int, str, int]) -> None:
    others = [(key[0] + 1, key[1], key[2]), (key[0], key[1] + "x", key[2]), (key[0], key[1], key[2] + 1)]
    keys = [derived_key(*k) for k in (key, *others)]
    assert len(set(keys)) == 4
    assert all(0 <= k < 2**64 for k in keys)
