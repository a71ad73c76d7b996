"""Independent jobs in forked processes, with the results, errors and progress of one process.

Forked, because a spawned process imports NumPy, SciPy and pandas for 2 s, lacks laws that the user registered, and
needs a `__main__` guard in the user's script. A fork costs 0.015 s, the fit of a small table 0.2 s. Each job has its
own process: the executors of `concurrent.futures` pickle jobs, start threads, and wait for running jobs after Ctrl-C.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any, Generic, TypeVar

from threadpoolctl import threadpool_limits
from tqdm import tqdm

from mixlaw.errors import ConfigError
from mixlaw.fitting.estimator import ProgressCallback

T = TypeVar("T")
Job = Callable[[ProgressCallback | None], T]
Result = Callable[[], T]

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Workers:
    """Runs jobs in this process: each when its result is asked for.

    Attributes
    ----------
    progress : called by every job with a sentence at the start of each step
    """

    def __init__(self, progress: ProgressCallback | None = None) -> None:
        self.progress = progress

    def start(self, job: Job[T]) -> Result[T]:
        """Return a function that returns the result of a job or raises its error."""
        return partial(job, self.progress)


class ForkedWorkers(Workers):
    """Runs jobs in up to `n_jobs` forked processes at a time, in the order in which they are started.

    A job that fails is repeated in this process when its result is asked for, and raises its error there.
    """

    def __init__(self, n_jobs: int, progress: ProgressCallback | None = None) -> None:
        super().__init__(progress)
        self._n_jobs = n_jobs
        self._queue: deque[_Forked[Any]] = deque()
        self._running: list[_Forked[Any]] = []

    def start(self, job: Job[T]) -> Result[T]:
        """Run a job as soon as a process is free; return a function that waits for its result.

        Raises
        ------
        ConfigError
            By that function, if the process was killed.
        """
        forked = _Forked(job)
        self._queue.append(forked)
        self._fill()
        return partial(self._result, forked)

    def kill(self) -> None:
        """End all processes at once."""
        with _interrupts_blocked():
            for forked in self._running:
                forked.process.kill()
                forked.end()
        self._queue.clear()
        self._running.clear()

    def _fill(self) -> None:
        with _interrupts_blocked():  # also in the new processes, for good: after Ctrl-C this one kills them
            while self._queue and len(self._running) < self._n_jobs:
                forked = self._queue.popleft()
                with suppress(OSError):  # no process, memory or file is left: this process runs the job
                    forked.fork()
                    self._running.append(forked)

    def _result(self, forked: "_Forked[T]") -> T:
        while forked in self._queue or forked in self._running:
            self._read_messages()
        if forked.result:
            return forked.result[0]
        forked.require_not_killed()
        return forked.job(self.progress)

    def _read_messages(self) -> None:
        """Wait for messages, read one of each process, and replace the processes that ended."""
        ready = wait([forked.receiver for forked in self._running])
        for forked in [forked for forked in self._running if forked.receiver in ready]:
            sentence = forked.read()
            if sentence and self.progress:
                self.progress(sentence)
        self._running = [forked for forked in self._running if not forked.receiver.closed]
        self._fill()


class _Forked(Generic[T]):
    """A job and its process, whose pipe carries sentences and then the result in a tuple."""

    receiver: Connection
    process: ForkProcess

    def __init__(self, job: Job[T]) -> None:
        self.job = job
        self.exit_code = 0
        self.result: tuple[()] | tuple[T] = ()

    def fork(self) -> None:
        context = multiprocessing.get_context("fork")
        self.receiver, sender = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(self.job, sender), daemon=True)
        self.process.start()
        sender.close()

    def read(self) -> str:
        """Read one message; return it if it is a sentence."""
        try:
            message = self.receiver.recv()
        except (EOFError, OSError):
            self.end()
            return ""
        if isinstance(message, str):
            return message
        self.result = message
        return ""

    def end(self) -> None:
        self.process.join()
        self.exit_code = self.process.exitcode or 0
        self.receiver.close()

    def require_not_killed(self) -> None:
        if self.exit_code < 0:
            name = signal.Signals(-self.exit_code).name
            raise ConfigError(
                f"a process that fits laws was ended by {name}, perhaps for lack of memory: "
                "repeat with fewer processes (--n-jobs, n_jobs)"
            )


def _work(job: Job[T], sender: Connection) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # nothing outlives a killed parent
    with suppress(Exception):  # the parent repeats the job
        sender.send((job(sender.send),))


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def workers(n_jobs: int | None = None, progress: ProgressCallback | None = None) -> Iterator[Workers]:
    """Yield workers, and end their processes at exit.

    BLAS has one thread meanwhile: processes do not compete for cores, and results do not depend on their number.

    Parameters
    ----------
    n_jobs : number of processes, by default one per core; one on systems other than Linux, and in a process that has
        other threads (a notebook), where forking is not safe
    progress : called by every job with a sentence at the start of each step

    Raises
    ------
    ConfigError
        If `n_jobs` is below 1.
    """
    if n_jobs is not None and n_jobs < 1:
        raise ConfigError(f"n_jobs must be at least 1, not {n_jobs}; by default it is the number of cores")
    with threadpool_limits(1, "blas"):
        count = _n_processes(n_jobs)
        if count == 1:
            yield Workers(progress)
            return
        forked = ForkedWorkers(count, progress)
        try:
            yield forked
        finally:
            forked.kill()


def _n_processes(wanted: int | None) -> int:
    """Return the number of processes; one where forking is not safe: other threads might hold a lock at that moment."""
    alone = all(thread in (threading.main_thread(), tqdm.monitor) for thread in threading.enumerate())
    if sys.platform != "linux" or not alone or multiprocessing.current_process().daemon:
        return 1
    return wanted or len(os.sched_getaffinity(0))
