"""The shards of a split: token files of the prepared folder, or spans of documents in files of other trainers."""

import json
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from data.store.formats import FORMATS, FileSettings, TokenFile
from mixlaw.errors import DataError

Ints = NDArray[np.int64]
INPUTS = "inputs.json"  # path, size and modification time of the files that a domain is read from
SPAN_COLUMNS = 5  # of the index: file, first token in it, tokens, first document in it, documents
MOST_OPEN = 16  # files of a split at a time: for 50 domains together, fewer than the usual limit of 1,024


def read_inputs(folder: Path) -> dict[str, list[Any]]:
    """Return the columns path, n_bytes, mtime_ns (and sha256, if known) of the files of an indexed domain.

    Raises
    ------
    DataError
        If the list is damaged.
    """
    try:
        inputs: dict[str, list[Any]] = json.loads((folder / INPUTS).read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / INPUTS} cannot be read ({error}): prepare the data again") from None
    return inputs


class Shards(Protocol):
    """Parts of a split, in their order.

    Attributes
    ----------
    n_tokens, n_documents : (n_shards,)
    """

    n_tokens: Ints
    n_documents: Ints

    def read(self, shard: int, start: int, stop: int) -> NDArray[Any]:
        """Return the tokens [start, stop) of a shard."""

    def windows(self, shard: int, starts: Ints, length: int) -> NDArray[Any]:
        """Return the tokens (n, length) of n windows inside a shard."""

    def document_starts(self, shard: int) -> Ints:
        """Return the first token of each document of a shard."""


class StoredShards:
    """Token shards of the prepared folder.

    Parameters
    ----------
    files : names of the files of the split in the folder of the domain
    """

    def __init__(self, folder: Path, files: list[str], dtype: np.dtype[Any]) -> None:
        maps = [np.memmap(folder / name, dtype=dtype, mode="r") for name in files if name.endswith(".tokens")]
        self._tokens = [m.view(np.ndarray) for m in maps]  # same memory; slicing a memmap costs 5 us more
        self._starts = [folder / name for name in files if name.endswith(".starts")]
        self.n_tokens = np.array([len(tokens) for tokens in self._tokens], np.int64)
        self.n_documents = np.array([path.stat().st_size // 8 for path in self._starts], np.int64)

    def read(self, shard: int, start: int, stop: int) -> NDArray[Any]:
        """Return the tokens [start, stop) of a shard."""
        return self._tokens[shard][start:stop]

    def windows(self, shard: int, starts: Ints, length: int) -> NDArray[Any]:
        """Return the tokens (n, length) of n windows inside a shard."""
        return sliding_window_view(self._tokens[shard], length)[starts]

    def document_starts(self, shard: int) -> Ints:
        """Return the first token of each document of a shard."""
        return np.fromfile(self._starts[shard], "<i8")


class ExternalShards:
    """Spans of documents in token files of another trainer, which stay where they are.

    Parameters
    ----------
    folder : of the domain in the prepared folder, with the index
    facts : the manifest's entry `external` of the domain: reader, root, dtype, end_id, column
    vocab_size : ids must be below it
    """

    def __init__(self, folder: Path, split: str, facts: dict[str, Any], vocab_size: int) -> None:
        spans = np.fromfile(folder / f"{split}.spans", "<i8").reshape(-1, SPAN_COLUMNS)
        self._file, self._first, self.n_tokens, self._first_document, self.n_documents = spans.T
        self._vocab_size = vocab_size
        settings = FileSettings(facts["dtype"], facts["end_id"], facts["column"])
        self._opened = lru_cache(MOST_OPEN)(partial(_open, facts, settings, read_inputs(folder)))

    def read(self, shard: int, start: int, stop: int) -> NDArray[Any]:
        """Return the tokens [start, stop) of a shard.

        Raises
        ------
        DataError
            If the file changed its size, or an id is beyond the vocabulary.
        """
        file, first = self._opened(int(self._file[shard])), int(self._first[shard])
        ids = file.tokens(first + start, first + stop)
        if len(ids) and not 0 <= ids.min() <= ids.max() < self._vocab_size:
            raise DataError(
                f"{file.path}: there are ids from {ids.min()} to {ids.max()} among the tokens {first + start:,} to "
                f"{first + stop:,}, but the tokenizer has {self._vocab_size:,}: the file is damaged, or has another "
                "tokenizer or dtype"
            )
        return ids

    def windows(self, shard: int, starts: Ints, length: int) -> NDArray[Any]:
        """Return the tokens (n, length) of n windows inside a shard."""
        return np.stack([self.read(shard, start, start + length) for start in starts.tolist()])

    def document_starts(self, shard: int) -> Ints:
        """Return the first token of each document of a shard."""
        documents = np.arange(self.n_documents[shard]) + self._first_document[shard]
        return self._opened(int(self._file[shard])).bounds(documents) - self._first[shard]


def _open(facts: dict[str, Any], settings: FileSettings, inputs: dict[str, list[Any]], number: int) -> TokenFile:
    """Return a file; only now is its size compared, since asking for all sizes takes long on a cluster."""
    path, expected = Path(facts["root"], inputs["path"][number]), inputs["n_bytes"][number]
    try:
        actual = path.stat().st_size
    except OSError as error:
        raise DataError(
            f"{path} cannot be opened ({error.strerror}): restore it, or prepare the data --again"
        ) from None
    if actual != expected:
        raise DataError(
            f"{path} has {actual:,} bytes, expected {expected:,} bytes as when it was indexed: restore it, or index "
            "the files anew with `python -m data.prepare --again`"
        )
    return FORMATS[facts["reader"]](path, settings)
