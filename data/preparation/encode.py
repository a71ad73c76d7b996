"""Tokenises the chosen documents, one bucket per task: the third stage of a preparation.

<folder>/tokens       ids of the bucket's documents, each with its end token, in the stored type
<folder>/lengths      little-endian uint32: tokens of each document
<folder>/pixels       with images: those of all documents, end to end
<folder>/n_images     with images: little-endian uint32 per document
<folder>/groups.json  a Group of each domain and split, in the order of the files
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.preparation.selection import Selection
from data.readers.documents import IMAGE, from_bytes
from data.readers.token_files import STORED
from data.staging import publish, staging_folder
from data.store.tokens import SPLITS, token_dtype
from data.tokenizers import Tokenizer, batches, load_tokenizer

COUNT = np.dtype("<u4")  # of tokens, or images, of a document
TOKENIZER_FACTS = "tokenizer_facts.json"


class Group(NamedTuple):
    """The documents of one domain and split in a bucket."""

    domain: str
    split: str
    n_documents: int
    n_tokens: int
    n_images: int


@dataclass(frozen=True)
class BucketTask:
    """A bucket to tokenise.

    Attributes
    ----------
    selection, parts : folders of the chosen documents and of their contents
    n_bytes : of its documents, for the progress
    folder : of the result, inside that of the tokenizer
    """

    number: int
    selection: Path
    parts: Path
    image_size: int
    n_bytes: int
    folder: Path

    @property
    def is_done(self) -> bool:
        """Whether the bucket was tokenised."""
        return self.folder.exists()


def save_tokenizer(folder: Path, tokenizer: Tokenizer, facts: dict[str, Any]) -> None:
    """Write a tokenizer for the processes that tokenise into folders below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(folder)
    (folder / TOKENIZER_FACTS).write_text(json.dumps(facts))


def _tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer; a new one for each bucket, because gigatoken remembers all words of its texts."""
    return load_tokenizer(folder, json.loads((folder / TOKENIZER_FACTS).read_bytes()))


@cache
def _selection(folder: Path, parts: Path) -> Selection:
    return Selection(folder, parts)


def encode_bucket(task: BucketTask) -> None:
    """Tokenise the documents of a bucket into its folder."""
    selection, tokenizer = _selection(task.selection, task.parts), _tokenizer(task.folder.parent)
    chosen = selection.bucket(task.number)
    documents, number = selection.read(chosen), chosen["domain"] * len(SPLITS) + chosen["split"]
    with staging_folder(task.folder) as staging:
        groups = []
        for group in np.unique(number).tolist():
            start, end = np.searchsorted(number, [group, group + 1]).tolist()
            name, split = selection.names[group // len(SPLITS)], SPLITS[group % len(SPLITS)]
            n_tokens, n_images = _append(staging, documents[start:end], tokenizer, task.image_size)
            groups.append(Group(name, split, end - start, n_tokens, n_images))
        (staging / "groups.json").write_text(json.dumps(groups))
        publish(staging, task.folder)


def _append(folder: Path, documents: Sequence[bytes], tokenizer: Tokenizer, image_size: int) -> tuple[int, int]:
    """Append documents to the files of a bucket; return the numbers of tokens and images."""
    lengths = []
    with (folder / "tokens").open("ab") as file:
        for ids in _encoded(documents, tokenizer, image_size):
            file.write(ids.data)
            lengths.append(len(ids))
    _append_counts(folder / "lengths", lengths)
    if not image_size:
        return sum(lengths), 0
    n_images = []
    with (folder / "pixels").open("ab") as file:
        for raw in documents:
            images = from_bytes(raw, image_size)[1]
            file.write(images.data)
            n_images.append(len(images))
    _append_counts(folder / "n_images", n_images)
    return sum(lengths), sum(n_images)


def _append_counts(path: Path, counts: Sequence[int]) -> None:
    with path.open("ab") as file:
        file.write(np.array(counts, COUNT).data)


def _encoded(documents: Sequence[bytes], tokenizer: Tokenizer, image_size: int) -> Iterator[NDArray[Any]]:
    """Yield the ids of each document and the end token, in the stored type."""
    if tokenizer.kind == "given":
        return _given(documents, tokenizer)
    if image_size:
        return _tokens_and_places((from_bytes(raw, image_size)[0] for raw in documents), tokenizer)
    return _tokens((raw.decode("utf-8") for raw in documents), tokenizer)


def _tokens(texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[NDArray[Any]]:
    """Yield the ids of texts, with the end token."""
    dtype = token_dtype(tokenizer.vocab_size)
    for batch in batches(texts):
        for ids in tokenizer.encode_batch(batch):
            yield np.append(ids, tokenizer.end_id).astype(dtype)


def _tokens_and_places(texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[NDArray[Any]]:
    """Yield the ids of texts, with the end token; the id `vocab_size` stands for an image."""
    place, end = np.array([tokenizer.vocab_size]), np.array([tokenizer.end_id])
    dtype = token_dtype(tokenizer.vocab_size + 1)
    for batch in batches(texts):
        parts = [text.split(IMAGE) for text in batch]
        encoded = iter(tokenizer.encode_batch(list(chain.from_iterable(parts))))
        for of_document in parts:
            between = [ids for _ in of_document for ids in (place, next(encoded))][1:]
            yield np.concatenate([*between, end]).astype(dtype)


def _given(documents: Iterable[bytes], tokenizer: Tokenizer) -> Iterator[NDArray[Any]]:
    """Yield the ids of documents that were tokenised elsewhere, with the end token."""
    dtype = token_dtype(tokenizer.vocab_size)
    for raw in documents:
        yield np.append(np.frombuffer(raw, STORED), tokenizer.end_id).astype(dtype)
