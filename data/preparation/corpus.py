"""Cleans the documents of a domain, hashes them, and assigns them to splits by hash."""

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.readers.budget import BadDocuments
from data.readers.documents import IMAGE, Document, from_bytes, to_bytes
from data.readers.images import UNDECODABLE, canonical
from data.readers.token_files import STORED
from data.store.tokens import SPLITS
from mixlaw.errors import ConfigError, DataError

DIGEST_BYTES = 16  # 128 bits: no collision is expected among a billion documents
COUNTS = ("n_read", "n_bad", "n_empty", "n_short", "n_duplicate", "n_in_other_domain", "n_documents")
TRAIN, EVAL, TEST = map(SPLITS.index, ("train", "eval", "test"))

# NUL is the end token of the byte tokenizer; lone surrogates cannot be encoded as UTF-8.
_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_TRAILING = re.compile(r"[ \t]+$", re.M)


class CleanDocument(NamedTuple):
    """A document as it is stored until it is tokenised.

    Attributes
    ----------
    digest : of `raw`; equal for exact duplicates
    key : digest that decides the split: of the concept if the document has one, else `digest`
    raw : UTF-8 text, ids of a tokenised file, or a text with images
    """

    digest: bytes
    key: bytes
    raw: bytes


def clean(text: str) -> str:
    """Return the text in Unicode NFC with `\\n` line ends, without control characters and trailing spaces."""
    text = _UNWANTED.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _TRAILING.sub("", unicodedata.normalize("NFC", text)).strip("\n")


def splits_of(
    high: NDArray[np.uint64], low: NDArray[np.uint64], eval_percent: int, test_percent: int
) -> NDArray[np.uint8]:
    """Return the number (in `SPLITS`) of each document's split; it depends on its text or concept only.

    Parameters
    ----------
    high, low : (n,) the first and the last 64 bits of the keys, big-endian
    """
    percentile = (high % 100 * 16 + low % 100) % 100  # of the number of 128 bits: 2^64 is 16 modulo 100
    bounds = [eval_percent, eval_percent + test_percent]
    return np.array([EVAL, TEST, TRAIN], np.uint8)[np.searchsorted(bounds, percentile, side="right")]


def cleaned(
    documents: Iterable[str | bytes | Document],
    least_length: int,
    bad: BadDocuments,
    counts: Counter[str],
    image_size: int = 0,
) -> Iterator[CleanDocument]:
    """Yield the documents that are long enough, cleaned; count those that were read, empty or too short.

    Parameters
    ----------
    least_length : minimum length of a document: characters of the clean text (an image counts as one), or tokens of
        tokenised files
    image_size : side of the stored images in pixels; 0: documents have no images

    Raises
    ------
    DataError
        If more documents are bad than the budget allows.
    """
    for document in documents:
        kept = _with_images(document, image_size, bad) if image_size else _without_images(document)
        if kept is None:
            continue
        text, raw = kept
        counts["n_read"] += 1
        if not text:
            counts["n_empty"] += 1
        elif _length(text) < least_length:
            counts["n_short"] += 1
        else:
            digest = _digest(raw)
            concept = _concept(document, raw, image_size) if isinstance(document, Document) else None
            yield CleanDocument(digest, concept or digest, raw)


def _length(document: str | bytes) -> int:
    """Return the characters of a text, or the tokens of a tokenised document."""
    return len(document) // STORED.itemsize if isinstance(document, bytes) else len(document)


def _digest(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=DIGEST_BYTES).digest()


def _concept(document: Document, raw: bytes, image_size: int) -> bytes | None:
    """Return the digest that decides the split: of the concept, or of the pixels if there is exactly one image."""
    if document.concept:
        return _digest(document.concept.encode())
    return _digest(from_bytes(raw, image_size)[1].tobytes()) if len(document.images) == 1 else None


def _without_images(document: str | bytes | Document) -> tuple[str | bytes, bytes]:
    """Return the clean text of a document (or its ids), and the bytes to store."""
    if isinstance(document, Document):
        raise ConfigError(f"{document.where}: it has images: set data.image_size, their side in pixels")
    text = clean(document) if isinstance(document, str) else document
    return text, text.encode("utf-8") if isinstance(text, str) else text


def _with_images(document: str | bytes | Document, size: int, bad: BadDocuments) -> tuple[str, bytes] | None:
    """Return the clean text of a document and the bytes to store; None if an image is damaged and the budget allows."""
    if not isinstance(document, Document):
        text = clean(str(document).replace(IMAGE, ""))
        return text, to_bytes(text, [])
    text = clean(document.text)
    if text.count(IMAGE) != len(document.images):
        raise DataError(f"{document.where}: {len(document.images)} images for {text.count(IMAGE)} places in its text")
    try:
        return text, to_bytes(text, [canonical(image, size, document.drawings) for image in document.images])
    except UNDECODABLE as error:
        bad.add(document.where, str(error).strip().split("\n")[0] or type(error).__name__, "an image cannot be decoded")
        return None
