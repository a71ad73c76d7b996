"""Atomic creation of folders: complete or absent, even if a process is killed or two create the same folder."""

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mixlaw.fileio import sync_path

FORGOTTEN_SECONDS = 24 * 3600  # age at which a staging folder of another host counts as abandoned


@contextmanager
def staging_folder(final: Path) -> Iterator[Path]:
    """Create an empty hidden folder beside `final`, and remove it at the end unless it was published."""
    final.parent.mkdir(parents=True, exist_ok=True)
    remove_stale(final)
    folder = final.with_name(f".{final.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale(final: Path) -> None:
    """Remove staging folders of `final` left by killed processes."""
    prefix = f".{final.name}."
    for folder in final.parent.iterdir():
        if folder.name.startswith(prefix) and folder.name.endswith(".tmp") and not _has_owner(folder, prefix):
            shutil.rmtree(folder, ignore_errors=True)


def _has_owner(folder: Path, prefix: str) -> bool:
    host, _, pid = folder.name[len(prefix) : -len(".tmp")].rpartition(".")
    if host == socket.gethostname() and pid.isdigit():
        return int(pid) != os.getpid() and _is_alive(int(pid))
    try:
        return time.time() - folder.stat().st_mtime < FORGOTTEN_SECONDS
    except FileNotFoundError:  # its owner has just finished
        return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # a process of another user
        return True
    return True


def publish(staging: Path, final: Path, replace: bool = False) -> None:
    """Sync a staging folder to disk and rename it to its final name; keep the folder of a faster process.

    Parameters
    ----------
    replace : replace an existing folder; processes that have its files open keep them
    """
    for path in (*staging.rglob("*"), staging):
        sync_path(path)
    aside = staging.with_suffix(".old.tmp")
    with suppress(FileNotFoundError):
        if replace:
            final.rename(aside)
    try:
        staging.rename(final)
    except OSError:
        if not final.is_dir():  # another error than "already exists"
            if aside.exists():
                aside.rename(final)
            raise
    sync_path(final.parent)
    shutil.rmtree(aside, ignore_errors=True)
