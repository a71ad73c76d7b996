"""Finds documents of domains that overlap with a target, and near-duplicates: optional parts of the second stage.

Both hash the n-grams of every document, one bucket per task, into files of the work folder:

<folder>/targets-<bucket>.npy     hashes of the n-grams of targets, sorted; targets.npy: of all buckets
<folder>/overlaps-<bucket>.npy    whether each document has one of these n-grams
<folder>/bands-<bucket>.npy       (BANDS, n) MinHash keys; 0: the document is not compared

Contamination is one common n-gram, as for GPT-3 (n = 13 words; Brown et al. 2020, appendix C,
https://arxiv.org/abs/2005.14165).
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.config import DataConfig
from data.demo_corpora.wheels import Echo
from data.preparation.minhash import BANDS, WORDS, band_keys, first_of_each, join_equal
from data.preparation.ngrams import ngram_hashes, sorted_unique, token_hashes, word_hashes
from data.preparation.selection import Selection
from data.preparation.workers import Runner, do_all
from data.readers.documents import IMAGE, from_bytes
from data.readers.token_files import STORED
from data.store.tokens import SPLITS

TARGETS = "targets.npy"  # n-grams of all targets
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class HashTask:
    """A bucket whose documents are hashed.

    Attributes
    ----------
    selection, parts : folders of the chosen documents and of their contents
    is_tokens : documents are tokenised already
    n_targets : targets are the domains of lower numbers
    n : length of the n-grams, in words or tokens
    n_bytes : of its documents, for the progress
    folder : of the results
    kind : of the result
    """

    number: int
    selection: Path
    parts: Path
    is_tokens: bool
    image_size: int
    n_targets: int
    n: int
    n_bytes: int
    folder: Path
    kind: str

    @property
    def result(self) -> Path:
        """The file of the result; complete if it exists."""
        return self.folder / f"{self.kind}-{self.number:05d}.npy"

    @property
    def is_done(self) -> bool:
        """Whether the result exists."""
        return self.result.exists()

    def documents(self) -> Iterator[tuple[bool, bytes]]:
        """Yield whether each document is of a target, and its contents."""
        selection = Selection(self.selection, self.parts)
        chosen = selection.bucket(self.number)
        return zip((chosen["domain"] < self.n_targets).tolist(), selection.read(chosen), strict=True)

    def words(self, raw: bytes) -> NDArray[np.uint64]:
        """Return the hashes of the words, or tokens, of a document."""
        if self.is_tokens:
            return token_hashes(np.frombuffer(raw, STORED))
        text = from_bytes(raw, self.image_size)[0].replace(IMAGE, " ") if self.image_size else raw.decode("utf-8")
        return word_hashes(text)

    def has_images(self, raw: bytes) -> bool:
        """Return whether a document has images."""
        return bool(self.image_size) and IMAGE in from_bytes(raw, self.image_size)[0]


@dataclass(frozen=True)
class Overlap:
    """The documents of a selection that are compared.

    Attributes
    ----------
    selection : the documents
    folder : of the hashes; the results in it are used again
    run : calls a function with each task, in this process or in others
    """

    config: DataConfig
    selection: Selection
    folder: Path
    run: Runner
    echo: Echo

    def contaminated(self, questions: Sequence[str]) -> Iterator[Mask]:
        """Yield, for each bucket, which documents of domains have an n-gram in common with a target.

        Parameters
        ----------
        questions : texts of benchmark tasks, which count as targets
        """
        n = self.config.decontaminate_words
        of_targets = self._done(_hash_targets, n, "targets", "reading targets")
        of_questions = [ngram_hashes(word_hashes(text), n) for text in questions]
        _save(self.folder / TARGETS, sorted_unique(np.concatenate([*of_targets, *of_questions])))
        return self._done(_find_overlaps, n, "overlaps", "comparing with targets")

    def near_duplicates(self) -> Iterator[Mask]:
        """Yield, for each bucket, which documents of domains are near-duplicates of one that is kept.

        Of each group, the documents of targets are kept; without one, the document of the first domain, and in it of
        the first split and the least digest.
        """
        bands = list(self._done(_hash_bands, WORDS, "bands", "hashing for near-duplicates"))
        chosen = [self.selection.bucket(number)[["domain", "split"]] for number in range(len(bands))]
        domain, split = (np.concatenate([bucket[key] for bucket in chosen]) for key in ("domain", "split"))
        dropped = ~first_of_each(_components(bands), _rank(domain, split)) & (domain >= self._n_targets)
        return iter(np.split(dropped, np.cumsum([len(bucket) for bucket in chosen])[:-1]))

    @property
    def _n_targets(self) -> int:
        return sum(name in self.config.targets for name in self.selection.names)

    def _done(self, function: Callable[[HashTask], None], n: int, kind: str, what: str) -> Iterator[NDArray[Any]]:
        """Do the tasks of all buckets that are not done yet, and yield the results, mapped into memory."""
        self.folder.mkdir(exist_ok=True)
        given, size, selection = self.config.tokenizer.kind == "given", self.config.image_size, self.selection
        about = (selection.folder, selection.parts, given, size, self._n_targets, n)
        sizes = enumerate(selection.bucket_bytes)
        tasks = [HashTask(number, *about, n_bytes, self.folder, kind) for number, n_bytes in sizes]
        deque(do_all(function, tasks, self.run, what, self.echo), 0)
        return (np.load(task.result, mmap_mode="r") for task in tasks)


def _components(bands: list[NDArray[np.uint64]]) -> NDArray[np.int32]:
    """Return the group of each document; one band at a time is in memory."""
    labels = np.arange(sum(keys.shape[1] for keys in bands), dtype=np.int32)
    for band in range(BANDS):
        keys = np.concatenate([of_bucket[band] for of_bucket in bands])
        compared = np.flatnonzero(keys)
        labels = join_equal(labels, compared, keys[compared])
    return labels


def _rank(domain: NDArray[Any], split: NDArray[Any]) -> NDArray[np.int64]:
    """Return the ranks of documents that are in the order of their digests: by domain, split and digest."""
    rank = np.empty(len(domain), np.int64)
    rank[np.argsort(domain.astype(np.int64) * len(SPLITS) + split, kind="stable")] = np.arange(len(domain))
    return rank


def _hash_targets(task: HashTask) -> None:
    found = [ngram_hashes(task.words(raw), task.n) for is_target, raw in task.documents() if is_target]
    _save(task.result, sorted_unique(np.concatenate([np.zeros(0, np.uint64), *found])))


@cache
def _target_n_grams(folder: Path) -> NDArray[np.uint64]:
    found: NDArray[np.uint64] = np.load(folder / TARGETS, mmap_mode="r")
    return found


def _find_overlaps(task: HashTask) -> None:
    known = _target_n_grams(task.folder)
    overlaps = partial(_overlaps, known=known)
    found = [not is_target and overlaps(ngram_hashes(task.words(raw), task.n)) for is_target, raw in task.documents()]
    _save(task.result, np.array(found, bool))


def _overlaps(n_grams: NDArray[np.uint64], known: NDArray[np.uint64]) -> bool:
    """Return whether sorted arrays have an element in common."""
    places = np.searchsorted(known, n_grams)
    inside = places < len(known)
    return bool((known[places[inside]] == n_grams[inside]).any())


def _hash_bands(task: HashTask) -> None:
    found = [_keys(task, raw) for _, raw in task.documents()]
    _save(task.result, np.array(found, np.uint64).reshape(-1, BANDS).T)


def _keys(task: HashTask, raw: bytes) -> NDArray[np.uint64]:
    """Return the MinHash keys of a document; zeros for one with images, or without words."""
    words = task.words(raw)
    if not len(words) or task.has_images(raw):
        return np.zeros(BANDS, np.uint64)
    return band_keys(ngram_hashes(words, min(task.n, len(words))))


def _save(path: Path, array: NDArray[Any]) -> None:
    """Write an array; the file appears when it is complete."""
    staged = path.with_suffix(f".{os.getpid()}.tmp")
    with staged.open("wb") as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)
    os.replace(staged, path)
