"""Collects the documents of a domain: cleaned, exact duplicates removed, split by hash."""

import hashlib
import mmap
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from data.readers.budget import BadDocuments
from data.readers.documents import IMAGE, Document, from_bytes, to_bytes
from data.readers.images import UNDECODABLE, canonical
from data.readers.token_files import STORED
from mixlaw.errors import ConfigError, DataError

DIGEST_BYTES = 16  # 128 bits: no collision is expected among a billion documents
COUNTS = ("n_read", "n_bad", "n_empty", "n_short", "n_duplicate", "n_in_other_domain", "n_documents")

# NUL is the end token of the byte tokenizer; lone surrogates cannot be encoded as UTF-8.
_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_TRAILING = re.compile(r"[ \t]+$", re.M)


def clean(text: str) -> str:
    """Return the text in Unicode NFC with `\\n` line ends, without control characters and trailing spaces."""
    text = _UNWANTED.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _TRAILING.sub("", unicodedata.normalize("NFC", text)).strip("\n")


def split_of(digest: bytes, eval_percent: int, test_percent: int) -> str:
    """Return the split of a document; it depends on its text or concept only, not on other documents."""
    percentile = int.from_bytes(digest) % 100
    if percentile < eval_percent:
        return "eval"
    return "test" if percentile < eval_percent + test_percent else "train"


@dataclass
class Corpus:
    """The cleaned documents of one domain, in one file, so that a corpus may be larger than memory.

    Parameters
    ----------
    path : file of all documents, concatenated: UTF-8 texts, ids of tokenised files, or texts with images
    spans : digest of each document -> its first byte and its end in the file
    counts : documents that were read, and that were dropped, by reason
    concepts : digest of a document -> digest of its concept, if it has one
    """

    path: Path
    spans: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    concepts: dict[bytes, bytes] = field(default_factory=dict)

    def digests(self, split: str, eval_percent: int, test_percent: int) -> list[bytes]:
        """Return the digests of a split, sorted; the order is random with respect to content."""
        return sorted(d for d in self.spans if split_of(self.concept(d), eval_percent, test_percent) == split)

    def concept(self, digest: bytes) -> bytes:
        """Return the digest of a document's concept, or of the document if it has no concept."""
        return self.concepts.get(digest, digest)

    def n_bytes(self, digests: Iterable[bytes]) -> int:
        """Return the size of documents in bytes: of their UTF-8 text and of their pixels."""
        return sum(self.spans[d][1] - self.spans[d][0] for d in digests)

    def texts(self, digests: Iterable[bytes]) -> Iterator[str]:
        """Yield the texts of these documents."""
        return (raw.decode("utf-8") for raw in self.raw(digests))

    def raw(self, digests: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the bytes of documents: UTF-8 text, or the ids of tokenised files."""
        if not self.spans:
            return
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
            for digest in digests:
                start, end = self.spans[digest]
                yield memory[start:end]


def collect(
    documents: Iterable[str | bytes | Document], path: Path, least_length: int, bad: BadDocuments, image_size: int = 0
) -> Corpus:
    """Clean the documents of one domain and write them to a file; drop and count empty, short and duplicate ones.

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
    corpus, end = Corpus(path, counts=Counter(dict.fromkeys(COUNTS, 0))), 0
    with path.open("wb") as file:
        for document in documents:
            kept = _with_images(document, image_size, bad) if image_size else _cleaned(document)
            if kept is None:
                continue
            text, raw = kept
            corpus.counts["n_read"] += 1
            digest = _digest(raw)
            if not text:
                corpus.counts["n_empty"] += 1
            elif _length(text) < least_length:
                corpus.counts["n_short"] += 1
            elif digest in corpus.spans:
                corpus.counts["n_duplicate"] += 1
            else:
                file.write(raw)
                corpus.spans[digest] = (end, end + len(raw))
                if isinstance(document, Document) and (concept := _concept(document, raw, image_size)):
                    corpus.concepts[digest] = concept
                end += len(raw)
    corpus.counts["n_bad"] = bad.count
    corpus.counts["n_read"] += bad.count
    corpus.counts["n_documents"] = len(corpus.spans)
    return corpus


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


def _cleaned(document: str | bytes | Document) -> tuple[str | bytes, bytes]:
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


def drop_shared_documents(corpora: Iterable[Corpus]) -> None:
    """Keep documents that occur in several corpora in the first of them only.

    With the targets first, no training domain contains a document of a target.
    """
    seen: set[bytes] = set()
    for corpus in corpora:
        _drop(corpus, seen.intersection(corpus.spans))
        seen.update(corpus.spans)


def drop_shared_concepts(targets: Iterable[Corpus], domains: Iterable[Corpus]) -> None:
    """Drop documents of training domains that share a concept or an image with a target.

    Not needed if targets are split like domains: a concept is then in the same split everywhere.
    """
    measured = {target.concept(digest) for target in targets for digest in target.spans}
    for domain in domains:
        _drop(domain, {digest for digest in domain.spans if domain.concept(digest) in measured})


def _drop(corpus: Corpus, digests: set[bytes]) -> None:
    for digest in digests:
        del corpus.spans[digest]
    corpus.counts["n_in_other_domain"] += len(digests)
    corpus.counts["n_documents"] = len(corpus.spans)
