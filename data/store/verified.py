"""Verifies the files of a prepared folder against the manifest once, and records each verified file.

    <prepared folder>/.verified.jsonl    a line per file: name, sha256, size and times at verification

A file whose size and times have not changed since is not read again. An interrupted verification continues where it
stopped, and of several processes only one reads. `data.prepare` records the files that it writes, so runs read none.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from data.store.tokens import Manifest, listed_files, verify_file

NOTE, LOCK = ".verified.jsonl", ".verified.lock"
POLL_S = 1.0
LINE_EVERY_S = 30.0
MAX_THREADS = 8  # for hashing; one thread reads 1 to 2 GB/s
Say = Callable[[str], None]
_File = tuple[Path, dict[str, Any]]


def nothing(_: str = "") -> None:
    """Report nothing."""


def never() -> bool:
    """Return False: do not stop."""
    return False


def verify_touched(manifest: Manifest, say: Say = nothing, stopped: Callable[[], bool] = never) -> bool:
    """Compare the sha256 of every file with the manifest, except of files that have not changed since the last time.

    Each file is recorded once it is verified. A lock makes processes take turns, so that each file is read once. In a
    read-only folder nothing can be recorded, and each process reads all files.

    Parameters
    ----------
    say : receives the progress every 30 s
    stopped : is called repeatedly; True stops the verification

    Returns
    -------
    Whether all files are verified; False if stopped before

    Raises
    ------
    DataError
        For the first file that is missing or differs.
    """
    if not unverified(manifest):
        return True
    with _turn(manifest.folder, say, stopped):
        return _verify(manifest, unverified(manifest), say, stopped)  # another process may have verified some


def unverified(manifest: Manifest) -> list[_File]:
    """Return the files (path, manifest entry) that `verify_touched` would read."""
    known = _read_note(manifest.folder)
    listed = listed_files(manifest)
    return [(path, facts) for path, facts in listed if known.get(_name(manifest, path)) != _state(path, facts)]


def note_verified(manifest: Manifest) -> None:
    """Record all files as verified; for a process that has just written and hashed them."""
    for path, facts in listed_files(manifest):
        _append_note(manifest, path, _state(path, facts))


def _verify(manifest: Manifest, files: list[_File], say: Say, stopped: Callable[[], bool]) -> bool:
    """Hash files in several threads and record each verified file."""
    n_all, done, total = len(files), 0, sum(int(facts["n_bytes"]) for _, facts in files)
    last_line, todo, running = time.monotonic(), iter(files), dict[Future[None], tuple[Path, list[Any]]]()
    with ThreadPoolExecutor(min(MAX_THREADS, len(os.sched_getaffinity(0)))) as pool:
        while not stopped():
            while len(running) < MAX_THREADS and (file := next(todo, None)):
                state = _state(*file)  # before it is read
                running[pool.submit(verify_file, manifest, *file)] = file[0], state
            if not running:
                return True
            for future in wait(running, POLL_S, FIRST_COMPLETED).done:
                path, state = running.pop(future)
                future.result()
                _append_note(manifest, path, state)
                done += state[1]
            if time.monotonic() - last_line > LINE_EVERY_S:
                last_line = time.monotonic()
                say(f"verifying {manifest.folder}: {done / 1e9:.1f} of {total / 1e9:.1f} GB in {n_all:,} files")
        for future in running:
            future.cancel()
    return False


@contextmanager
def _turn(folder: Path, say: Say, stopped: Callable[[], bool]) -> Iterator[None]:
    """Wait until no other process verifies this folder; do not wait if it cannot be locked."""
    try:
        lock = (folder / LOCK).open("a")
    except OSError:
        yield
        return
    with lock:
        waiting = False
        while not stopped():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not waiting:
                    say(f"another process verifies {folder}: waiting for it")
                waiting = True
                time.sleep(POLL_S)
            except OSError:  # a file system without locks
                break
        yield


def _state(path: Path, facts: dict[str, Any]) -> list[Any]:
    """Return sha256, size and times of a file; if one of them changes, the file must be verified again."""
    now = path.stat() if path.exists() else None
    return [facts["sha256"], *((now.st_size, now.st_mtime_ns, now.st_ctime_ns) if now else (-1, 0, 0))]


def _name(manifest: Manifest, path: Path) -> str:
    return str(path.relative_to(manifest.folder) if path.is_relative_to(manifest.folder) else path)


def _append_note(manifest: Manifest, path: Path, state: list[Any]) -> None:
    """Append one line; the line break comes first, so that a truncated line before it does no harm."""
    with suppress(OSError), (manifest.folder / NOTE).open("ab", buffering=0) as note:
        note.write(b"\n" + json.dumps([_name(manifest, path), *state]).encode())


def _read_note(folder: Path) -> dict[str, list[Any]]:
    """Return name -> state from the last line of each file; malformed lines are ignored."""
    found = {}
    with suppress(OSError):
        for line in (folder / NOTE).read_bytes().splitlines():
            with suppress(ValueError, RecursionError):
                match json.loads(line):
                    case [str(name), *state]:
                        found[name] = state
    return found
