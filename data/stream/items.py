"""Numbered items of a domain: windows of text, packed documents with images, or image-caption samples.

Items with the same numbers of tokens form a kind. The global order draws the kinds of a domain in proportion, so that
any part of the stream has the right share of tokens of each domain, although items differ in length.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from data.store.images import ImageReader
from data.store.tokens import Manifest, TokenReader
from data.stream.order import derived_key
from data.stream.packing import best_fit, cut
from data.stream.views import View, seen
from mixlaw.errors import ConfigError, DataError

Ints = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]
FAMILIES = ("text", "multimodal", "vision")
UNITS = ("tokens", "samples")
IGNORED = -100  # in place of a token: a patch or padding, without loss
NO_IMAGE = -1  # in place of the number of a patch


@dataclass(frozen=True)
class Layout:
    """How a model family reads documents.

    Attributes
    ----------
    seq_len : places of a sequence, for tokens and patches
    family : text: windows of concatenated documents | multimodal: packed documents with images | vision: an image and
        its caption
    patch_size : side of a patch in pixels
    view : augmentation of images
    captions : vision: whether captions are read
    """

    seq_len: int
    family: str = "text"
    patch_size: int = 0
    view: View = field(default_factory=View)
    captions: bool = True

    @property
    def n_patches(self) -> int:
        """Patches of an image, which is also the number of places that it takes."""
        return (self.view.size // self.patch_size) ** 2 if self.patch_size else 0


@dataclass(frozen=True)
class Kinds:
    """Contents of the items of each kind, (n_kinds,) each; items are numbered kind after kind."""

    n_items: Ints
    n_tokens: Ints  # text and patches, no padding
    n_image_tokens: Ints
    n_loss_tokens: Ints  # tokens that are predicted
    n_samples: Ints  # documents that begin

    @property
    def size(self) -> int:
        """The number of items."""
        return int(self.n_items.sum())

    def per_item(self, what: str) -> float:
        """Return the mean of a column over all items; exact if there is one kind."""
        column: Ints = getattr(self, what)
        if len(column) == 1:
            return float(column[0])
        return float(column @ self.n_items / self.size) if len(column) else 0.0

    def total(self, what: str) -> int:
        """Return the sum of a column over all items."""
        return int(getattr(self, what) @ self.n_items)


def kinds_of(columns: Sequence[Ints]) -> tuple[Kinds, Ints]:
    """Group items by their contents; return the kinds, and the items in the order of their new numbers.

    Parameters
    ----------
    columns : tokens, image tokens, loss tokens and samples, (n_items,) each
    """
    rows, kind, n_items = np.unique(np.stack(columns, 1), axis=0, return_inverse=True, return_counts=True)
    return Kinds(n_items.astype(np.int64), *rows.T.astype(np.int64)), np.argsort(kind.reshape(-1), kind="stable")


class Items(Protocol):
    """One split of one domain, as numbered items."""

    kinds: Kinds

    def arrays(self, items: Ints, epochs: Ints, seed: int | None) -> Arrays:
        """Return the named arrays of items, each with a first axis (n,), in the format of the model family.

        Parameters
        ----------
        items : (n,) numbers of the items
        epochs : (n,) epoch of each item
        seed : of image augmentation, which depends on (seed, item, epoch) only; None: no augmentation, for evaluation
        """

    def documents(self, items: Ints) -> Ints:
        """Return all pairs (row of `items`, document) in which the item has loss on the document, as (2, m).

        Documents are numbered within the split.
        """


def open_items(manifest: Manifest, domain: str, split: str, layout: Layout) -> Items:
    """Return the items of a domain's split.

    Raises
    ------
    DataError
        If it has none, or documents that the model family cannot read.
    """
    items: Items = _ITEMS[layout.family](manifest, domain, split, layout)
    return items


def kinds_in(manifest: Manifest, domain: str, split: str, layout: Layout) -> Kinds:
    """Return the kinds of items of a domain's split; no kinds if it has too few tokens."""
    key = (str(manifest.folder), manifest.sha256, domain, split, layout)
    if key not in _known:
        try:
            _known[key] = open_items(manifest, domain, split, layout).kinds
        except TooFewTokens:
            _known[key] = Kinds(*[np.zeros(0, np.int64)] * 5)
    return _known[key]


_known: dict[Any, Kinds] = {}  # cache: packing is slow, and every run of a study needs it


class TooFewTokens(DataError):
    """A split has fewer tokens than one item."""


class TextWindows:
    """Windows of concatenated documents; the last target of a window is the first input of the next."""

    def __init__(self, manifest: Manifest, domain: str, split: str, layout: Layout) -> None:
        if manifest.image_size:
            raise ConfigError(f"{manifest.folder} holds images: choose model.family multimodal or vision")
        self._reader = TokenReader(manifest, domain, split)
        self._seq_len = layout.seq_len
        n_items = max(self._reader.n_tokens - 1, 0) // layout.seq_len
        if n_items == 0:
            raise TooFewTokens(
                f"domain '{domain}' has {self._reader.n_tokens} {split} tokens, too few for a sequence of "
                f"{layout.seq_len}"
            )
        n, zero = np.array([layout.seq_len]), np.array([0])
        self.kinds = Kinds(np.array([n_items]), n, zero, n, zero)

    def arrays(self, items: Ints, epochs: Ints, seed: int | None) -> Arrays:
        """Return `tokens` (n, seq_len + 1) in their stored type."""
        return {"tokens": self._reader.windows(items * self._seq_len, self._seq_len + 1)}

    def documents(self, items: Ints) -> Ints:
        """Return (2, m) the pairs of a row of `items` and a document in it."""
        first_token = items * self._seq_len + 1  # token 0 is input only
        first, last = (self._reader.document_of(first_token + i) for i in (0, self._seq_len - 1))
        return pairs(first, last + 1)


class PackedDocuments:
    """Documents with images, packed whole into sequences."""

    def __init__(self, manifest: Manifest, domain: str, split: str, layout: Layout) -> None:
        self._reader, self._images = TokenReader(manifest, domain, split), ImageReader(manifest, domain, split)
        self._layout, self._name = layout, f"{domain}/{split}"
        pieces = cut(self._reader.document_bounds(), self._images.places, layout.n_patches, layout.seq_len)
        if not len(pieces.start):
            raise TooFewTokens(f"domain '{domain}' has no {split} document")
        sequence = best_fit(pieces.n_places, layout.seq_len)
        n = int(sequence.max()) + 1

        def per_sequence(column: NDArray[Any]) -> Ints:
            return np.bincount(sequence, column, n).astype(np.int64)

        n_text = pieces.stop - pieces.start - pieces.n_images
        first_is_image = np.isin(pieces.start, self._images.places)
        columns = (
            per_sequence(pieces.n_places),
            per_sequence(pieces.n_images * layout.n_patches),
            per_sequence(n_text - ~first_is_image),  # the first token of a piece has no input that predicts it
            per_sequence(pieces.begins_document),
        )
        self.kinds, self._numbered = kinds_of(columns)
        by_sequence = np.argsort(sequence, kind="stable")
        self._start, self._stop = pieces.start[by_sequence], pieces.stop[by_sequence]
        self._first = np.searchsorted(sequence[by_sequence], np.arange(n + 1))

    def arrays(self, items: Ints, epochs: Ints, seed: int | None) -> Arrays:
        """Return the arrays of early fusion, with S = seq_len, M = maximum number of images in a sequence.

        tokens (n, S): ids, IGNORED at patches and padding; document (n, S): number of the piece within the sequence,
        -1 at padding; patch (n, S): number of the patch among the M x n_patches of the sequence, or NO_IMAGE;
        images (n, M, size, size, 3).
        """
        layout, n = self._layout, len(items)
        most = layout.seq_len // layout.n_patches
        arrays: Arrays = {
            "tokens": np.full((n, layout.seq_len), IGNORED, np.int64),
            "document": np.full((n, layout.seq_len), -1, np.int64),
            "patch": np.full((n, layout.seq_len), NO_IMAGE, np.int64),
            "images": np.zeros((n, most, layout.view.size, layout.view.size, 3), np.uint8),
        }
        for row, (item, epoch) in enumerate(zip(items, epochs, strict=True)):
            self._fill({name: array[row] for name, array in arrays.items()}, int(item), int(epoch), seed)
        return arrays

    def documents(self, items: Ints) -> Ints:
        """Return (2, m) the pairs of a row of `items` and a document in it."""
        sequences = self._numbered[items]
        rows, pieces = pairs(self._first[sequences], self._first[sequences + 1])
        number = np.searchsorted(self._reader.document_bounds(), self._start[pieces], side="right") - 1
        return np.stack([rows, number])

    def _fill(self, row: Arrays, item: int, epoch: int, seed: int | None) -> None:
        sequence, place, n_images = int(self._numbered[item]), 0, 0
        for number, piece in enumerate(range(self._first[sequence], self._first[sequence + 1])):
            start, stop = int(self._start[piece]), int(self._stop[piece])
            tokens = self._reader.windows(np.array([start]), stop - start)[0].astype(np.int64)
            first, last = np.searchsorted(self._images.places, (start, stop))
            widths = np.ones(len(tokens), np.int64)
            widths[self._images.places[first:last] - start] = self._layout.n_patches
            here = slice(place, place + int(widths.sum()))
            row["document"][here] = number
            row["tokens"][here] = np.repeat(np.where(widths > 1, IGNORED, tokens), widths)
            is_patch = np.repeat(widths > 1, widths)
            patches = np.arange((last - first) * self._layout.n_patches) + n_images * self._layout.n_patches
            row["patch"][here][is_patch] = patches
            for image in range(first, last):
                key = None if seed is None else derived_key(seed, f"{self._name}/view/{image}", epoch)
                row["images"][n_images] = seen(self._images.image(image), self._layout.view, key)
                n_images += 1
            place = here.stop


class Samples:
    """Samples of one image and its caption; long captions are truncated."""

    def __init__(self, manifest: Manifest, domain: str, split: str, layout: Layout) -> None:
        self._reader, self._images = TokenReader(manifest, domain, split), ImageReader(manifest, domain, split)
        self._layout, self._name = layout, f"{domain}/{split}"
        bounds = self._reader.document_bounds()
        if len(bounds) < 2:
            raise TooFewTokens(f"domain '{domain}' has no {split} document")
        n_images = np.diff(np.searchsorted(self._images.places, bounds))
        first = np.isin(bounds[:-1], self._images.places)
        if not ((n_images == 1) & first).all():
            odd = int(np.argmin((n_images == 1) & first))
            raise DataError(
                f"domain '{domain}': {split} document {odd} is not one image and its caption (it has {n_images[odd]} "
                "images), which is what model.family=vision reads; model.family=multimodal reads all kinds"
            )
        self._caption = bounds[:-1] + 1
        self._n_text = np.minimum(np.diff(bounds) - 1, (layout.seq_len - layout.n_patches) * layout.captions)
        n_patches = np.full(len(first), layout.n_patches)
        columns = (n_patches + self._n_text, n_patches, self._n_text, np.ones_like(n_patches))
        self.kinds, self._numbered = kinds_of(columns)

    def arrays(self, items: Ints, epochs: Ints, seed: int | None) -> Arrays:
        """Return the arrays of a vision model, with T = seq_len - n_patches.

        images (n, size, size, 3); tokens (n, T) of the captions, IGNORED after their ends; prefix (n,): number of
        patches in the bidirectional prefix of the encoder, 1 to n_patches - 1.
        """
        layout, n = self._layout, len(items)
        tokens = np.full((n, layout.seq_len - layout.n_patches), IGNORED, np.int64)
        images = np.empty((n, layout.view.size, layout.view.size, 3), np.uint8)
        prefix = np.empty(n, np.int64)
        for row, (item, epoch) in enumerate(zip(items, epochs, strict=True)):
            sample = int(self._numbered[item])
            length = int(self._n_text[sample])
            tokens[row, :length] = self._reader.windows(self._caption[sample : sample + 1], length)[0]
            key = None if seed is None else derived_key(seed, f"{self._name}/view/{sample}", int(epoch))
            images[row] = seen(self._images.image(sample), layout.view, key)
            drawn = derived_key(seed or 0, f"{self._name}/prefix/{sample}", int(epoch))
            prefix[row] = 1 + drawn % (layout.n_patches - 1)
        return {"tokens": tokens, "images": images, "prefix": prefix}

    def documents(self, items: Ints) -> Ints:
        """Return (2, n) the pairs of a row of `items` and its document."""
        return np.stack([np.arange(len(items)), self._numbered[items]])


def pairs(first: Ints, stop: Ints) -> Ints:
    """Return all pairs (row, number) with first[row] <= number < stop[row], as (2, m)."""
    n = stop - first
    rows = np.repeat(np.arange(len(n)), n)
    return np.stack([rows, np.arange(len(rows)) - np.repeat(np.cumsum(n) - n - first, n)])


_ITEMS: Mapping[str, Any] = {"text": TextWindows, "multimodal": PackedDocuments, "vision": Samples}
