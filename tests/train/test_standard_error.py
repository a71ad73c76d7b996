"""The standard error over documents, held against repeated draws of documents and against brute force."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.store.tokens import SPLITS, Manifest, open_manifest, token_dtype, write_manifest, write_split
from data.stream.items import Layout, TextWindows, open_items, pairs
from tests.data.pictures import write_pictures
from tests.marks import slow
from train.standard_error import Ints, standard_error


def windows_of(bounds: Ints, items: Ints, length: int) -> Ints:
    """Return the pairs (window, document), token by token."""
    found = set()
    for row, item in enumerate(items):
        for token in range(item * length + 1, item * length + length + 1):
            found.add((row, int(np.searchsorted(bounds, token, side="right")) - 1))
    return np.array(sorted(found)).T


def measured(rng: np.random.Generator, n_documents: int, mean_length: int, n_wanted: int) -> tuple[float, float, float]:
    """Draw documents of random lengths and difficulties; return mean loss, our standard error, and that of windows."""
    length = 64
    lengths = np.maximum(rng.lognormal(np.log(mean_length) - 0.25, 0.7, n_documents).astype(int), 2)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    losses = 2 + np.repeat(rng.normal(0, 0.5, n_documents), lengths) + rng.normal(0, 1, bounds[-1])
    n = (bounds[-1] - 1) // length
    items = np.arange(min(n, n_wanted)) * n // min(n, n_wanted)
    sums = np.array([losses[i * length + 1 : (i + 1) * length + 1].sum() for i in items])
    mean = sums.sum() / (length * len(items))
    residuals = (sums - mean * length) / (length * len(items))
    first, last = (np.searchsorted(bounds, items * length + at, side="right") - 1 for at in (1, length))
    return mean, standard_error(residuals, pairs(first, last + 1)), standard_error(residuals)


@pytest.mark.parametrize(
    ("n_documents", "mean_length", "n_wanted"),
    [
        slow(40, 260, 1000),  # long documents, all windows
        (40, 260, 96),  # ... and some of them
        slow(60, 64, 1000),  # documents as long as windows: most windows hold two
        (400, 20, 1000),  # several documents in a window
        slow(1000, 1300, 96),  # one window of each document
        slow(6, 1000, 1000),  # very few documents
    ],
)
def test_it_is_the_spread_over_repeated_draws_of_documents(n_documents: int, mean_length: int, n_wanted: int) -> None:
    rng = np.random.default_rng(0)
    found = np.array([measured(rng, n_documents, mean_length, n_wanted) for _ in range(600)])
    true = found[:, 0].std(ddof=1)
    assert np.sqrt(np.mean(found[:, 1] ** 2)) == pytest.approx(true, rel=0.1)
    if n_documents < 100:  # what is stated over windows alone is far too small there
        assert np.sqrt(np.mean(found[:, 2] ** 2)) < 0.8 * true


@given(
    groups=st.lists(st.lists(st.floats(-5, 5), min_size=3, max_size=3), min_size=2, max_size=12),
    seed=st.integers(0, 9),
)
def test_with_whole_documents_it_is_the_clustered_error(groups: list[list[float]], seed: int) -> None:
    """Documents of three windows each: n / (n - 1) of the squared sums of documents, whatever their order."""
    values = np.array(groups) - np.mean(groups)
    order = np.random.default_rng(seed).permutation(values.size)
    documents = np.stack([np.arange(values.size), np.repeat(np.arange(len(values)), 3)[order]])
    clustered = np.square(values.sum(1)).sum() * len(values) / (len(values) - 1)
    independent = np.square(values).sum() * values.size / (values.size - 1)
    found = standard_error(values.reshape(-1)[order], documents)
    assert found == pytest.approx(max(clustered, independent) ** 0.5, abs=1e-6)


def test_where_all_windows_share_a_document_it_is_that_over_windows() -> None:
    residuals = np.array([1.0, -1.0, 2.0, -2.0])
    documents = np.stack([np.arange(4), np.zeros(4, np.int64)])
    assert standard_error(residuals, documents) == standard_error(residuals) == (10 * 4 / 3) ** 0.5
    assert standard_error(np.zeros(1), documents[:, :1]) == 0.0


# Which documents are in which item


def corpus(folder: Path, lengths: list[int]) -> Manifest:
    documents = [np.full(n, 1 + i % 200) for i, n in enumerate(lengths)]
    splits = {s: write_split(folder / "d", s, documents, token_dtype(256), 50) for s in SPLITS}
    tokenizer = {"kind": "bytes", "vocab_size": 256, "end_id": 0, "sha256": "0" * 64}
    write_manifest(folder, {"tokenizer": tokenizer, "domains": {"d": {"role": "train", "splits": splits}}})
    return open_manifest(folder)


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=30), length=st.integers(1, 20), data=st.data())
@settings(max_examples=50)
def test_windows_know_their_documents(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], length: int, data: st.DataObject
) -> None:
    n = (sum(lengths) - 1) // length
    if n == 0:
        return
    items = TextWindows(corpus(tmp_path_factory.mktemp("text"), lengths), "d", "eval", Layout(length))
    chosen = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=6, unique=True)))
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    found = items.documents(chosen)
    assert sorted(map(tuple, found.T.tolist())) == sorted(map(tuple, windows_of(bounds, chosen, length).T.tolist()))


@pytest.mark.parametrize("family", ["multimodal", "vision"])
def test_documents_with_images_are_known_too(tmp_path: Path, family: str) -> None:
    from data.store.images import ImageReader
    from data.store.tokens import TokenReader
    from data.stream.views import View
    from tests.data.pictures import SIZE

    manifest = write_pictures(tmp_path, names=("captions",))
    layout = Layout(32 if family == "multimodal" else 20, family, 4, View(SIZE))
    items = open_items(manifest, "captions", "train", layout)
    chosen = np.arange(items.kinds.size)
    found = items.documents(chosen)
    bounds = TokenReader(manifest, "captions", "train").document_bounds()
    assert set(found[1].tolist()) == set(range(len(bounds) - 1))
    assert set(found[0].tolist()) == set(chosen.tolist())
    if family == "vision":
        images = ImageReader(manifest, "captions", "train")
        shown = items.arrays(chosen, np.zeros_like(chosen), None)["images"]
        for row, document in found.T:
            number = int(np.searchsorted(images.places, bounds[document]))
            assert np.array_equal(shown[row], images.image(number))
        return
    arrays = items.arrays(chosen, np.zeros_like(chosen), None)
    reader = TokenReader(manifest, "captions", "train")
    for row in chosen:
        documents = found[1][found[0] == row]
        assert len(set(arrays["document"][row][arrays["document"][row] >= 0])) == len(documents)
        expected = [reader.windows(np.array([bounds[d]]), bounds[d + 1] - bounds[d])[0] for d in documents]
        words = [t for text in expected for t in text.tolist() if t < manifest.vocab_size]
        assert sorted(words) == sorted(t for t in arrays["tokens"][row].tolist() if t >= 0)
