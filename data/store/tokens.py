"""The prepared folder: token shards with a document index, and the manifest with the sha256 of every file.

<root>/prepared/<name>-<identity>/
  manifest.json                    counts, licences, and sha256 of every file
  tokenizer.json                   only with a learned tokenizer
  <domain>/<split>-00000.tokens    little-endian uint16 (uint32 above 65,536 symbols), documents concatenated
  <domain>/<split>-00000.starts    little-endian int64, first token of each document, counted in this shard

A domain whose token files another trainer wrote has an index instead (`shards.py`):

  <domain>/<split>.spans           little-endian int64 (n, 5): file, first token, tokens, first document, documents
  <domain>/inputs.json             path, size and modification time of each file, and its sha256 with data.content_hash
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.store.shards import ExternalShards, Shards, StoredShards, read_inputs
from mixlaw.errors import DataError, unknown_name
from mixlaw.fileio import file_sha256
from mixlaw.mixture import check_domain_name

SPLITS = ("train", "eval", "test")
SHARD_TOKENS = 1 << 26  # 64 Mi tokens: shards of 128 MiB with 16-bit tokens


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """Return the smallest of uint16 and uint32 that holds every token id."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def write_split(
    folder: Path,
    split: str,
    documents: Iterable[NDArray[Any]],
    dtype: np.dtype[Any],
    shard_tokens: int = SHARD_TOKENS,
) -> dict[str, Any]:
    """Write one split of one domain as shards and return its manifest entry.

    Parameters
    ----------
    documents : token ids of each document, with its end token
    shard_tokens : a shard ends after the document that reaches this number of tokens
    """
    folder.mkdir(parents=True, exist_ok=True)
    entry: dict[str, Any] = {"n_documents": 0, "n_tokens": 0, "files": []}
    pending: list[NDArray[Any]] = []
    size = 0

    def close_shard() -> None:
        stem = f"{split}-{len(entry['files']) // 2:05d}"
        starts = np.cumsum([0] + [len(d) for d in pending[:-1]], dtype="<i8")
        for suffix, array in ((".tokens", np.concatenate(pending).astype(dtype)), (".starts", starts)):
            path = folder / (stem + suffix)
            with path.open("wb") as file:  # ndarray.tofile does not report the cause of a write error
                file.write(array.data)
            facts = {"name": path.name, "n_bytes": array.nbytes, "sha256": file_sha256(path)}
            entry["files"].append(facts)
        entry["n_documents"] += len(pending)
        entry["n_tokens"] += size

    for document in documents:
        pending.append(document)
        size += len(document)
        if size >= shard_tokens:
            close_shard()
            pending, size = [], 0
    if pending:
        close_shard()
    return entry


def write_manifest(folder: Path, facts: dict[str, Any]) -> None:
    """Write a manifest with a hash of its own content, so that damage is detected."""
    text = json.dumps(facts | {"seal": _seal(facts)}, indent=1, ensure_ascii=False)
    (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")


def _seal(facts: dict[str, Any]) -> str:
    content = {key: value for key, value in facts.items() if key != "seal"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Manifest:
    """The manifest of a prepared folder, whose files exist with the listed sizes."""

    folder: Path
    facts: dict[str, Any]
    sha256: str

    @property
    def domains(self) -> list[str]:
        """The training domains."""
        return [name for name, entry in self.facts["domains"].items() if entry["role"] == "train"]

    @property
    def targets(self) -> list[str]:
        """The target domains, which are measured only."""
        return [name for name, entry in self.facts["domains"].items() if entry["role"] == "target"]

    @property
    def vocab_size(self) -> int:
        return int(self.facts["tokenizer"]["vocab_size"])

    @property
    def image_size(self) -> int:
        """Side of the stored images in pixels; 0 if there are texts only."""
        return int(self.facts.get("image", {}).get("size", 0))

    @property
    def token_dtype(self) -> np.dtype[Any]:
        """The stored type of tokens; with images, the id `vocab_size` stands for an image."""
        return token_dtype(self.vocab_size + bool(self.image_size))

    def n_tokens(self, domain: str, split: str) -> int:
        """Return the number of tokens of a domain in a split; an image counts as one."""
        return int(self.entry(domain)["splits"][split]["n_tokens"])

    def measured_split(self, domain: str, split: str) -> str:
        """Return the split on which a domain is measured: the given one, or "eval" for a target that is not split."""
        only_one = domain in self.targets and not self.n_tokens(domain, split)
        return "eval" if only_one else split

    def entry(self, domain: str) -> dict[str, Any]:
        """Return the manifest's entry of a domain."""
        if domain not in self.facts["domains"]:
            raise DataError(f"{self.folder}: {unknown_name('domain', domain, self.facts['domains'])}")
        return dict(self.facts["domains"][domain])

    def domain_sha256(self, domain: str) -> str:
        """Return a hash of all files of a domain; it is part of the id of runs that read the domain."""
        text = json.dumps(self.entry(domain)["splits"], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def open_manifest(folder: Path, how_to_prepare: str = "run `python -m data.prepare`") -> Manifest:
    """Read the manifest of a prepared folder and check that every file exists with its full size.

    Raises
    ------
    DataError
        If the folder was never prepared, the manifest is damaged, or a file is missing or truncated.
    """
    path = folder / "manifest.json"
    if not path.is_file():  # reading a pipe would block
        raise DataError(f"{folder} holds no prepared data: {how_to_prepare}")
    try:
        raw = path.read_bytes()
        facts = json.loads(raw)
        if facts.get("seal") != _seal(facts):
            raise ValueError("its content does not match its seal")
        listed = [(name, f) for name, entry in facts["domains"].items() for f in _prepared_files(entry)]
        manifest = Manifest(folder, facts, hashlib.sha256(raw).hexdigest())
        expected = [(folder / check_domain_name(name) / _plain(f["name"]), int(f["n_bytes"])) for name, f in listed]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error}): delete {folder} and {how_to_prepare}") from None
    for file, n_bytes in expected:
        actual = file.stat().st_size if file.exists() else -1
        if actual != n_bytes:
            state = "is missing" if actual < 0 else f"has {actual:,} bytes"
            raise DataError(f"{file} {state}, expected {n_bytes:,} bytes: delete {folder} and {how_to_prepare}")
    return manifest


def _plain(name: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]+\.[a-z]+", name):
        raise ValueError(f"it names a file {name!r:.80}")
    return name


def verify(manifest: Manifest) -> None:
    """Compare the sha256 of every file with the manifest.

    Raises
    ------
    DataError
        For the first file whose content changed.
    """
    for path, facts in listed_files(manifest):
        verify_file(manifest, path, facts)


def listed_files(manifest: Manifest) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield every file whose sha256 is known, with its entry (name, size, sha256)."""
    for name, entry in manifest.facts["domains"].items():
        yield from ((manifest.folder / name / facts["name"], facts) for facts in _prepared_files(entry))
        if "external" in entry:
            root, inputs = Path(entry["external"]["root"]), read_inputs(manifest.folder / name)
            for path, n_bytes, sha256 in zip(inputs["path"], inputs["n_bytes"], inputs.get("sha256", ()), strict=False):
                yield root / path, {"name": path, "n_bytes": n_bytes, "sha256": sha256}


def _prepared_files(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the entries of the files of a domain in the prepared folder."""
    yield from entry.get("files", ())
    for split in entry["splits"].values():
        yield from split["files"]


def verify_file(manifest: Manifest, path: Path, facts: dict[str, Any]) -> None:
    """Compare the sha256 of one file with the manifest.

    Raises
    ------
    DataError
        If the file is missing or differs.
    """
    if not path.is_file() or file_sha256(path) != facts["sha256"]:
        inside = path.is_relative_to(manifest.folder)
        advice = f"delete {manifest.folder} and prepare it again" if inside else "restore it, or prepare --again"
        raise DataError(f"{path} is missing or differs from its manifest (sha256): {advice}")


class TokenReader:
    """Random access to the tokens of one domain and split, as one array across shards."""

    def __init__(self, manifest: Manifest, domain: str, split: str) -> None:
        entry, folder = manifest.entry(domain), manifest.folder / domain
        self._dtype, self._shards = manifest.token_dtype, _open_shards(manifest, entry, folder, split)
        self._ends = np.cumsum(self._shards.n_tokens, dtype=np.int64)
        self._begins = self._ends - self._shards.n_tokens
        self.n_tokens = int(self._ends[-1]) if len(self._ends) else 0

    def document_bounds(self) -> NDArray[np.int64]:
        """Return the first token of each document, and the end of the last one: (n_documents + 1,)."""
        starts = [self._shards.document_starts(i) + begin for i, begin in enumerate(self._begins)]
        return np.concatenate([*starts, np.array([self.n_tokens])]).astype(np.int64)

    def document_of(self, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number, within the split, of the document of each of these tokens (n,).

        It reads the boundaries of the shards that hold the tokens only.
        """
        shard, found = np.searchsorted(self._ends, tokens, side="right"), np.empty(len(tokens), np.int64)
        before = np.cumsum(self._shards.n_documents) - self._shards.n_documents
        for i in np.unique(shard).tolist():
            here = shard == i
            starts = self._shards.document_starts(i)
            found[here] = before[i] + np.searchsorted(starts, tokens[here] - self._begins[i], side="right") - 1
        return found

    def windows(self, starts: NDArray[np.int64], length: int) -> NDArray[Any]:
        """Return the tokens (n, length) of n windows, in the stored type; windows may span shards.

        Raises
        ------
        DataError
            If a window is not inside the split.
        """
        starts = np.asarray(starts, np.int64)
        if len(starts) and not 0 <= starts.min() <= starts.max() <= self.n_tokens - length:
            span = f"{starts.min()} to {starts.max()}"
            raise DataError(f"windows of {length} tokens that start at {span} are not inside {self.n_tokens} tokens")
        rows = np.empty((len(starts), length), self._dtype)
        shard = np.searchsorted(self._ends, starts, side="right")
        crossing = starts + length > self._ends[shard]
        for i in np.unique(shard[~crossing]).tolist():
            here = np.flatnonzero((shard == i) & ~crossing)
            rows[here] = self._shards.windows(i, starts[here] - self._begins[i], length)
        for row in np.flatnonzero(crossing):
            rows[row] = self._across(int(starts[row]), length, int(shard[row]))
        return rows

    def _across(self, start: int, length: int, shard: int) -> NDArray[Any]:
        """Return one window that spans several shards."""
        parts: list[NDArray[Any]] = []
        while length > 0:
            first = start - int(self._begins[shard])
            part = self._shards.read(shard, first, min(first + length, int(self._shards.n_tokens[shard])))
            parts.append(part)
            start, length, shard = start + len(part), length - len(part), shard + 1
        return np.concatenate(parts)


def _open_shards(manifest: Manifest, entry: dict[str, Any], folder: Path, split: str) -> Shards:
    files = [f["name"] for f in entry["splits"][split]["files"]]
    if files and "external" in entry:
        return ExternalShards(folder, split, entry["external"], manifest.vocab_size)
    return StoredShards(folder, files, manifest.token_dtype)
