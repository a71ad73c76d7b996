"""One domain's documents from its source: what may be asked for, where it lies, and how it is read."""

import csv
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data.budget import BadDocuments, Reader
from data.config import SourceConfig
from data.own_files import OWN_FILE_READERS, find_files
from data.wheel_readers import WHEEL_READERS
from data.wheels import Echo, fetch_wheel, stated_licence
from mixlaw.errors import ConfigError, DataError, MixlawError, unknown_name

READERS: dict[str, Reader] = {**WHEEL_READERS, **OWN_FILE_READERS}

# What the standard library, pyarrow, pandas and datasets raise for a file that a reader cannot read.
UNREADABLE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OSError,
    EOFError,
    zipfile.BadZipFile,
    csv.Error,
    zlib.error,
)


def check_source(source: SourceConfig, where: str) -> None:
    """Check that a source says all that its reader needs.

    Raises
    ------
    ConfigError
        Naming the setting and, for an unknown reader, the near match.
    """
    if source.reader not in READERS:
        raise ConfigError(f"{where}.reader: {unknown_name('reader', source.reader, READERS)}")
    needed = ("package", "version", "sha256") if source.reader in WHEEL_READERS else ("path",)
    for setting in needed:
        if not getattr(source, setting):
            raise ConfigError(f"{where}.{setting}: missing; the reader '{source.reader}' needs {', '.join(needed)}")


def locate(source: SourceConfig, where: str, downloads: Path, echo: Echo) -> list[Path]:
    """Return the files of a source in reading order, fetching the wheel where it is not there yet."""
    if source.reader in WHEEL_READERS:
        return [fetch_wheel(source, downloads, echo)]
    return find_files(source, where)


def documents(source: SourceConfig, files: list[Path], bad: BadDocuments) -> Iterator[str]:
    """Yield every document of a source.

    Raises
    ------
    DataError
        Naming the file and the cause, if one cannot be read.
    """
    for path in files:
        try:
            yield from READERS[source.reader](path, source, bad)
        except MixlawError:
            raise
        except UNREADABLE as error:
            cause = str(error).strip().split("\n")[0] or type(error).__name__
            raise DataError(f"{path}: the reader '{source.reader}' cannot read it: {cause}") from None


def origin(source: SourceConfig) -> str:
    """Return in a few words where a domain comes from."""
    return f"{source.package} {source.version}" if source.reader in WHEEL_READERS else source.path


def licence(source: SourceConfig, files: list[Path]) -> str:
    """Return the licence: the configured one, else what the wheel's metadata states, else "not stated"."""
    stated = stated_licence(files[0]) if source.reader in WHEEL_READERS else ""
    return source.licence or stated or "not stated"


def fingerprints(source: SourceConfig, files: list[Path]) -> list[dict[str, Any]]:
    """Return path, size and modification time of people's own files; wheels are pinned and need none."""
    if source.reader in WHEEL_READERS:
        return []
    return [{"path": str(p), "n_bytes": p.stat().st_size, "mtime_ns": p.stat().st_mtime_ns} for p in files]
