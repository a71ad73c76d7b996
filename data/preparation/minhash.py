"""Finds near-duplicates by MinHash and locality-sensitive hashing, with the settings of FineWeb.

The MinHash of a document is the least hash of its 5-grams under each of 112 permutations. Two documents of Jaccard
similarity s agree in one with probability s, and in all 8 of at least one of 14 bands with 1 - (1 - s^8)^14: 5 % at
s = 0.5, 57 % at 0.7, 92 % at 0.8, 99.96 % at 0.9 (Penedo et al. 2024, "The FineWeb datasets",
https://arxiv.org/abs/2406.17557; Broder 1997; Indyk and Motwani 1998).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from data.preparation.ngrams import mixed

WORDS, BANDS, ROWS = 5, 14, 8
_FACTORS, _OFFSETS = np.split(mixed(np.arange(2 * BANDS * ROWS, dtype=np.uint64)) | np.uint64(1), 2)
_AT_ONCE = 4096  # n-grams; the table of their permutations stays in the cache of the processor


def band_keys(ngrams: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return a key for each band (BANDS,); documents that share one are near-duplicates.

    Parameters
    ----------
    ngrams : hashes of the n-grams of a document, at least one
    """
    least = np.full(BANDS * ROWS, np.iinfo(np.uint64).max, np.uint64)
    for start in range(0, len(ngrams), _AT_ONCE):
        permuted = ngrams[start : start + _AT_ONCE, None] * _FACTORS + _OFFSETS
        np.minimum(least, permuted.min(axis=0), out=least)
    keys = np.zeros(BANDS, np.uint64)
    for row in least.reshape(BANDS, ROWS).T:
        keys = mixed(keys + row)
    return keys


def join_equal(labels: NDArray[np.int32], documents: NDArray[np.int64], keys: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Return the components of documents after those with equal keys of one band were joined.

    Parameters
    ----------
    labels : (n,) number of the component of each document
    documents : (m,) numbers of the documents that have a key
    keys : (m,)
    """
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order[1:]] == keys[order[:-1]])
    one, other = (labels[documents[order[same + step]]] for step in (0, 1))
    n = len(labels)
    graph = coo_array((np.ones(len(same), bool), (one, other)), (n, n))
    return connected_components(graph, directed=False)[1][labels]


def first_of_each(labels: NDArray[np.int32], rank: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each document (n,) is the one of the least rank in its component."""
    order = np.lexsort((rank, labels))
    first = np.ones(len(labels), bool)
    first[order[1:]] = labels[order[1:]] != labels[order[:-1]]
    return first
