"""Joins the tokenised buckets to the shards of the prepared folder: the last stage of a preparation.

The documents of a split, bucket by bucket, are in the order of their hash, so the shards depend neither on the number
of buckets nor on which process tokenised them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.preparation.encode import COUNT, Group
from data.store.images import write_images
from data.store.tokens import token_dtype, write_split
from mixlaw.fileio import write_atomically


@dataclass(frozen=True)
class SplitTask:
    """A split of a domain or target to write.

    Attributes
    ----------
    buckets : folders of the tokenised buckets, in order
    vocab_size : of the tokenizer, without the id of images
    n_bytes : of the documents
    folder : of the domain in the prepared folder
    entry : file for the manifest entry of the split, which is written last
    """

    domain: str
    split: str
    buckets: tuple[Path, ...]
    vocab_size: int
    image_size: int
    n_bytes: int
    folder: Path
    entry: Path

    @property
    def is_done(self) -> bool:
        """Whether the split was written."""
        return self.entry.exists()


def write_shards(task: SplitTask) -> None:
    """Write the shards of a split and its manifest entry."""
    dtype = token_dtype(task.vocab_size + bool(task.image_size))
    entry = write_split(task.folder, task.split, _pieces(task, "tokens", "lengths", dtype), dtype)
    if task.image_size:
        pixels = np.dtype((np.uint8, (task.image_size, task.image_size, 3)))
        images = _pieces(task, "pixels", "n_images", pixels)
        write_images(task.folder, task.split, entry, images, image_id=task.vocab_size, dtype=dtype)
    write_atomically(task.entry, json.dumps({"n_bytes": task.n_bytes} | entry))


def _pieces(task: SplitTask, values: str, counts: str, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Yield the tokens, or the images, of each document of a split.

    Parameters
    ----------
    values, counts : names of the files with the tokens and the lengths of documents, or pixels and numbers of images
    """
    for bucket in task.buckets:
        n_before, documents_before = 0, 0
        for group in map(Group._make, json.loads((bucket / "groups.json").read_bytes())):
            n = group.n_tokens if values == "tokens" else group.n_images
            if (group.domain, group.split) == (task.domain, task.split):
                lengths = np.fromfile(
                    bucket / counts, COUNT, group.n_documents, offset=COUNT.itemsize * documents_before
                )
                found = np.fromfile(bucket / values, dtype, n, offset=dtype.itemsize * n_before)
                ends = np.cumsum(lengths, dtype=np.int64).tolist()
                yield from (found[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True))
            n_before, documents_before = n_before + n, documents_before + group.n_documents
