"""Random access to webdataset tar shards: one read per sample, from an index of member offsets.

A sample consists of adjacent members with the same key. In `a/b.seg.png`, the key is `a/b` and the suffix `seg.png`: a
name is cut at the first dot of its last component. Damage, and members that other readers would skip silently, are
errors that name the shard and the member. Member contents have no checksum in tar, so changed bytes there are not
detected.
"""

import hashlib
import os
import re
import stat
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from data.readers.tar_members import ShardFile, members
from mixlaw.errors import DataError

INDEX_VERSION = 1
MOST_HANDLES = 16  # open files per domain: 50 domains stay below the usual limit of 1,024
_META = re.compile(r"__[^/]*__(/|$)")  # names that webdataset reserves for metadata
_DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class ShardIndex:
    """Positions of the samples in one shard.

    Attributes
    ----------
    first_member : (n_samples + 1,) number of the first member of each sample, and the number of members
    offset, size : (n_members,) of the contents [bytes]
    suffix : (n_members,) number of the suffix of each member in `suffixes`
    keys, suffixes : UTF-8, each terminated by NUL
    """

    first_member: NDArray[np.int64]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    suffix: NDArray[np.int64]
    keys: bytes
    suffixes: bytes

    def to_bytes(self) -> bytes:
        """Serialise the index, preceded by its sha256."""
        arrays = (self.first_member, self.offset, self.size, self.suffix)
        counts = np.array([len(self.first_member), len(self.offset), len(self.keys)], "<i8")
        body = b"".join([a.astype("<i8").tobytes() for a in (counts, *arrays)] + [self.keys, self.suffixes])
        return hashlib.sha256(body).digest() + body

    @classmethod
    def from_bytes(cls, raw: bytes) -> "ShardIndex | None":
        """Return the index, or None if it is damaged."""
        digest, body = raw[:_DIGEST], raw[_DIGEST:]
        if len(body) < 24 or hashlib.sha256(body).digest() != digest:
            return None
        n_first, n_members, n_keys = np.frombuffer(body, "<i8", 3).tolist()
        numbers = np.frombuffer(body, "<i8", n_first + 3 * n_members, offset=24)
        text = body[24 + numbers.nbytes :]
        first, offset, size, suffix = np.split(numbers, n_first + n_members * np.arange(3))
        return cls(first, offset, size, suffix, keys=text[:n_keys], suffixes=text[n_keys:])


def index_shard(file: ShardFile) -> ShardIndex:
    """Return the index of a shard; reads headers only.

    Raises
    ------
    DataError
        If the shard is damaged or its members are not grouped into samples; names the member.
    """
    keys: dict[str, None] = {}
    suffixes: dict[str, int] = {}
    first: list[int] = []
    rows: list[tuple[int, int, int]] = []
    key, present = "", set[str]()
    for member in members(file):
        if _META.match(member.name):
            continue
        new_key, suffix = _split_name(file, member.name)
        if new_key != key:
            if new_key in keys:
                raise file.broken(f"sample '{new_key}' occurs twice: its members must be adjacent", member.name)
            key, present = new_key, set()
            keys[key] = None
            first.append(len(rows))
        if suffix in present:
            raise file.broken("this member occurs twice", member.name)
        present.add(suffix)
        rows.append((member.offset_data, member.size, suffixes.setdefault(suffix, len(suffixes))))
    if not rows:
        raise file.broken("it contains no sample")
    offset, size, kind = np.array(rows, np.int64).T
    first_member = np.array([*first, len(rows)], np.int64)
    return ShardIndex(first_member, offset, size, kind, keys=_joined(keys), suffixes=_joined(suffixes))


def _split_name(file: ShardFile, name: str) -> tuple[str, str]:
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    if not stem or not suffix:
        raise file.broken("the name of a member must be <key>.<suffix>", name)
    return folder + slash + stem, suffix.lower()


def _joined(names: dict[str, None] | dict[str, int]) -> bytes:
    return b"".join(name.encode() + b"\0" for name in names)


def _names(joined: bytes) -> list[str]:
    return joined.decode().split("\0")[:-1]


def _open_index(path: Path, folder: Path | None) -> tuple[tuple[int, int], ShardIndex]:
    """Return size and modification time of a shard, and its index: the saved one, else a new one."""
    with _os_errors_as_data_errors(path):
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise DataError(f"{path}: is not a regular file: name .tar files")
        change = _last_change(facts)
        saved = _index_path(folder, path, change)
        known = _load(saved) if saved else None
        if known:
            return change, known
        handle = os.open(path, os.O_RDONLY)
        try:
            index = index_shard(ShardFile(path, handle, facts.st_size))
        finally:
            os.close(handle)
    if saved:
        _save(saved, index.to_bytes())
    return change, index


def _last_change(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_size, facts.st_mtime_ns


def _index_path(folder: Path | None, path: Path, change: tuple[int, int]) -> Path | None:
    if folder is None:
        return None
    identity = f"{INDEX_VERSION}/{change[0]}/{change[1]}/{path.resolve()}"
    return folder / f"{path.stem}-{hashlib.sha256(os.fsencode(identity)).hexdigest()[:16]}.index"


def _load(path: Path) -> ShardIndex | None:
    try:
        return ShardIndex.from_bytes(path.read_bytes())
    except OSError:
        return None


def _save(path: Path, raw: bytes) -> None:
    """Write an index atomically; if it cannot be written, the next process computes it again."""
    staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            staged.write_bytes(raw)
            os.replace(staged, path)
        finally:
            staged.unlink(missing_ok=True)


@contextmanager
def _os_errors_as_data_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


class TarShards:
    """The samples of several shards, numbered consecutively in the order of the paths.

    Can be shared with forked processes and pickled for spawned ones.

    Parameters
    ----------
    paths : of the .tar files
    index_folder : where indices are saved, so that opening the shards again is instant; None: do not save them

    Raises
    ------
    DataError
        If a shard is missing, not a tar archive, damaged, or changed since it was opened; names shard and member.
    """

    def __init__(self, paths: Sequence[Path], index_folder: Path | None = None) -> None:
        self._handles: dict[int, int] = {}
        if not paths:
            raise DataError("no tar shards were given: name at least one .tar file")
        self.paths = [Path(path) for path in paths]
        self._first, self._offset, self._size, self._suffix = array("q", [0]), array("q"), array("q"), array("q")
        self._ends: list[int] = []  # cumulative number of samples
        self._joined_keys: list[bytes] = []
        self._changes: list[tuple[int, int]] = []
        suffixes: dict[str, int] = {}
        for path in self.paths:
            change, index = _open_index(path, index_folder)
            self._changes.append(change)
            self._append(index, suffixes)
        self._suffixes = list(suffixes)

    def _append(self, index: ShardIndex, suffixes: dict[str, int]) -> None:
        numbers = np.array([suffixes.setdefault(name, len(suffixes)) for name in _names(index.suffixes)], np.int64)
        parts = (
            (self._first, index.first_member[1:] + len(self._offset)),
            (self._offset, index.offset),
            (self._size, index.size),
            (self._suffix, numbers[index.suffix]),
        )
        for whole, part in parts:
            whole.frombytes(np.asarray(part, np.int64).tobytes())
        self._ends.append(len(self._first) - 1)
        self._joined_keys.append(index.keys)

    def __len__(self) -> int:
        return self._ends[-1]

    @property
    def keys(self) -> list[str]:
        """The key of each sample; unique within a shard."""
        return [key for joined in self._joined_keys for key in _names(joined)]

    @property
    def kinds(self) -> Counter[str]:
        """The number of members with each suffix."""
        counts = np.bincount(np.array(self._suffix), minlength=len(self._suffixes)).tolist()
        return Counter(dict(zip(self._suffixes, counts, strict=True)))

    def sample(self, i: int) -> dict[str, bytes]:
        """Return the members of a sample, suffix -> content; reads the file once.

        Raises
        ------
        DataError
            If the shard cannot be read or changed since it was opened; names the shard.
        """
        if not 0 <= i < self._ends[-1]:
            raise IndexError(f"sample {i} of {len(self)}")
        offset, size = self._offset, self._size
        first, stop = self._first[i], self._first[i + 1]
        start, end = offset[first], offset[stop - 1] + size[stop - 1]
        raw = self._read(bisect_right(self._ends, i), start, end - start)
        found = {}
        for m in range(first, stop):
            begin = offset[m] - start
            found[self._suffixes[self._suffix[m]]] = raw[begin : begin + size[m]]
        return found

    def where(self, i: int) -> str:
        """Return shard and key of a sample, for messages."""
        shard = bisect_right(self._ends, i)
        before = self._ends[shard - 1] if shard else 0
        return f"{self.paths[shard]}: {_names(self._joined_keys[shard])[i - before]}"

    def _read(self, shard: int, start: int, length: int) -> bytes:
        handle = self._handles.get(shard)
        if handle is None:
            handle = self._open(shard)
        try:
            raw = os.pread(handle, length, start)
            while len(raw) < length and (more := os.pread(handle, length - len(raw), start + len(raw))):
                raw += more  # pread returns at most 2 GiB per call
        except OSError as error:
            raise DataError(f"{self.paths[shard]}: cannot be read at byte {start:,}: {error.strerror}") from None
        if len(raw) < length:
            raise DataError(f"{self.paths[shard]}: was truncated while it was being read: write it again")
        return raw

    def _open(self, shard: int) -> int:
        while len(self._handles) >= MOST_HANDLES:
            os.close(self._handles.pop(next(iter(self._handles))))
        path = self.paths[shard]
        with _os_errors_as_data_errors(path):
            handle = os.open(path, os.O_RDONLY)
        if _last_change(os.fstat(handle)) != self._changes[shard]:
            os.close(handle)
            raise DataError(f"{path}: changed since it was opened: start again")
        self._handles[shard] = handle
        return handle

    def close(self) -> None:
        """Close the open files; reading a sample opens its shard again."""
        while self._handles:
            os.close(self._handles.popitem()[1])

    def __del__(self) -> None:
        self.close()

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_handles": {}}  # file descriptors are not valid in other processes
