"""Locates the members of a tar archive with `tarfile`, reading headers only, and checks that the archive is complete.

`tarfile` stops at a damaged header without an error, as if the archive ended there. The checks here make sure that a
shard of which samples would be missing is refused.
"""

import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tarfile import BLOCKSIZE, TarFile, TarInfo

from mixlaw.errors import DataError, MixlawError

END_MARK = 2 * BLOCKSIZE  # a complete archive ends with two blocks of zeros
MAX_PADDING = 21 * BLOCKSIZE  # zeros at the end: the end mark, and padding to a record of 20 blocks
MAX_HEADER = 1 << 20  # bytes of one extended header (GNU long name or PAX); real ones have hundreds
TYPE_FLAG = 156  # offset of a header's type
MAX_NAME = 300  # characters of a member name that an error quotes
GZIP = b"\x1f\x8b"
OTHER_KINDS = {
    tarfile.LNKTYPE: "a link",
    tarfile.SYMTYPE: "a link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
}


@dataclass(frozen=True)
class ShardFile:
    """An open shard: its path, file descriptor and size in bytes."""

    path: Path
    handle: int
    size: int

    def read(self, at: int, length: int) -> bytes:
        """Return the bytes from offset `at`, fewer at the end of the file."""
        return os.pread(self.handle, length, at)

    def broken(self, what: str, member: str | bytes = "") -> DataError:
        """Return the error that names the shard, the member if there is one, and what is wrong."""
        name = f", member {member[:MAX_NAME]!r}" if member else ""
        return DataError(f"{self.path}{name}: {what}: write the shard again")


class _HeaderReader(io.FileIO):
    """The file object that `tarfile` reads from; refuses reads of more than a header."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most MAX_HEADER bytes; a damaged size could otherwise fill the memory."""
        if size is None or not 0 <= size <= MAX_HEADER:
            raise tarfile.HeaderError(f"an extended header of {size:,} bytes")
        return super().read(size) or b""


def members(file: ShardFile) -> Iterator[TarInfo]:
    """Yield the regular files of an archive in their order, each with name, offset_data and size in bytes.

    Raises
    ------
    DataError
        If the archive is truncated or compressed, a header is damaged, a name is unsafe, or a member is neither a
        regular file nor a folder.
    """
    if file.read(0, 2) == GZIP:
        raise file.broken("it is compressed; random access needs a plain tar archive")
    if file.read(max(file.size - END_MARK, 0), END_MARK) != bytes(END_MARK):
        raise file.broken("the shard is truncated or not a tar archive (its end mark is missing)")
    at, previous = 0, ""
    try:
        with (
            _HeaderReader(file.handle, closefd=False) as raw,
            TarFile(fileobj=raw, encoding="utf-8") as archive,
        ):
            while member := archive.next():
                archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep all of them
                _check_member(file, member)
                if member.isreg() and not member.name.endswith("/"):
                    yield member
                at, previous = archive.offset, member.name
    except MixlawError:
        raise
    except (tarfile.TarError, ValueError, LookupError, RecursionError) as error:
        raise _damaged(file, at, previous, str(error)) from None
    _check_end(file, at, previous)


def _check_member(file: ShardFile, member: TarInfo) -> None:
    """Refuse a member whose size, name or kind a sample cannot have."""
    name = _checked_name(file, member)
    if member.size < 0:
        raise file.broken(f"its size is {member.size:,} bytes", name)
    n_blocks = -(-member.size // BLOCKSIZE)
    if member.offset_data + n_blocks * BLOCKSIZE > file.size - END_MARK:
        raise file.broken(f"its {member.size:,} bytes reach past the end of the archive: the shard is truncated", name)
    if member.issparse() or any(key.startswith("GNU.sparse") for key in member.pax_headers):
        raise file.broken("it is sparse, not a regular file", name)
    if not member.isreg() and not member.isdir():
        raise file.broken(f"it is {OTHER_KINDS.get(member.type, 'of an unknown kind')}, not a regular file", name)


def _checked_name(file: ShardFile, member: TarInfo) -> str:
    name = member.name
    try:
        name.encode()
    except UnicodeEncodeError:
        raise file.broken("its name is not UTF-8", name.encode(errors="surrogateescape")) from None
    if not name or name.startswith("/") or ".." in name.split("/") or "\0" in name:
        raise file.broken("its name is empty, absolute, contains NUL or leaves the archive by '..'", name or b"''")
    if member.offset_data - member.offset > BLOCKSIZE and not member.pax_headers:
        _refuse_unread_pax(file, member)
    return name


def _refuse_unread_pax(file: ShardFile, member: TarInfo) -> None:
    """Refuse a PAX header of which no record was read: Python before 3.11.10 ignores damaged records."""
    if file.read(member.offset + TYPE_FLAG, 1) in (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE):
        raise file.broken("its extended header (PAX) is damaged", member.name)


def _check_end(file: ShardFile, at: int, previous: str) -> None:
    """Require that only padding follows the last member: anything else is damage, or a second archive."""
    header, rest = file.read(at, BLOCKSIZE), file.size - at
    if header != bytes(BLOCKSIZE):
        raise _damaged(file, at, previous, _fault(header))
    if rest < END_MARK or rest > MAX_PADDING or any(file.read(at, rest)):
        what = f"the archive ends after this member, at byte {at:,}, but the file at byte {file.size:,}"
        raise file.broken(f"{what}: filled with zeros, or two archives in one file", previous)


def _fault(header: bytes) -> str:
    """Return why `tarfile` took a header for the end of the archive."""
    try:
        TarInfo.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.HeaderError as error:
        return str(error)
    return "invalid extended header"


def _damaged(file: ShardFile, at: int, previous: str, fault: str) -> DataError:
    place = f"the header at byte {at:,}, the next one after this member," if at else "its first header"
    return file.broken(f"{place} is damaged ({fault}), or the shard is not a tar archive", previous)
