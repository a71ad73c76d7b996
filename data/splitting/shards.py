"""Writes the documents of domains as JSON lines in compressed files of bounded size."""

import json
from pathlib import Path
from typing import Any

SHARD_BYTES = 256 << 20  # of JSON lines in a file, before compression
BUFFER_BYTES = 1 << 20


class DomainWriter:
    """Writes one domain: `part-00000.jsonl.zst` and so on, in a folder of its own."""

    def __init__(self, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
        folder.mkdir(parents=True)
        self._folder, self._shard_bytes = folder, shard_bytes
        self._lines: list[bytes] = []
        self._waiting, self._in_shard, self._n_shards = 0, 0, 0
        self._stream: Any = None

    def write(self, text: str, label: str | None) -> None:
        """Append a document, with the label that it had."""
        line = json.dumps({"text": text, "label": label}, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        self._lines.append(line)
        self._waiting += len(line)
        if self._waiting >= BUFFER_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._stream is None:
            self._stream = _zstd(self._folder / f"part-{self._n_shards:05}.jsonl.zst")
            self._n_shards, self._in_shard = self._n_shards + 1, 0
        self._stream.write(b"".join(self._lines))
        self._in_shard += self._waiting
        self._lines, self._waiting = [], 0
        if self._in_shard >= self._shard_bytes:
            self._stream.close()
            self._stream = None

    def close(self) -> None:
        """Write what is left."""
        if self._lines:
            self._flush()
        if self._stream is not None:
            self._stream.close()


def _zstd(path: Path) -> Any:
    import pyarrow  # has zstd; the standard library does from Python 3.14 on

    return pyarrow.CompressedOutputStream(str(path), "zstd")
