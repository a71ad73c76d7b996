"""Items are what was stored; the stream deals them exactly by tokens, or by samples, whatever their lengths."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data.store.tokens import Manifest
from data.stream.items import IGNORED, Kinds, Layout, kinds_in, open_items
from data.stream.loader import WeightedStream, evaluation_batches, shares_of_items
from data.stream.views import View
from mixlaw.errors import ConfigError, DataError
from tests.data.pictures import SIZE, documents, tokens, write_pictures

PATCH, P = 4, 4
VIEW = View(SIZE)
PACKED, SAMPLES = Layout(32, "multimodal", PATCH, VIEW), Layout(16, "vision", PATCH, VIEW)
DOMAINS = {PACKED: ["text", "captions", "pages"], SAMPLES: ["captions", "loud"]}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_pictures(tmp_path_factory.mktemp("captions"), names=("captions", "loud", "other"))


def all_arrays(manifest: Manifest, domain: str, layout: Layout) -> dict[str, np.ndarray]:
    items = open_items(manifest, domain, "train", layout)
    numbers = np.arange(items.kinds.size)
    return items.arrays(numbers, np.zeros_like(numbers), None)


@pytest.mark.parametrize("domain", DOMAINS[PACKED])
def test_packed_sequences_hold_every_token_and_image_once(manifest: Manifest, domain: str) -> None:
    arrays = all_arrays(manifest, domain, PACKED)
    stored = documents(domain, "train", 200)
    held = arrays["tokens"][arrays["tokens"] != IGNORED]
    plain = np.concatenate([tokens(d) for d in stored])
    assert sorted(held) == sorted(plain[plain < 256])
    starts = ((row, p) for row, patches in enumerate(arrays["patch"]) for p in patches if p >= 0 and p % P == 0)
    shown = [arrays["images"][row, patch // P] for row, patch in starts]
    assert len(shown) == sum(len(d.images) for d in stored)
    assert sorted(i.tobytes() for i in shown) == sorted(i.tobytes() for d in stored for i in d.images)


def test_a_captioned_image_stands_before_its_own_caption(manifest: Manifest) -> None:
    arrays, known = all_arrays(manifest, "captions", PACKED), documents("captions", "train", 200)
    pairs = {(d.images[0].tobytes(), d.text[1:]) for d in known}
    for row in range(len(arrays["tokens"])):
        for number in range(arrays["document"][row].max() + 1):
            here = arrays["document"][row] == number
            patches, text = arrays["patch"][row][here], arrays["tokens"][row][here]
            assert (text[:P] == IGNORED).all()
            assert (np.diff(patches[:P]) == 1).all()
            caption = bytes(text[P:-1].tolist()).decode()
            assert (arrays["images"][row, patches[0] // P].tobytes(), caption) in pairs
            assert text[-1] == 0


@pytest.mark.parametrize("layout", [PACKED, SAMPLES], ids=["packed", "samples"])
def test_kinds_say_what_items_hold(captions: Manifest, layout: Layout) -> None:
    items = open_items(captions, "captions", "train", layout)
    kinds, first = items.kinds, 0
    for kind in range(len(kinds.n_items)):
        numbers = np.arange(first, first + kinds.n_items[kind])
        first += len(numbers)
        arrays = items.arrays(numbers, np.zeros_like(numbers), None)
        n_text = (arrays["tokens"] >= 0).sum(1)
        n_image = (arrays["patch"] >= 0).sum(1) if layout is PACKED else np.full(len(numbers), P)
        assert (n_text + n_image == kinds.n_tokens[kind]).all()
        assert (n_image == kinds.n_image_tokens[kind]).all()
        assert (n_text == kinds.n_loss_tokens[kind]).all()  # an image comes first, so that all text is predicted
        if layout is PACKED:
            assert (arrays["document"].max(1) + 1 == kinds.n_samples[kind]).all()


def test_only_text_with_something_before_it_is_predicted(manifest: Manifest) -> None:
    kinds = kinds_in(manifest, "text", "train", PACKED)
    pieces = kinds.total("n_tokens") - kinds.total("n_loss_tokens")
    assert pieces >= kinds.total("n_samples") == 200


@pytest.mark.parametrize("unit", ["tokens", "samples"])
@pytest.mark.parametrize("layout", [PACKED, SAMPLES], ids=["packed", "samples"])
@given(data=st.data())
@settings(max_examples=15)
def test_weights_are_exact_after_any_number_of_steps(
    manifest: Manifest, captions: Manifest, layout: Layout, unit: str, data: st.DataObject
) -> None:
    """Within a few sequences' tokens, however long the stream is: the deviation does not grow."""
    here, names = (manifest, DOMAINS[PACKED]) if layout is PACKED else (captions, DOMAINS[SAMPLES])
    some = st.sampled_from([0.0, 1e-4, 0.2, 1.0])
    raw = data.draw(st.lists(some, min_size=len(names), max_size=len(names)).filter(any))
    weights = dict(zip(names, np.array(raw) / sum(raw), strict=True))
    stream = WeightedStream(here, weights, layout, 4, seed=1, unit=unit)
    for step in data.draw(st.lists(st.sampled_from([1, 7, 100, 10**4, 10**6, 10**9]), min_size=1, max_size=3)):
        given_ = stream.tokens_by_domain(step)
        assert sum(given_.values()) == stream.totals(step)["n_tokens"]
        if unit == "samples":
            each = {n: kinds_in(here, n, "train", layout) for n in names}
            given_ = {n: g * each[n].total("n_samples") / each[n].total("n_tokens") for n, g in given_.items()}
        total = sum(given_.values())
        most = layout.seq_len * 8 if unit == "tokens" else 40
        assert all(abs(given_[n] - w * total) <= most for n, w in weights.items())


def test_what_is_counted_is_what_was_yielded(manifest: Manifest) -> None:
    stream = WeightedStream(manifest, {"text": 0.3, "captions": 0.5, "pages": 0.2}, PACKED, 6, seed=3)
    spent, images, predicted = np.zeros(3, np.int64), 0, 0
    for step, batch in enumerate(stream.batches(0, 30), 1):
        held = (batch["document"] >= 0).sum(1)
        spent += np.bincount(batch["domain"], held, 3).astype(np.int64)
        images += int((batch["patch"] >= 0).sum())
        same = batch["document"][:, 1:] == batch["document"][:, :-1]
        predicted += int(((batch["tokens"][:, 1:] >= 0) & same).sum())
        assert list(stream.tokens_by_domain(step).values()) == spent.tolist()
        totals = stream.totals(step)
        assert (totals["n_image_tokens"], totals["n_loss_tokens"]) == (images, predicted)


@pytest.mark.parametrize("layout", [PACKED, SAMPLES], ids=["packed", "samples"])
def test_ranks_share_one_order_with_images_and_views(captions: Manifest, layout: Layout) -> None:
    view = View(4, min_crop=0.4, flip=0.5)
    layout = Layout(layout.seq_len, layout.family, 2, view)

    def stream(rank: int, size: int) -> WeightedStream:
        return WeightedStream(captions, {"captions": 1.0}, layout, 12, 5, rank=rank, world_size=size)

    whole = stream(0, 1)
    for size in (1, 2, 3, 4):
        ranks = [stream(rank, size) for rank in range(size)]
        for step in (0, 1, 50, 51):
            for name, expected in whole[step].items():
                together = torch.stack([rank[step][name] for rank in ranks], 1).flatten(0, 1)
                assert torch.equal(together, expected), name


def test_each_epoch_shows_every_sample_once_and_from_another_side(captions: Manifest) -> None:
    layout = Layout(16, "vision", PATCH, View(SIZE, min_crop=0.3))
    stream = WeightedStream(captions, {"captions": 1.0}, layout, 1, seed=0)
    n = kinds_in(captions, "captions", "train", layout).size
    kinds = len(kinds_in(captions, "captions", "train", layout).n_items)
    first, second = ([stream[i]["images"].numpy().tobytes() for i in range(start, start + n)] for start in (0, n))
    assert len(set(first) & set(second)) < n / 4
    plain = WeightedStream(captions, {"captions": 1.0}, SAMPLES, 1, seed=0)
    seen = sorted(plain[i]["images"].numpy().tobytes() + plain[i]["tokens"].numpy().tobytes() for i in range(n))
    again = sorted(plain[i]["images"].numpy().tobytes() + plain[i]["tokens"].numpy().tobytes() for i in range(n, 2 * n))
    assert sum(a != b for a, b in zip(seen, again, strict=True)) <= 4 * kinds  # kinds end their epochs a draw apart


def test_prefixes_and_plain_views_are_the_same_in_every_evaluation(captions: Manifest) -> None:
    layout = Layout(16, "vision", PATCH, View(SIZE, min_crop=0.3, flip=0.5))
    one, two = (evaluation_batches(captions, "captions", "eval", layout, 20, size) for size in (20, 7))
    for name in one[0]:
        assert torch.equal(torch.cat([b[name] for b in two]), one[0][name])
    stored = {d.images[0].tobytes() for d in documents("captions", "eval", 200)}
    assert all(image.numpy().tobytes() in stored for image in one[0]["images"])


def test_prefixes_are_spread_evenly_and_others_in_each_epoch(captions: Manifest) -> None:
    stream = WeightedStream(captions, {"captions": 1.0}, SAMPLES, 1, seed=0)
    n = kinds_in(captions, "captions", "train", SAMPLES).size
    drawn = [int(stream[i]["prefix"]) for i in range(2 * n)]
    for prefix in range(1, P):
        assert drawn.count(prefix) / len(drawn) == pytest.approx(1 / (P - 1), abs=0.1)
    seen = {}
    for i in range(2 * n):
        seen.setdefault(stream[i]["images"].numpy().tobytes(), set()).add(drawn[i])
    assert sum(len(found) for found in seen.values()) > 1.5 * len(seen)


def test_families_refuse_what_they_cannot_read(manifest: Manifest, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'pages': train document .* is not one image and its caption"):
        open_items(manifest, "pages", "train", SAMPLES)
    with pytest.raises(DataError, match="is not one image and its caption"):
        open_items(manifest, "text", "train", SAMPLES)
    with pytest.raises(ConfigError, match=r"holds images: choose model\.family"):
        open_items(manifest, "text", "train", Layout(16))


def test_text_windows_count_no_samples() -> None:
    one, zero = np.array([1]), np.array([0])
    windows = {"web": Kinds(np.array([9]), 16 * one, zero, 16 * one, zero)}
    assert shares_of_items({"web": 1.0}, windows, "tokens") == {"web": 1.0}
    with pytest.raises(ConfigError, match="unit=samples: this model family does not count samples"):
        shares_of_items({"web": 1.0}, windows, "samples")


def test_without_captions_only_patches_count(captions: Manifest) -> None:
    layout = Layout(16, "vision", PATCH, VIEW, captions=False)
    kinds = kinds_in(captions, "loud", "train", layout)
    assert kinds.total("n_tokens") == kinds.total("n_image_tokens") == P * kinds.size
    assert kinds.total("n_loss_tokens") == 0
