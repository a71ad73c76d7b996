"""N-grams of words, and near-duplicates that share them: compared with sets of words and with the theory."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.preparation.minhash import BANDS, ROWS, band_keys, first_of_each, join_equal
from data.preparation.ngrams import ngram_hashes, token_hashes, word_hashes

words = st.lists(st.sampled_from(["a", "b", "Über", "x1", "zoë"]), max_size=12)


@given(words, words, st.integers(1, 4))
def test_hashes_are_equal_where_the_n_grams_are(one: list[str], other: list[str], n: int) -> None:
    grams = [{tuple(w.lower() for w in ws[i : i + n]) for i in range(len(ws) - n + 1)} for ws in (one, other)]
    hashes = [ngram_hashes(word_hashes(" ".join(ws)), n) for ws in (one, other)]
    assert list(map(len, hashes)) == list(map(len, grams))
    assert len(np.intersect1d(*hashes)) == len(grams[0] & grams[1])


def test_case_punctuation_and_spaces_do_not_count() -> None:
    assert word_hashes("The cat's\n\nhat, (1984).").tolist() == word_hashes("the  CAT s hat 1984").tolist()
    assert len(word_hashes("中文字 and ข้อ")) == 7  # scripts without spaces: one by one


def test_order_counts_and_tokens_have_n_grams_too() -> None:
    ids = np.arange(9, dtype=np.uint16)
    trigrams = ngram_hashes(token_hashes(ids), 3)
    assert trigrams.tolist() == ngram_hashes(token_hashes(ids.astype(np.int64)), 3).tolist()
    assert not np.intersect1d(trigrams, ngram_hashes(token_hashes(ids[::-1]), 3)).size


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.7, 0.8, 0.9])
def test_documents_share_a_band_as_often_as_the_theory_says(similarity: float) -> None:
    rng, n_pairs, size = np.random.default_rng(0), 300, 300
    n_common = round(2 * size * similarity / (1 + similarity))
    found = 0
    for _ in range(n_pairs):
        hashes = rng.integers(0, 1 << 64, 2 * size - n_common, np.uint64)
        keys = [band_keys(hashes[:size]), band_keys(hashes[size - n_common :])]
        found += bool((keys[0] == keys[1]).any())
    expected = 1 - (1 - similarity**ROWS) ** BANDS
    assert abs(found / n_pairs - expected) < 3.5 * (expected * (1 - expected) / n_pairs) ** 0.5 + 0.004


@given(st.lists(st.tuples(*[st.integers(0, 6)] * 3), min_size=1, max_size=25))
def test_components_are_those_of_the_graph_of_equal_keys(keys: list[tuple[int, int, int]]) -> None:
    labels = np.arange(len(keys), dtype=np.int32)
    graph = nx.empty_graph(len(keys))
    for band in range(3):
        column = np.array([key[band] for key in keys], np.uint64)
        labels = join_equal(labels, np.arange(len(keys)), column)
        graph.add_edges_from((i, j) for i in range(len(keys)) for j in range(i) if column[i] == column[j])
    components = {frozenset(np.flatnonzero(labels == label).tolist()) for label in labels}
    assert components == set(map(frozenset, nx.connected_components(graph)))
    rank = np.arange(len(keys))[::-1].copy()
    assert set(np.flatnonzero(first_of_each(labels, rank)).tolist()) == {max(component) for component in components}
