"""Held-out parts of a tokenised corpus: whole documents, once each, in the stated shares."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.preparation.held_out import MOST_BLOCKS, spans_of_splits, whole
from data.store.tokens import SPLITS

counts = st.lists(st.integers(0, 300), min_size=1, max_size=20).map(lambda n: np.array(n, np.int64))


@given(n_documents=counts, eval_percent=st.integers(0, 50), test_percent=st.integers(0, 49))
def test_every_document_is_in_one_split(n_documents: np.ndarray, eval_percent: int, test_percent: int) -> None:
    spans = spans_of_splits(n_documents, eval_percent, test_percent)
    taken = [np.zeros(n, int) for n in n_documents]
    for of_split in spans.values():
        for file, first, stop in of_split.tolist():
            taken[file][first:stop] += 1
        assert of_split[:, 0].tolist() == sorted(of_split[:, 0].tolist())
    assert all((t == 1).all() for t in taken)
    in_whole = {tuple(span) for span in whole(n_documents).tolist()}
    assert in_whole == {(i, 0, n) for i, n in enumerate(n_documents.tolist()) if n}


@given(n_documents=counts, eval_percent=st.integers(1, 50), test_percent=st.integers(1, 49))
def test_shares_of_the_splits(n_documents: np.ndarray, eval_percent: int, test_percent: int) -> None:
    n = int(n_documents.sum())
    spans = spans_of_splits(n_documents, eval_percent, test_percent)
    held = {split: int((spans[split][:, 2] - spans[split][:, 1]).sum()) for split in SPLITS}
    groups = max(n // 100, 1)  # in each, the shares are rounded
    assert abs(held["eval"] - n * eval_percent / 100) <= groups
    assert abs(held["test"] - n * test_percent / 100) <= groups
    assert held["eval"] >= min(n, 1)


def test_files_are_held_out_whole_where_there_are_many() -> None:
    n_documents = np.full(MOST_BLOCKS + 1000, 10_000)
    spans = spans_of_splits(n_documents, 5, 1)
    assert sum(len(of_split) for of_split in spans.values()) == len(n_documents)
    assert abs(len(spans["eval"]) / len(n_documents) - 0.05) < 0.001
    few = spans_of_splits(np.array([10**9, 3 * 10**8]), 5, 5)
    assert 0.04 < sum(stop - first for _, first, stop in few["test"].tolist()) / 1.3e9 < 0.06
    assert sum(map(len, few.values())) < 2 * MOST_BLOCKS


def test_the_choice_is_the_same_every_time() -> None:
    """Runs of different days compare only if their eval documents are the same."""
    spans = spans_of_splits(np.array([100]), 3, 2)
    assert (spans["eval"][:, 1].tolist(), spans["test"][:, 1].tolist()) == ([29, 90, 99], [66, 72])
