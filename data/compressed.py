"""Files that are compressed as a whole, by gzip or zstd, read as if they were not."""

import gzip
from pathlib import Path
from typing import BinaryIO, cast

PACKINGS = (".gz", ".zst")


def is_packed(path: Path, packing: str = "") -> bool:
    """Return whether a file's name says that it is compressed, by this program or by any."""
    return path.name.lower().endswith(packing or PACKINGS)


def plain_name(path: Path) -> str:
    """Return the name of a file without the suffix of its packing."""
    return path.name[: path.name.rindex(".")] if is_packed(path) else path.name


def open_plain(path: Path) -> BinaryIO:
    """Open a file to read the bytes that it held before it was compressed.

    Reading raises OSError, EOFError or zlib.error where the file is damaged.
    """
    if is_packed(path, ".gz"):
        return cast(BinaryIO, gzip.open(path))
    if is_packed(path, ".zst"):
        import pyarrow  # knows zstd, which Python's library does not before 3.14

        return cast(BinaryIO, pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd"))
    return path.open("rb")
