"""datatrove and nanotron: `.ds` with the ids (uint16 or uint32), `.ds.index` with the end of each document (uint64).

`.ds.metadata`, if there is one, has a line `<tokenizer>|<bytes per token>` and a line with the number of tokens.
Source: datatrove/pipeline/tokens/tokenizer.py. Nanotron's Nanosets are folders of these files.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.store.formats.token_file import ContiguousFile, FileFacts, Ints
from mixlaw.errors import DataError

TYPES = {2: "uint16", 4: "uint32"}
UNKNOWN = "Unknown Tokenizer"


class DatatroveFile(ContiguousFile):
    """A `.ds` file and its `.ds.index`."""

    def facts(self) -> FileFacts:
        """Return type and counts; the type is the size of the file divided by the end of the last document."""
        n_bytes, n_documents = self.path.stat().st_size, len(self._ends)
        n_tokens = int(self._ends[-1]) if n_documents else 0
        tokenizer, width, stated = self._metadata()
        dtype = next((t for size, t in TYPES.items() if size * n_tokens == n_bytes and width in (0, size)), "")
        if not dtype:
            widths = " or ".join(str(size) for size in TYPES if width in (0, size))
            raise DataError(
                f"{self.path} has {n_bytes:,} bytes, but its index ends at token {n_tokens:,}, of {widths} bytes each: "
                "the file is truncated, or its .index or .metadata belongs to another file"
            )
        if stated not in ("", str(n_tokens)):
            raise DataError(
                f"{self.path}.metadata states {stated} tokens, but the index ends at token {n_tokens:,}: they "
                "belong to different files"
            )
        return FileFacts(self._chosen(dtype, f"{self.path.name}.index"), n_tokens, n_documents, tokenizer)

    def bounds(self, documents: Ints) -> Ints:
        """Return the first token of each of these documents, or the end of the file."""
        return np.where(documents > 0, self._ends[np.maximum(documents, 1) - 1], 0).astype(np.int64)

    @cached_property
    def _ends(self) -> NDArray[np.uint64]:
        path = Path(f"{self.path}.index")
        if not path.is_file():
            raise DataError(
                f"{path} is missing: each .ds file needs its index (save_index=True of datatrove's DocumentTokenizer); "
                "files without one are read by the reader 'tokens'"
            )
        size = path.stat().st_size
        if size % 8:
            raise DataError(f"{path} has {size:,} bytes, not a whole number of 64-bit integers: it is truncated")
        return np.memmap(path, "<u8", "r").view(np.ndarray) if size else np.zeros(0, np.uint64)

    def _metadata(self) -> tuple[str, int, str]:
        """Return the name of the tokenizer, the bytes of a token and the number of tokens; "" or 0 where not stated."""
        path = Path(f"{self.path}.metadata")
        if not path.is_file():
            return "", 0, ""
        first, *others = path.read_text(encoding="utf-8", errors="replace").split("\n")
        name, _, width = first.rpartition("|")
        if not width.isdigit():  # versions before 0.3 state only the tokenizer
            name, width = first, "0"
        return "" if name == UNKNOWN else name, int(width), others[0].strip() if others else ""
