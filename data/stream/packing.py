"""Packs documents with images into sequences; images are never cut.

An image takes `n_patches` places of a sequence. Documents longer than a sequence are cut between tokens. Best-fit
packing puts each piece into the sequence of its domain with the least sufficient room. Padding does not count as
tokens.
"""

import heapq
import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Pieces:
    """Parts of documents, each (n,): tokens [start, stop) of a split, and the places that they take."""

    start: Ints
    stop: Ints
    n_places: Ints
    n_images: Ints
    begins_document: NDArray[np.bool_]


def cut(bounds: Ints, images: Ints, n_patches: int, seq_len: int) -> Pieces:
    """Return the pieces of all documents, in order.

    Parameters
    ----------
    bounds : (n_documents + 1,) first token of each document, and the end of the last
    images : (n_images,) positions of image tokens, increasing
    n_patches : places of an image, at most seq_len
    seq_len : places of a sequence
    """
    before = np.searchsorted(images, bounds)
    n_places = np.diff(bounds) + np.diff(before) * (n_patches - 1)
    rows: list[tuple[int, int]] = []
    for document in np.flatnonzero(n_places > seq_len):
        rows += _cut_one(int(bounds[document]), int(bounds[document + 1]), images, n_patches, seq_len)
    short = np.flatnonzero(n_places <= seq_len)
    start = np.concatenate([bounds[short], np.array([a for a, _ in rows], np.int64)])
    stop = np.concatenate([bounds[short + 1], np.array([b for _, b in rows], np.int64)])
    order = np.argsort(start, kind="stable")
    start, stop = start[order], stop[order]
    held = np.searchsorted(images, stop) - np.searchsorted(images, start)
    return Pieces(start, stop, stop - start + held * (n_patches - 1), held, np.isin(start, bounds[:-1]))


def _cut_one(start: int, stop: int, images: Ints, n_patches: int, seq_len: int) -> list[tuple[int, int]]:
    """Cut one document into pieces of at most seq_len places."""
    widths = np.ones(stop - start, np.int64)
    first, last = np.searchsorted(images, (start, stop))
    widths[images[first:last] - start] = n_patches
    ends = np.concatenate([[0], np.cumsum(widths)])  # places before each token
    cuts = [0]
    while cuts[-1] < len(widths):
        cuts.append(int(np.searchsorted(ends, ends[cuts[-1]] + seq_len, side="right")) - 1)
    return [(start + a, start + b) for a, b in itertools.pairwise(cuts)]


def best_fit(sizes: Ints, capacity: int) -> Ints:
    """Return the number of the sequence for each piece: the fullest one with enough room, or a new one.

    Parameters
    ----------
    sizes : (n,) of the pieces, each at most `capacity`
    """
    chosen = np.empty(len(sizes), np.int64)
    with_room: list[list[int]] = [[] for _ in range(capacity + 1)]  # heaps of sequences by their free places
    some = 0  # bit r: a sequence with r free places exists
    n_sequences = 0
    for i, size in enumerate(sizes.tolist()):
        if fitting := some >> size:
            room = size + (fitting & -fitting).bit_length() - 1
            sequence = heapq.heappop(with_room[room])
            if not with_room[room]:
                some &= ~(1 << room)
        else:
            room, sequence = capacity, n_sequences
            n_sequences += 1
        chosen[i] = sequence
        if room > size:
            heapq.heappush(with_room[room - size], sequence)
            some |= 1 << (room - size)
    return chosen
