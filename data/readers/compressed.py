"""Files that are compressed as a whole, by gzip or zstd, read as if they were not."""

import gzip
from pathlib import Path
from typing import BinaryIO, cast


def open_plain(path: Path) -> BinaryIO:
    """Open a file to read the bytes that it held before it was compressed; its suffix tells, in either case.

    Reading raises OSError, EOFError or zlib.error where the file is damaged.
    """
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast(BinaryIO, gzip.open(path))
    if suffix == ".zst":
        import pyarrow  # knows zstd, which Python's library does not before 3.14

        return cast(BinaryIO, pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd"))
    return path.open("rb")
