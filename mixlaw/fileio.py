"""Atomic writes, strict JSON, JSON lines and file hashes."""

import errno
import hashlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixlaw.errors import RunLogError


def canonical_json(value: object) -> str:
    """Return the canonical JSON of a value: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def strict_json(value: object, indent: int | None = None) -> str:
    """Return standard JSON; NaN and infinity become null."""

    def plain(part: object) -> object:
        if isinstance(part, Mapping):
            return {str(k): plain(v) for k, v in part.items()}
        if isinstance(part, list | tuple):
            return [plain(v) for v in part]
        return None if isinstance(part, float) and not math.isfinite(part) else part

    return json.dumps(plain(value), indent=indent, allow_nan=False)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file atomically: readers see the old or the new contents, and the new ones survive a crash.

    Raises
    ------
    OSError
        Naming `path`, if it is a folder or cannot be written.
    """
    refuse_folder(path)
    staged = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with staged.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, path)
    except OSError as error:
        if error.filename == str(staged):
            error.filename = str(path)  # which the caller knows
        raise
    finally:
        staged.unlink(missing_ok=True)
    sync_path(path.parent)


def refuse_folder(path: Path) -> None:
    """Raise the OSError that writing to a path gives, if it is a folder or has no name."""
    if not path.name or path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "this is a folder, not a file to write", str(path))


def sync_path(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def file_sha256(path: Path) -> str:
    """Return the hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; NaN and repeated keys are errors.

    Raises
    ------
    RunLogError
        If the file is absent, not valid JSON, or not an object.
    """
    try:
        value = json.loads(path.read_bytes(), parse_constant=refuse_constant, object_pairs_hook=refuse_duplicates)
    except FileNotFoundError:
        raise RunLogError(f"{path} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise RunLogError(f"{path} is not valid JSON: {str(error)[:120]}") from None
    if not isinstance(value, dict):
        raise RunLogError(f"{path} holds a {type(value).__name__}, expected an object")
    return value


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Append one object to a JSON lines file; after a line that a crash truncated, a new one is started."""
    with path.open("a+b") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
        cut = file.read(1) not in (b"", b"\n")
        file.write(b"\n" * cut + json.dumps(row, separators=(",", ":")).encode() + b"\n")


def read_lines(path: Path) -> list[dict[str, Any] | None]:
    """Return the objects of a JSON lines file, None for a line that is not one; empty if there is no file."""
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [_object(line) for line in raw.splitlines()]


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not valid in JSON")


def refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise ValueError("a key appears twice")
    return row
