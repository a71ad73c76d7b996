"""Clean documents on disk in batches sorted by digest: what the first pass of an external sort writes.

<folder>/documents    the bytes of the documents, end to end
<folder>/records      a RECORD of 48 bytes per document, in the same order
<folder>/facts.json   documents per batch, and what the writer's caller adds

Each batch fits into memory, so a corpus of any size is sorted in bounded memory. The documents of a range of digests
are adjacent in every batch.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.preparation.corpus import CleanDocument

RECORD = np.dtype(
    [
        ("high", "<u8"),  # digest: its first 64 bits, big-endian
        ("low", "<u8"),
        ("key_high", "<u8"),  # digest that decides the split
        ("key_low", "<u8"),
        ("offset", "<i8"),  # in `documents` [bytes]
        ("n_bytes", "<i8"),
    ]
)
MOST_IN_BATCH = 1 << 20  # documents, however short they are
_READ_AHEAD = 1 << 17  # bytes; documents of a bucket are adjacent, so most are in the buffer already


class SortedWriter:
    """Writes clean documents into a folder in sorted batches, without exact duplicates within a batch.

    Parameters
    ----------
    batch_bytes : a batch is sorted and written when its documents reach this size

    Attributes
    ----------
    batches : documents of each batch
    n_bytes : written so far
    n_duplicate : documents dropped as duplicates within their batch
    """

    def __init__(self, folder: Path, batch_bytes: int) -> None:
        self._documents, self._records = (folder / "documents").open("wb"), (folder / "records").open("wb")
        self._batch_bytes, self._pending, self._size = batch_bytes, list[CleanDocument](), 0
        self.batches: list[int] = []
        self.n_bytes = self.n_duplicate = 0

    def __enter__(self) -> "SortedWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._documents.close()
        self._records.close()

    def add(self, document: CleanDocument) -> None:
        """Add a document."""
        self._pending.append(document)
        self._size += len(document.raw)
        if self._size >= self._batch_bytes or len(self._pending) >= MOST_IN_BATCH:
            self.flush()

    def flush(self) -> None:
        """Sort and write the pending documents as one batch; of equal ones, the first is kept."""
        if not self._pending:
            return
        records = _records(self._pending)
        order = np.lexsort((records["low"], records["high"]))
        first = is_first(records[order])
        order = order[first]
        records = records[order]
        ends = self.n_bytes + np.cumsum(records["n_bytes"])
        records["offset"] = ends - records["n_bytes"]
        self._documents.writelines(self._pending[i].raw for i in order.tolist())
        self._records.write(records.tobytes())
        self.batches.append(len(records))
        self.n_duplicate += len(first) - len(records)
        self.n_bytes = int(ends[-1])
        self._pending, self._size = [], 0


def _records(documents: Sequence[CleanDocument]) -> NDArray[Any]:
    records = np.zeros(len(documents), RECORD)
    for name, digests in (("", (d.digest for d in documents)), ("key_", (d.key for d in documents))):
        numbers = np.frombuffer(b"".join(digests), ">u8").reshape(-1, 2)
        records[f"{name}high"], records[f"{name}low"] = numbers.T
    records["n_bytes"] = [len(document.raw) for document in documents]
    return records


def is_first(records: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which of records that are sorted by digest (n,) are the first with their digest."""
    first = np.ones(len(records), bool)
    for_pairs = [records[name][1:] == records[name][:-1] for name in ("high", "low")]
    first[1:] = ~(for_pairs[0] & for_pairs[1])
    return first


def read_records(folder: Path, first: int, n: int) -> NDArray[Any]:
    """Return n records of a folder, from number `first` on."""
    return np.fromfile(folder / "records", RECORD, n, offset=first * RECORD.itemsize)


def read_documents(folders: Sequence[Path], places: NDArray[Any]) -> list[bytes]:
    """Return documents by their places.

    Parameters
    ----------
    places : (n,) with the fields `part` (number of the folder), `offset` and `n_bytes`
    """
    found = [b""] * len(places)
    for part in np.unique(places["part"]).tolist():
        here = np.flatnonzero(places["part"] == part)
        here = here[np.argsort(places["offset"][here])]
        spans = zip(here.tolist(), places["offset"][here].tolist(), places["n_bytes"][here].tolist(), strict=True)
        with (folders[part] / "documents").open("rb", buffering=_READ_AHEAD) as file:
            for i, offset, n_bytes in spans:
                file.seek(offset)
                found[i] = file.read(n_bytes)
    return found
