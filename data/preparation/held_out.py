"""Sets parts of a tokenised corpus aside by document, without reading its tokens.

The documents of each file are divided into blocks of equal numbers of documents, at most about `MOST_BLOCKS` in all: a
small corpus has a document per block, and a corpus of 10^5 files a file per block. Of each hundred consecutive blocks,
a fixed pseudo-random choice of `eval_percent` is the eval split, and of `test_percent` the test split.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

from data.store.tokens import SPLITS

Ints = NDArray[np.int64]
MOST_BLOCKS = 1 << 16
_GROUP = 100  # blocks among which the splits have their exact shares


def spans_of_splits(n_documents: Ints, eval_percent: int, test_percent: int) -> dict[str, Ints]:
    """Return the spans of documents of each split: split -> (n, 3) with file, first document and end.

    Neighbouring blocks of a file that are in the same split are one span.

    Parameters
    ----------
    n_documents : (n_files,)
    """
    file, first, stop = _blocks(n_documents)
    percentile = _percentiles(len(file))
    split = np.digitize(percentile, [eval_percent, eval_percent + test_percent])  # 0: eval, 1: test, 2: train
    begins = np.flatnonzero(np.diff(split, prepend=-1) | np.diff(file, prepend=-1))
    ends = np.append(begins[1:], len(file)) - 1 if len(begins) else begins
    spans = np.stack([file[begins], first[begins], stop[ends]], 1)
    return {name: spans[split[begins] == ("eval", "test", "train").index(name)] for name in SPLITS}


def whole(n_documents: Ints) -> Ints:
    """Return the spans (n, 3) of all documents: file, first document and end, for files that have any."""
    file = np.flatnonzero(n_documents)
    return np.stack([file, np.zeros_like(file), n_documents[file]], 1)


def _blocks(n_documents: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the file, the first document and the end of every block."""
    size = max(-(-int(n_documents.sum()) // MOST_BLOCKS), 1)
    per_file = -(-n_documents // size)
    file = np.repeat(np.arange(len(n_documents)), per_file)
    number = np.arange(len(file)) - np.repeat(np.cumsum(per_file) - per_file, per_file)
    first, stop = ((number + i) * n_documents[file] // per_file[file] for i in (0, 1))
    return file, first, stop


def _percentiles(n_blocks: int) -> Ints:
    """Return a number from 0 to 99 for each block: its rank, by hash, among the blocks of its group."""
    n_groups = max(n_blocks // _GROUP, 1)
    group = np.arange(n_blocks) * n_groups // max(n_blocks, 1)
    digests = (hashlib.blake2b(b"%d" % i, digest_size=8).digest() for i in range(n_blocks))
    order = np.lexsort((np.fromiter((int.from_bytes(d) for d in digests), np.uint64, n_blocks), group))
    sizes = np.bincount(group, minlength=n_groups)
    rank = np.empty(n_blocks, np.int64)
    rank[order] = np.arange(n_blocks) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return rank * 100 // np.maximum(sizes, 1)[group]
