"""Opens files for reading, decompressing gzip and zstd."""

import gzip
from pathlib import Path
from typing import BinaryIO, cast


def open_plain(path: Path) -> BinaryIO:
    """Open a file and decompress it if its suffix (in any case) is .gz or .zst.

    Reading raises OSError, EOFError or zlib.error if the file is damaged.
    """
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast(BinaryIO, gzip.open(path))
    if suffix == ".zst":
        import pyarrow  # has zstd; the standard library does from Python 3.14 on

        return cast(BinaryIO, pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd"))
    return path.open("rb")
