"""The headers of a tar archive, one after the other: names, places and sizes of its members, without their bodies.

Understands ustar, GNU and pax archives. Everything that a reader of webdataset shards would stumble over or skip in
silence is an error.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mixlaw.errors import DataError

BLOCK = 512
TAR_END = 2 * BLOCK  # a complete archive ends in two blocks of zeros,
MOST_ZEROS = 21 * BLOCK  # and is filled up to whole records of 20 blocks
MOST_EXTENSION = 1 << 20  # bytes of a long name or of pax records; real ones have hundreds
GZIP = b"\x1f\x8b"
FILES, FOLDERS = b"0\x007", b"5"
LONG_NAME, PAX, UNUSED = b"L", b"xX", b"Kg"  # K: a link's long name, g: what holds for all members
OTHER_KINDS = {b"1": "a link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe", b"S": "sparse"}


@dataclass(frozen=True)
class Member:
    """A regular file in an archive: where its body begins, and its length, in bytes."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True)
class ShardFile:
    """An open shard."""

    path: Path
    handle: int
    size: int

    def read(self, at: int, length: int) -> bytes:
        """Return the bytes at a place, fewer where the file ends."""
        return os.pread(self.handle, length, at)

    def broken(self, what: str, member: str | bytes = "") -> DataError:
        """Return the error that names the shard, the member where there is one, and what is wrong."""
        name = f", member {member!r}" if member else ""
        return DataError(f"{self.path}{name}: {what}: write the shard again")


def members(file: ShardFile) -> Iterator[Member]:
    """Yield the regular files of an archive in their order.

    Raises
    ------
    DataError
        If it is cut, a header is damaged, a name is unsafe, or a member is neither a file nor a folder.
    """
    if file.read(0, 2) == GZIP:
        raise file.broken("it is compressed, and a sample can only be found in a plain tar archive")
    if file.read(max(file.size - TAR_END, 0), TAR_END) != bytes(TAR_END):
        raise file.broken("the shard is cut or no tar archive (its end mark is missing)")
    at, name = 0, b""
    own: dict[str, bytes] = {}  # what extended headers say about the next member
    while (header := file.read(at, BLOCK)) != bytes(BLOCK):
        _require_checksum(file, header, at, name)
        kind, name = header[156:157], own.get("path") or _name(header)
        size = _size(file, own.get("size", header[124:136]), name, in_header="size" not in own)
        body, at = at + BLOCK, at + BLOCK + -(-size // BLOCK) * BLOCK
        if at > file.size - TAR_END:
            raise file.broken(f"its {size:,} bytes reach past the end of the archive: the shard is cut", name)
        if kind in LONG_NAME + PAX + UNUSED:
            own |= _extension(file, kind, body, size, name)
            continue
        text = _checked_name(file, name)
        if kind in FILES and not name.endswith(b"/"):
            _refuse_sparse(file, own, text)
            yield Member(text, body, size)
        elif kind not in FOLDERS and kind not in FILES:
            raise file.broken(f"it is {OTHER_KINDS.get(kind, 'of an unknown kind')}, not a regular file", text)
        own = {}
    _require_end(file, at, own, name)


def _require_checksum(file: ShardFile, header: bytes, at: int, previous: bytes) -> None:
    stated = header[148:156].strip(b" \0")
    right = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    try:
        matches = int(stated, 8) == right
    except ValueError:
        matches = False
    if not matches:
        place = "its first header" if not at else f"the header at byte {at:,}, the next one after this member,"
        raise file.broken(f"{place} is damaged (checksum), or the shard is no tar archive", previous)


def _name(header: bytes) -> bytes:
    name, prefix = header[:100].split(b"\0")[0], header[345:500].split(b"\0")[0]
    is_ustar = header[257:263] == b"ustar\0"  # GNU keeps other things where ustar has the prefix
    return prefix + b"/" + name if is_ustar and prefix else name


def _size(file: ShardFile, field: bytes, name: bytes, in_header: bool) -> int:
    try:
        if in_header and field[0] == 0x80:  # binary, for 8 GiB and more
            return int.from_bytes(field[1:], "big")
        size = int(field.strip(b" \0") or b"0", 8 if in_header else 10)
    except ValueError:
        size = -1
    if size < 0:
        raise file.broken("its size is no number", name)
    return size


def _extension(file: ShardFile, kind: bytes, body: int, size: int, name: bytes) -> dict[str, bytes]:
    """Return what an extended header says about the next member."""
    if size > MOST_EXTENSION:
        raise file.broken(f"its extended header has {size:,} bytes", name)
    if kind in LONG_NAME:
        return {"path": file.read(body, size).split(b"\0")[0]}
    return _pax_records(file, file.read(body, size)) if kind in PAX else {}


def _pax_records(file: ShardFile, body: bytes) -> dict[str, bytes]:
    records = {}
    while body:
        digits = body.partition(b" ")[0]
        length = int(digits) if digits.isdigit() and len(digits) < 8 else 0
        key, equals, value = body[len(digits) + 1 : length].partition(b"=")
        if length > len(body) or not equals or not value.endswith(b"\n"):
            raise file.broken("an extended header (pax) is damaged", body[:32])
        records[key.decode("utf-8", "replace")] = value[:-1]
        body = body[length:]
    return records


def _checked_name(file: ShardFile, name: bytes) -> str:
    try:
        text = name.decode()
    except UnicodeDecodeError:
        raise file.broken("its name is not UTF-8", name) from None
    if not text or text.startswith("/") or ".." in text.split("/") or "\0" in text:
        raise file.broken("its name is empty, absolute, or leaves the archive by '..'", text or b"''")
    return text


def _refuse_sparse(file: ShardFile, own: dict[str, bytes], name: str) -> None:
    if any(key.startswith("GNU.sparse") for key in own):
        raise file.broken("it is sparse, not a regular file", name)


def _require_end(file: ShardFile, at: int, own: dict[str, bytes], name: bytes) -> None:
    """Refuse what follows the last member but zeros up to the end of a record: an archive that was overwritten."""
    rest = file.size - at
    if own or rest < TAR_END or rest > MOST_ZEROS or any(file.read(at, rest)):
        what = f"the archive ends after this member, at byte {at:,}, but the file at byte {file.size:,}"
        raise file.broken(f"{what}: filled with zeros, or two archives in one file", name)
