"""Packing keeps every token once, cuts no image, and fills sequences well."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data.stream.packing import best_fit, cut


@st.composite
def texts(draw: st.DrawFn) -> tuple[list[int], list[int], int, int]:
    """Return lengths of documents, tokens that are images, patches of an image, and places of a sequence."""
    lengths = draw(st.lists(st.integers(1, 60), min_size=1, max_size=20))
    images = sorted(draw(st.sets(st.integers(0, sum(lengths) - 1), max_size=12)))
    n_patches = draw(st.integers(1, 9))
    return lengths, images, n_patches, draw(st.integers(n_patches, 40))


@given(texts())
def test_pieces_hold_every_token_once_and_are_no_longer_than_a_sequence(
    drawn: tuple[list[int], list[int], int, int],
) -> None:
    lengths, images, n_patches, seq_len = drawn
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    pieces = cut(bounds, np.array(images, np.int64), n_patches, seq_len)
    assert pieces.start[0] == 0
    assert pieces.stop[-1] == bounds[-1]
    assert (pieces.start[1:] == pieces.stop[:-1]).all()
    widths = np.ones(bounds[-1], np.int64)
    widths[images] = n_patches
    for start, stop, places, held, begins in zip(
        pieces.start, pieces.stop, pieces.n_places, pieces.n_images, pieces.begins_document, strict=True
    ):
        assert places == widths[start:stop].sum() <= seq_len
        assert held == sum(start <= image < stop for image in images)
        assert begins == (start in bounds)
        inside = [b for b in bounds if start < b < stop]
        assert not inside  # no piece holds parts of two documents
        if not begins:  # a document is cut only where the next token finds no room
            before = int(np.flatnonzero(pieces.stop == start)[0])
            assert pieces.n_places[before] + widths[start] > seq_len


@given(st.lists(st.integers(1, 20), max_size=60), st.integers(20, 40))
def test_best_fit_overfills_none_and_opens_none_while_there_is_room(sizes: list[int], capacity: int) -> None:
    chosen = best_fit(np.array(sizes, np.int64), capacity)
    filled: list[int] = []
    for size, sequence in zip(sizes, chosen.tolist(), strict=True):
        fits = [used for used in filled if used + size <= capacity]
        if sequence == len(filled):
            assert not fits
            filled.append(0)
        else:
            assert filled[sequence] == max(fits)  # the fullest that has room
        filled[sequence] += size
        assert filled[sequence] <= capacity
