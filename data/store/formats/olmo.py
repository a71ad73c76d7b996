"""OLMo: `.npy` of ids without a header, as dolma writes it, and `.csv.gz` with `start,end,...` of each document.

Without the .csv.gz, documents end at `end_id`, as in OLMo-core. Source: olmo_core/data/utils.py.
"""

import zlib
from functools import cached_property

import numpy as np
import pandas as pd

from data.store.formats.token_file import ContiguousFile, FileFacts, Ints
from mixlaw.errors import DataError

_SCANNED = 1 << 24  # tokens at a time


class OlmoFile(ContiguousFile):
    """An `.npy` file of dolma; its type must be configured."""

    def facts(self) -> FileFacts:
        """Return type and counts."""
        n_bytes, dtype = self.path.stat().st_size, np.dtype(self.settings.dtype)
        with self.path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                raise DataError(
                    f"{self.path} has a NumPy header, which OLMo's files do not have: write its ids with .tofile"
                )
        if not n_bytes or n_bytes % dtype.itemsize:
            raise DataError(
                f"{self.path} has {n_bytes:,} bytes, not a whole number of {dtype.name} tokens: it is truncated, or "
                "dtype is wrong"
            )
        return FileFacts(dtype.name, n_bytes // dtype.itemsize, len(self._ends))

    def bounds(self, documents: Ints) -> Ints:
        """Return the first token of each of these documents, or the end of the file."""
        return np.concatenate([np.zeros(1, np.int64), self._ends])[documents]

    @property
    def _n_tokens(self) -> int:
        return self.path.stat().st_size // np.dtype(self.settings.dtype).itemsize

    @cached_property
    def _ends(self) -> Ints:
        listed = self.path.with_suffix(".csv.gz")
        return self._listed_ends() if listed.is_file() else self._ends_of_documents()

    def _listed_ends(self) -> Ints:
        path, n_tokens = self.path.with_suffix(".csv.gz"), self._n_tokens
        try:
            table = pd.read_csv(path, header=None, usecols=[0, 1], dtype=np.int64)
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise DataError(f"{path} cannot be read as start,end of documents: {str(error).splitlines()[0]}") from None
        starts, ends = table[0].to_numpy(), table[1].to_numpy()
        if ends[-1] != n_tokens or starts[0] != 0 or (starts[1:] != ends[:-1]).any() or (starts > ends).any():
            raise DataError(
                f"{path}: its documents do not cover the {n_tokens:,} {self.settings.dtype} tokens of {self.path.name} "
                f"one after the other (the last ends at {ends[-1]:,}): wrong dtype, a truncated file, or the list of "
                "another file"
            )
        return ends

    def _ends_of_documents(self) -> Ints:
        n_tokens = self._n_tokens
        parts = ((at, self.tokens(at, min(at + _SCANNED, n_tokens))) for at in range(0, n_tokens, _SCANNED))
        ends = np.concatenate([np.flatnonzero(ids == self.settings.end_id) + at + 1 for at, ids in parts])
        if not len(ends):
            raise DataError(
                f"{self.path}: the end token {self.settings.end_id} does not occur, and there is no "
                f"{self.path.with_suffix('.csv.gz').name} with the documents: correct data.tokenizer.end_id or dtype"
            )
        return ends if ends[-1] == n_tokens else np.append(ends, n_tokens)
