"""Hashes of the n-grams of words of a document, to compare documents without keeping their texts."""

import re
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Letters and digits, without punctuation and case; characters of scripts that are written without spaces one by one.
_WORD = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|\w+")
_ODD = np.uint64(0x9E3779B97F4A7C15)


def word_hashes(text: str) -> NDArray[np.uint64]:
    """Return a hash of each word of a text, in order."""
    words = _WORD.findall(text.lower())
    return mixed(np.fromiter(map(zlib.crc32, map(str.encode, words)), np.uint64, len(words)))


def token_hashes(ids: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a hash of each token of a tokenised document, in order."""
    return mixed(ids.astype(np.uint64))


def ngram_hashes(words: NDArray[np.uint64], n: int) -> NDArray[np.uint64]:
    """Return the hashes of all n-grams (64 bits), sorted and without repetition.

    Parameters
    ----------
    words : hashes of the words or tokens of a document; fewer than n have no n-gram
    """
    if len(words) < n:
        return np.zeros(0, np.uint64)
    found = np.zeros(len(words) - n + 1, np.uint64)
    for i in range(n):
        found = found * _ODD + words[i : i + len(found)]
    return sorted_unique(mixed(found))


def sorted_unique(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return hashes sorted and without repetition; for random numbers faster than `np.unique`, which uses a table."""
    hashes = np.sort(hashes)
    return hashes[np.concatenate([[True] * bool(len(hashes)), hashes[1:] != hashes[:-1]]).astype(bool)]


def mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return numbers whose bits depend on all bits of x, one to one (Steele et al. 2014, SplitMix)."""
    x = x + _ODD
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
