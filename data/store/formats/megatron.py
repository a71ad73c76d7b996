"""Megatron-LM and NeMo: `.bin` with the ids, and `.idx` with lengths, positions and documents beside it.

The index: 9 bytes of magic, version (uint64), code of the type (uint8), numbers of sequences and of document marks
(uint64), then the length of each sequence (int32), its first byte in .bin (int64), and the first sequence of each
document, with the number of sequences at the end (int64). Source: megatron/core/datasets/indexed_dataset.py.
"""

import struct
from functools import cached_property
from typing import NamedTuple

import numpy as np

from data.store.formats.token_file import ContiguousFile, FileFacts, Ints
from mixlaw.errors import DataError

MAGIC = b"MMIDIDX\x00\x00"
TYPES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float64", 7: "float32", 8: "uint16"}
_HEAD = struct.Struct("<9sQBQQ")


class _Head(NamedTuple):
    """The header of an index, and where its arrays begin [bytes]."""

    dtype: str
    n_sequences: int
    n_marks: int

    @property
    def pointers(self) -> int:
        return _HEAD.size + 4 * self.n_sequences

    @property
    def marks(self) -> int:
        return self.pointers + 8 * self.n_sequences

    @property
    def size(self) -> int:
        return self.marks + 8 * self.n_marks


class MegatronFile(ContiguousFile):
    """A `.bin` file and its `.idx`. A document may have several sequences."""

    @property
    def _index_path(self) -> str:
        return str(self.path.with_suffix(".idx"))

    def facts(self) -> FileFacts:
        """Return type and counts; the last sequence of the index must end where the file ends."""
        head = self._head
        dtype = self._chosen(head.dtype, self.path.with_suffix(".idx").name)
        n_bytes = self.path.stat().st_size
        with open(self._index_path, "rb") as index:
            (last_mark,) = _read(index, "<q", head.size - 8)
            end = 0
            if head.n_sequences:
                (length,), (first,) = _read(index, "<i", head.pointers - 4), _read(index, "<q", head.marks - 8)
                end = first + length * np.dtype(dtype).itemsize
        if last_mark != head.n_sequences:
            raise DataError(
                f"{self._index_path}: its last document ends at sequence {last_mark:,} of {head.n_sequences:,}: the "
                "index is damaged; preprocess the corpus again"
            )
        if end != n_bytes:
            raise DataError(
                f"{self.path} has {n_bytes:,} bytes, but its index ends at byte {end:,}: the file is truncated, or the "
                ".idx belongs to another .bin"
            )
        return FileFacts(dtype, n_bytes // np.dtype(dtype).itemsize, head.n_marks - 1)

    def bounds(self, documents: Ints) -> Ints:
        """Return the first token of each of these documents, or the end of the file."""
        head, raw = self._head, self._index
        marks = np.frombuffer(raw, "<i8", head.n_marks, head.marks)
        pointers = np.frombuffer(raw, "<i8", head.n_sequences, head.pointers)
        sequences = marks[documents]
        found = np.full(len(sequences), self.path.stat().st_size, np.int64)
        inside = sequences < head.n_sequences
        found[inside] = pointers[sequences[inside]]
        return found // np.dtype(head.dtype).itemsize

    @cached_property
    def _index(self) -> np.ndarray:
        return np.memmap(self._index_path, np.uint8, "r").view(np.ndarray)

    @cached_property
    def _head(self) -> _Head:
        try:
            with open(self._index_path, "rb") as index:
                raw, size = index.read(_HEAD.size), index.seek(0, 2)
        except FileNotFoundError:
            raise DataError(
                f"{self._index_path} is missing: the reader 'megatron' needs the .idx beside each .bin; files without "
                "one are read by the reader 'tokens'"
            ) from None
        if len(raw) < _HEAD.size or not raw.startswith(MAGIC):
            raise DataError(f"{self._index_path} is not an index of Megatron-LM: it does not begin with {MAGIC!r}")
        _, version, code, n_sequences, n_marks = _HEAD.unpack(raw)
        head = _Head(TYPES.get(code, f"of code {code}"), n_sequences, n_marks)
        if version != 1 or n_marks < 1 or size < head.size:
            raise DataError(
                f"{self._index_path} has version {version} and {size:,} bytes; expected version 1 and at least "
                f"{head.size:,} bytes for {n_sequences:,} sequences: it is truncated or damaged"
            )
        return head


def _read(file, kind: str, at: int) -> tuple:
    file.seek(at)
    return struct.unpack(kind, file.read(struct.calcsize(kind)))
