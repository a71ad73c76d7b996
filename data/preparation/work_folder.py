"""The folder in which a prepared folder is made: it outlives a kill, and the same command continues in it."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from data.demo_corpora.wheels import Echo
from mixlaw.fileio import canonical_json

LOCK = ".lock"


def work_path(final: Path, again: bool) -> Path:
    """Return the hidden work folder beside `final`; one that replaces `final` has a work folder of its own."""
    return final.with_name(f".{final.name}.{'again' if again else 'work'}")


@contextmanager
def work_folder(folder: Path, keep: bool, echo: Echo) -> Iterator[None]:
    """Create a work folder, which one process at a time may use, and remove it at the end.

    Parameters
    ----------
    keep : keep it if the block fails, so that the work can be continued
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder, echo):
        try:
            yield
        except BaseException:
            if keep:
                echo(f"the work so far is kept in {folder}: the same command continues")
            else:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path, echo: Echo) -> Iterator[None]:
    """Create and lock a folder; wait for the process that has it."""
    while True:
        folder.mkdir(exist_ok=True)
        with (folder / LOCK).open("a") as lock:
            _lock(lock, folder, echo)
            if _is_at(lock, folder / LOCK):
                yield
                return


def _lock(lock: IO[str], folder: Path, echo: Echo) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        echo(f"another process works in {folder}: waiting for it")
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError:  # a file system without locks: two processes do the same work twice, which changes no result
        return


def _is_at(lock: IO[str], path: Path) -> bool:
    """Return whether the locked file was not removed meanwhile by the process that had it."""
    return path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat())


def keep_only(folder: Path, prefix: str, names: Collection[str]) -> None:
    """Remove the entries of a folder whose names begin with a prefix, except those with these names."""
    if folder.exists():
        for path in folder.iterdir():
            if path.name.startswith(prefix) and path.name not in names:
                shutil.rmtree(path, ignore_errors=True)


def result_key(*of: Any) -> str:
    """Return the name of a result, a hash of all that it depends on, so that results of other inputs are not used."""
    return hashlib.sha256(canonical_json(of).encode()).hexdigest()[:16]
