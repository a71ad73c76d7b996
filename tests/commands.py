"""Commands of the project as processes of their own, for tests.

A module of ours (`-m train ...`) is forked from a server that has imported torch and Hydra once, which saves 3 s of CPU
time a call; everything else is a new interpreter. Both are in a session of their own, of which nothing outlives a test.
"""

import os
import resource
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import pytest

from tests.forkserver import server_context
from train.compose import ROOT

OURS = ("train", "mixlaw", "sweeps", "data", "scripts")
Prepare = Callable[[], None]


class Process(Protocol):
    """The part of subprocess.Popen that tests use."""

    pid: int

    @property
    def returncode(self) -> int | None:
        """The exit code; minus the signal's number if one ended the process."""

    def poll(self) -> int | None:
        """Return the exit code, or None while the process runs."""

    def kill(self) -> None:
        """Send KILL."""

    def terminate(self) -> None:
        """Send TERM."""

    def communicate(self, *, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end; return stdout and stderr."""


class Forked:
    """A module that runs as `python -m MODULE ARGUMENTS` does, in a process forked from the server."""

    def __init__(
        self, arguments: list[str], environment: dict[str, str], prepare: Prepare | None, folder: Path
    ) -> None:
        self._files = folder / "out", folder / "err"
        context = server_context()
        self._process = context.Process(target=_be_command, args=(arguments, environment, prepare, *self._files))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        self._process.terminate()

    def communicate(self, *, timeout: float | None = None) -> tuple[str, str]:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self._process), timeout or 0)
        out, err = (path.read_text() if path.exists() else "" for path in self._files)
        return out, err


@contextmanager
def start(*arguments: str, prepare: Prepare | None = None, **environment: str) -> Iterator[Process]:
    """Run `python ARGUMENTS` in the checkout; no process of its session outlives the block.

    Parameters
    ----------
    prepare : a function of a module that the process calls first; only for a module of ours
    environment : variables besides those of this process
    """
    with tempfile.TemporaryDirectory() as folder:
        process: Process
        if arguments[0] == "-m" and arguments[1].partition(".")[0] in OURS and "PYTHONPATH" not in environment:
            process = Forked(list(arguments[1:]), os.environ | environment, prepare, Path(folder))
        else:
            assert prepare is None
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env=os.environ | environment,
                start_new_session=True,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()  # also if it had no session of its own yet
            process.communicate()


def call(
    *arguments: str, timeout: float = 120, prepare: Prepare | None = None, **environment: str
) -> tuple[int, str, str]:
    """Run `python ARGUMENTS` in the checkout to its end, as `start` does; return exit code, stdout and stderr."""
    with start(*arguments, prepare=prepare, **environment) as process:
        out, err = process.communicate(timeout=timeout)
        code = process.returncode
    assert code is not None
    return code, out, err


def train_here(*arguments: str) -> int:
    """Do what `python -m train ARGUMENTS` does, in this process: the runs of its studies share one server.

    Return the exit code; what is printed goes to this process's streams.
    """
    from train.__main__ import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train", *arguments])
        try:
            return main()
        except SystemExit as left:  # as Hydra ends
            return int(left.code or 0)


def limit_files(n_bytes: int) -> None:
    """Let this process write no file beyond a size, as a full disk does."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def _be_command(
    arguments: list[str], environment: dict[str, str], prepare: Prepare | None, out: Path, err: Path
) -> None:
    os.setsid()
    os.chdir(ROOT)
    os.environ.clear()
    os.environ.update(environment)
    for number, path in ((1, out), (2, err)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    if prepare:
        prepare()
    sys.argv = ["", *arguments[1:]]
    for name in (arguments[0], f"{arguments[0]}.__main__"):
        sys.modules.pop(name, None)  # what the server imported of it runs again, as the main module
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
