"""Checks prepared data against their manifest once, and notes each file that was found right.

    <prepared folder>/.verified.jsonl    a line per file: name, sha256, and the size and times that it had then

A file whose size and times are still those of its note is not read again. A check that is cut off goes on where it
was, and of several processes that want one only one reads: `data.prepare` notes what it writes, so runs read nothing.
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
MAX_THREADS = 8  # that hash; one reads 1 to 2 GB/s
Say = Callable[[str], None]
_File = tuple[Path, dict[str, Any]]


def nothing(_: str = "") -> None:
    """Say nothing."""


def never() -> bool:
    """Ask nobody to stop."""
    return False


def verify_touched(manifest: Manifest, say: Say = nothing, stopped: Callable[[], bool] = never) -> bool:
    """Compare sha256 of every file with the manifest, except of files that were not written to since that was done.

    Each file is noted as soon as it is found right. Processes on one folder take turns, so that each file is read once;
    where nothing can be noted, as in a folder that is read only, each process reads all.

    Parameters
    ----------
    say : is told how far it is, every half minute
    stopped : is asked again and again whether to leave

    Returns
    -------
    Whether all is verified; False if stopped before

    Raises
    ------
    DataError
        Naming the first file that is missing or differs.
    """
    if not unverified(manifest):
        return True
    with _turn(manifest.folder, say, stopped):
        return _verify(manifest, unverified(manifest), say, stopped)  # others may have read some meanwhile


def unverified(manifest: Manifest) -> list[_File]:
    """Return the files (path, facts of the manifest) that `verify_touched` would read."""
    known = _read_note(manifest.folder)
    return [(path, facts) for path, facts in listed_files(manifest) if known.get(_name(path)) != _state(path, facts)]


def note_verified(manifest: Manifest) -> None:
    """Note that all files are right as they are now: for who has just written and hashed them."""
    for path, facts in listed_files(manifest):
        _append_note(manifest.folder, path, _state(path, facts))


def _verify(manifest: Manifest, files: list[_File], say: Say, stopped: Callable[[], bool]) -> bool:
    """Hash files in several threads; note each that is right."""
    n_all, done, total = len(files), 0, sum(int(facts["n_bytes"]) for _, facts in files)
    last_line, todo, running = time.monotonic(), iter(files), dict[Future[None], tuple[Path, list[Any]]]()
    with ThreadPoolExecutor(min(MAX_THREADS, len(os.sched_getaffinity(0)))) as pool:
        while not stopped():
            while len(running) < MAX_THREADS and (file := next(todo, None)):
                state = _state(*file)  # of before it is read
                running[pool.submit(verify_file, manifest, *file)] = file[0], state
            if not running:
                return True
            for future in wait(running, POLL_S, FIRST_COMPLETED).done:
                path, state = running.pop(future)
                future.result()
                _append_note(manifest.folder, path, state)
                done += state[1]
            if time.monotonic() - last_line > LINE_EVERY_S:
                last_line = time.monotonic()
                say(f"verifying {manifest.folder}: {done / 1e9:.1f} of {total / 1e9:.1f} GB in {n_all:,} files")
        for future in running:
            future.cancel()
    return False


@contextmanager
def _turn(folder: Path, say: Say, stopped: Callable[[], bool]) -> Iterator[None]:
    """Wait until no other process verifies this folder. Where it cannot be locked, nobody waits."""
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
    """Return what decides whether a file must be read again: its sha256, size, and when it was changed."""
    now = path.stat() if path.exists() else None
    return [facts["sha256"], *((now.st_size, now.st_mtime_ns, now.st_ctime_ns) if now else (-1, 0, 0))]


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _append_note(folder: Path, path: Path, state: list[Any]) -> None:
    """Append one line; a line begins with a line break, so that it outlives one before it that was cut."""
    with suppress(OSError), (folder / NOTE).open("ab", buffering=0) as note:
        note.write(b"\n" + json.dumps([_name(path), *state]).encode())


def _read_note(folder: Path) -> dict[str, list[Any]]:
    """Return name -> state, the last line of each file; lines that nobody here wrote count for nothing."""
    found = {}
    with suppress(OSError):
        for line in (folder / NOTE).read_bytes().splitlines():
            with suppress(ValueError, RecursionError):
                match json.loads(line):
                    case [str(name), *state]:
                        found[name] = state
    return found
