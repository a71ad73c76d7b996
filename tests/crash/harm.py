"""What goes wrong inside the process of a run: it dies after a step or at a file operation, or its disk is full."""

import builtins
import errno
import io
import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

DIED = 137
ALL = 1 << 62
Progress = Callable[[int, float], None]

_OPEN, _OS_OPEN = io.open, os.open
_CHANGES = ("mkdir", "rename", "replace", "unlink", "remove", "rmdir", "fsync", "truncate", "ftruncate")
_WRITES = ("write", "save_file")
_TAKE_SPACE = (*_WRITES, "mkdir", "open")


def die_at(n_tokens: int) -> Progress:
    """Kill this process as soon as the step that ends at some token is logged, before it is evaluated or saved."""

    def progress(n: int, loss: float) -> None:
        if n == n_tokens:
            os.kill(os.getpid(), signal.SIGKILL)

    return progress


def limit_file_size(n_bytes: int) -> Progress:
    """Let no file grow beyond a size: the operating system itself refuses to write more."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))
    return lambda n, loss: None


def break_operation(n: int, how: str, n_tokens: int = 0) -> Progress:
    """Let this process's n-th file operation go wrong; only what follows the step that ends at `n_tokens` is counted.

    Parameters
    ----------
    n : number of the operation, from 1, among those that `how` can happen to
    how : 'before', 'after': the process dies there. 'halfway': it dies when half of the bytes are written.
        'full': half of the bytes are written, and the disk is full
    n_tokens : 0: everything in the life of the process is counted
    """
    operations = FileOperations(n, how)
    operations.counting = not n_tokens

    def progress(so_far: int, loss: float) -> None:
        if n_tokens:
            operations.counting = so_far == n_tokens or operations.is_full

    return progress


class FileOperations:
    """Counts the file operations of this process that change a disk, and lets the n-th go wrong."""

    def __init__(self, n: int, how: str) -> None:
        import train.checkpoint

        self.n, self.how, self.counting, self.count = n, how, True, 0
        train.checkpoint.save_file = self._save_file(train.checkpoint.save_file, os.truncate)
        for name in _CHANGES:
            setattr(os, name, self._watched(name, getattr(os, name)))
        builtins.open = io.open = self._open  # some ask the one, pathlib the other

    @property
    def is_full(self) -> bool:
        """Whether the disk has become full."""
        return self.how == "full" and self.count >= self.n

    def perform(self, name: str, whole: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        """Do an operation, unless it is the one to go wrong."""
        concerned = {"halfway": _WRITES, "full": _TAKE_SPACE}.get(self.how)
        if not self.counting or (concerned and name not in concerned):
            return whole()
        self.count += 1
        if self.count < self.n:
            return whole()
        if self.how == "full":
            if half and self.count == self.n:
                n_written = half()
                if name == "write":
                    return n_written  # Python will ask for the rest
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if self.how == "after":
            with suppress(OSError):  # making the folders above one begins with trying without them
                whole()
        if self.how == "halfway" and half:
            half()
        os._exit(DIED)

    def _watched(self, name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*arguments: Any, **named: Any) -> Any:
            if name == "mkdir" and os.path.exists(arguments[0]):
                return plain(*arguments, **named)  # which fails, as it does on any disk
            return self.perform(name, lambda: plain(*arguments, **named))

        return watched

    def _save_file(self, plain: Callable[..., Any], truncate: Callable[..., None]) -> Callable[..., Any]:
        def save_file(tensors: Any, path: Any) -> None:
            def half() -> None:
                plain(tensors, path)
                truncate(path, os.stat(path).st_size // 2)

            self.perform("save_file", lambda: plain(tensors, path), half)

        return save_file

    def _open(self, file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, *more: Any, **named: Any):
        if not set(mode) & set("wax+"):
            return _OPEN(file, mode, buffering, encoding, *more, **named)
        plain = mode.translate({ord("b"): None, ord("t"): None})
        make = lambda: _WatchedFile(file, plain)  # noqa: E731
        raw = make() if os.path.exists(file) and "w" not in mode else self.perform("open", make)
        raw.operations = self
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding or "utf-8", *more, **named)


class _WatchedFile(io.FileIO):
    """An open file whose writes are counted where they reach the operating system."""

    operations: FileOperations

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        half = view[: len(view) // 2]
        whole = lambda: io.FileIO.write(self, view)  # noqa: E731
        return int(self.operations.perform("write", whole, lambda: io.FileIO.write(self, half)))

    def truncate(self, size: int | None = None) -> int:
        return int(self.operations.perform("truncate", lambda: io.FileIO.truncate(self, size)))
