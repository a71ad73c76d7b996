"""MosaicML Streaming: `.mds` shards, each with the byte offsets of its samples; a sample is a document.

A shard: number of samples (uint32), their offsets and the end (uint32), a JSON text of the columns, the samples. A
sample: the sizes of its columns of variable size (uint32), then its columns in the order of their names. An `ndarray`
column without a stated type or shape begins with them. Source: streaming/base/format/mds/.
"""

import json
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.store.formats.token_file import FileFacts, Ints, TokenFile
from mixlaw.errors import DataError, unknown_name

BYTES_TYPE = "int64"  # of ids in columns of bytes, as LLM-foundry writes them
_TYPES = {8: "uint8", 9: "int8", 16: "uint16", 17: "int16", 32: "uint32", 33: "int32", 64: "uint64", 65: "int64"}
_WIDTHS = np.array([1, 2, 4, 8])  # bytes of a dimension, by the two low bits before it


class _Samples(NamedTuple):
    """The ids of every sample: their type, first byte in the shard, and the end of each sample [tokens]."""

    dtype: str
    first_byte: Ints
    ends: Ints


class MdsFile(TokenFile):
    """A shard without compression, of which one column holds ids."""

    def facts(self) -> FileFacts:
        """Return type and counts."""
        samples = self._samples
        dtype = self._chosen(samples.dtype, f"the column '{self.settings.column}'")
        return FileFacts(dtype, int(samples.ends[-1]) if len(samples.ends) else 0, len(samples.ends))

    def bounds(self, documents: Ints) -> Ints:
        """Return the first token of each of these documents, or the end of the shard."""
        return np.concatenate([np.zeros(1, np.int64), self._samples.ends])[documents]

    def tokens(self, start: int, stop: int) -> NDArray[Any]:
        """Return the ids of the tokens [start, stop), copied together from their samples."""
        dtype, first_byte, ends = self._samples
        kind = np.dtype(dtype).newbyteorder("<")
        first, last = np.searchsorted(ends, (start, stop - 1), side="right").tolist()
        here = slice(first, last + 1)
        begins = np.concatenate([np.zeros(1, np.int64), ends])[here]
        skipped = np.maximum(start - begins, 0)
        n_tokens = np.minimum(stop, ends[here]) - begins - skipped
        at = first_byte[here] + skipped * kind.itemsize
        raw = self._read(int(at[0]), int(at[-1] - at[0]) + int(n_tokens[-1]) * kind.itemsize)
        parts = zip(n_tokens.tolist(), (at - at[0]).tolist(), strict=True)
        return np.concatenate([np.frombuffer(raw, kind, n, offset) for n, offset in parts])

    @cached_property
    def _raw(self) -> NDArray[np.uint8]:
        if not self.path.stat().st_size:
            raise DataError(f"{self.path} is empty: it is no MDS shard")
        return np.memmap(self.path, np.uint8, "r").view(np.ndarray)

    @cached_property
    def _offsets(self) -> Ints:
        raw = self._raw
        n = int(np.frombuffer(raw, "<u4", 1)[0]) if len(raw) >= 4 else 0
        offsets = np.frombuffer(raw, "<u4", n + 1, 4).astype(np.int64) if len(raw) >= 4 * n + 8 else np.zeros(1, int)
        if offsets[-1] != len(raw) or offsets[0] < 4 * n + 8 or (np.diff(offsets) < 0).any():
            raise DataError(
                f"{self.path} has {len(raw):,} bytes, but its last sample ends at byte {offsets[-1]:,}: it is "
                "truncated, or no MDS shard"
            )
        return offsets

    def _columns(self) -> dict[str, tuple[str, int | None]]:
        """Return encoding and size of every column; the size is None if it varies."""
        raw = self._raw[4 * len(self._offsets) + 4 : self._offsets[0]].tobytes()
        try:
            facts = json.loads(raw)
            columns = zip(facts["column_names"], facts["column_encodings"], facts["column_sizes"], strict=True)
            return {str(name): (str(encoding), size) for name, encoding, size in columns}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{self.path}: the description of its columns is damaged ({error})") from None

    @cached_property
    def _samples(self) -> _Samples:
        columns, name = self._columns(), self.settings.column
        if name not in columns:
            raise DataError(
                f"{self.path}: {unknown_name('column', name, columns)}: set text_key to the column of the ids"
            )
        kind, *stated = columns[name][0].split(":")
        if kind not in ("bytes", "ndarray"):
            raise DataError(f"{self.path}: the column '{name}' is of type {kind}, not ndarray or bytes of token ids")
        begin, end = self._spans(columns, name)
        if kind == "bytes":
            dtype = self.settings.dtype or BYTES_TYPE
        else:
            dtype, begin = self._after_shape(begin, stated)
        width = np.dtype(dtype).itemsize
        if ((end - begin) % width).any():
            raise DataError(f"{self.path}: its samples are not whole numbers of {dtype} tokens: set the right dtype")
        return _Samples(dtype, begin, np.cumsum((end - begin) // width))

    def _spans(self, columns: dict[str, tuple[str, int | None]], name: str) -> tuple[Ints, Ints]:
        """Return the first byte and the end of a column in every sample."""
        first, place = self._offsets[:-1], list(columns).index(name)
        varying = [i for i, (_, size) in enumerate(columns.values()) if size is None]
        heads = self._gather(first, 4 * len(varying)).view("<u4").astype(np.int64)
        sizes = np.empty((len(first), len(columns)), np.int64)
        for i, (_, size) in enumerate(columns.values()):
            sizes[:, i] = heads[:, varying.index(i)] if size is None else size
        begin = first + 4 * len(varying) + sizes[:, :place].sum(1)
        return begin, begin + sizes[:, place]

    def _after_shape(self, begin: Ints, stated: list[str]) -> tuple[str, Ints]:
        """Return the type of an ndarray column, and where its values begin after type and shape."""
        dtype = stated[0] if stated else ""
        if not dtype:
            dtype, begin = self._type_of_values(begin), begin + 1
        if len(stated) < 2:
            shape = self._raw[begin].astype(np.int64)
            begin = begin + 1 + (shape >> 2) * _WIDTHS[shape & 3]
        return dtype, begin

    def _type_of_values(self, begin: Ints) -> str:
        """Return the type that every sample states in its first byte."""
        codes = set(self._raw[begin].tolist())
        if len(codes) != 1 or not codes <= set(_TYPES):
            raise DataError(
                f"{self.path}: the samples of the column '{self.settings.column}' are not all of one integer type "
                f"(codes {sorted(codes)}): write its ids with one type"
            )
        return _TYPES[codes.pop()]

    def _gather(self, first: Ints, n: int) -> NDArray[np.uint8]:
        """Return n bytes from each of these positions, (len(first), n)."""
        return self._raw[first[:, None] + np.arange(n)]
