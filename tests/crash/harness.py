"""Runs in processes that die: each is forked from a server that knows torch, so that a death costs a moment.

A `Case` is a small run with everything in it that can go wrong: a checkpoint every other step, evaluations of averaged
weights, a domain that is read twice, windows that cross shards. Whatever happens to its processes, the same run started
again must end with the bytes of one that was left alone.
"""

import io
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from mixlaw.errors import MixlawError
from train.config import Plan

FINISHED, AGAIN, DIED = 0, 75, 137
TIMEOUT_S = 60
Artefacts = dict[str, bytes]
Disturb = Callable[..., None]  # a function of a module, called in the process before the run

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["train.loop", "train.compose", "torch._dynamo"])


@dataclass
class Case:
    """One run, what it leaves when nothing happens to it, and what happened to it."""

    plan: Plan
    reference: Artefacts = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The run directory."""
        return Path(self.plan.config.machine.runs) / self.plan.folder_name

    def artefacts(self) -> Artefacts:
        """Return the bytes of log, weights, optimizer and average of a run that is over."""
        last = self.folder / "checkpoints" / f"step-{self.plan.config.n_steps:08d}"
        return {path.name: path.read_bytes() for path in (self.folder / "metrics.jsonl", *last.glob("*.safetensors"))}

    def restart(self) -> None:
        """Forget the run."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def count(self, what: str) -> None:
        """Count something that happened, for the report."""
        self.counts[what] = self.counts.get(what, 0) + 1

    @contextmanager
    def process(self, disturb: Disturb | None = None, *arguments: Any) -> Iterator[ForkServerProcess]:
        """Start the run in a process of its own, which does not outlive the block."""
        process = context.Process(target=_be, args=(self.plan, disturb, arguments), daemon=True)
        process.start()
        try:
            yield process
        finally:
            process.join(TIMEOUT_S)
            assert process.exitcode is not None, "the run hangs"
            process.close()

    def attempt(self, disturb: Disturb | None = None, *arguments: Any) -> int:
        """Run once; return the exit code (negative: the signal that killed it)."""
        with self.process(disturb, *arguments) as process:
            process.join(TIMEOUT_S)
            code = process.exitcode
        assert code is not None, "the run hangs"
        return code

    def struck(self, number: int, delay_s: float) -> int:
        """Run, and send a signal after a while; return the exit code."""
        with self.process() as process:
            process.join(delay_s)
            if process.exitcode is None and process.pid:
                os.kill(process.pid, number)
            process.join(TIMEOUT_S)
            code = process.exitcode
        assert code is not None, "the run hangs"
        return code


def _be(plan: Plan, disturb: Disturb | None, arguments: tuple[Any, ...]) -> None:
    """Be one `python -m train`: the exit code says how it ended."""
    from train.loop import run

    if disturb:
        disturb(*arguments)
    try:
        status = run(plan)
    except MixlawError as error:
        sys.stderr.write(f"{error}\n")
        os._exit(error.exit_code)
    except OSError as error:
        sys.stderr.write(f"{error.filename}: {error.strerror}\n")
        os._exit(3)
    os._exit({"finished": FINISHED, "again": AGAIN}.get(status, 1))


def die_at_steps(steps: list[int]) -> None:
    """Kill this process after the first of these steps that it makes; those behind it were survived before."""
    import train.loop

    plain = train.loop._Training._log

    def log(training: Any, *more: Any) -> None:
        plain(training, *more)
        if training.step in steps:
            os.kill(os.getpid(), signal.SIGKILL)

    train.loop._Training._log = log  # type: ignore[method-assign]


class FileOperations:
    """Counts the file operations of this process that change something, and lets the n-th one go wrong.

    Parameters
    ----------
    at : number of the operation, from 1
    how : "before" or "after": the process ends there. "halfway": a file of tensors is half written when it ends.
        "full": the disk is full from this operation on
    """

    names = ("mkdir", "fsync", "replace", "rename", "unlink", "remove", "rmdir", "truncate", "ftruncate", "write")

    def __init__(self, at: int, how: str, note: str = "") -> None:
        import train.checkpoint

        self.count, self._at, self._how, self._note = 0, at, how, note
        for name in self.names:
            setattr(os, name, self._counted(getattr(os, name), name))
        train.checkpoint.save_file = self._counted(train.checkpoint.save_file, "save_file")
        io.open = self._opening(io.open)  # type: ignore[assignment]

    def _opening(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        counted = self._counted(plain, "open")

        def opened(file: Any, mode: str = "r", *more: Any, **named: Any) -> Any:
            return (counted if set(mode) & set("wax+") else plain)(file, mode, *more, **named)

        return opened

    def _counted(self, plain: Callable[..., Any], name: str) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            if (
                self._how == "full"
                and self.count >= self._at
                and name in ("save_file", "open", "write", "fsync", "mkdir")
            ):
                raise OSError(28, "No space left on device")
            if self.count != self._at or self._how == "full":
                return plain(*arguments, **named)
            if self._how == "after":
                with suppress(Exception):  # making the folders above one begins with trying without them
                    plain(*arguments, **named)
            if self._how == "halfway" and name == "save_file":
                plain(*arguments, **named)
                os.truncate(arguments[1], os.stat(arguments[1]).st_size // 2)
            os._exit(DIED)

        return counted


def break_file_operation(at: int, how: str) -> None:
    """Let the n-th file operation of this process go wrong."""
    FileOperations(at, how)


def until(condition: Callable[[], bool], process: ForkServerProcess) -> None:
    """Wait for something that a process does, as long as it lives."""
    while process.exitcode is None and not condition():
        time.sleep(0.002)
