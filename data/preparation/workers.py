"""Runs the tasks of a stage, in this process or in several, and reports their progress."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import active_children, get_context, parent_process
from threading import Thread
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

from data.demo_corpora.wheels import Echo
from mixlaw.errors import DataError

LINE_EVERY_S = 30.0  # of the progress without a terminal
OF_MAIN = (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)  # signals that the main process handles


class StageTask(Protocol):
    """A task of a stage.

    Attributes
    ----------
    n_bytes : size of what it works on
    is_done : whether its result exists
    """

    @property
    def n_bytes(self) -> int: ...

    @property
    def is_done(self) -> bool: ...


class WorkerKilled(DataError):
    """A worker process was killed; the tasks in progress were not done."""


Task = TypeVar("Task", bound=StageTask)
Runner = Callable[[Callable[[Any], None], Sequence[Any]], Iterator[Any]]  # calls a function with each task


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


def in_this_process(function: Callable[[Task], None], tasks: Sequence[Task]) -> Iterator[Task]:
    """Call a function with each task, and yield the tasks as they are finished."""
    for task in tasks:
        function(task)
        yield task


@contextmanager
def worker_processes(n: int) -> Iterator[Runner]:
    """Start worker processes of one thread each, and yield what runs tasks in them.

    They end when the block fails, when this process is killed, and not by Ctrl-C, which this process handles.
    """
    others = set(active_children())
    with ProcessPoolExecutor(n, get_context("spawn"), _start) as pool:
        try:
            yield partial(_in_pool, pool)
        except BaseException as error:
            for process in set(active_children()) - others:
                process.terminate()
            if isinstance(error, BrokenProcessPool):
                raise WorkerKilled(
                    "a worker process was killed, perhaps because memory was full: the same command continues; fewer "
                    "--workers need less memory"
                ) from None
            raise


def _in_pool(pool: ProcessPoolExecutor, function: Callable[[Task], None], tasks: Sequence[Task]) -> Iterator[Task]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OF_MAIN)  # submit() starts processes, which inherit the mask
    try:
        futures = {pool.submit(function, task): task for task in tasks}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    for future in as_completed(futures):
        future.result()
        yield futures[future]


def _start() -> None:
    for number in OF_MAIN:
        signal.signal(number, signal.SIG_IGN)
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}  # of tokenizers and of pyarrow
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


def do_all(
    function: Callable[[Task], None], tasks: Sequence[Task], run: Runner, what: str, echo: Echo
) -> Iterator[Task]:
    """Call a function with each task that is not done yet, and yield these tasks as they are finished.

    Parameters
    ----------
    what : is done, for the progress: a bar on a terminal, else a line every 30 s
    """
    missing = [task for task in tasks if not task.is_done]
    total, done, start = sum(task.n_bytes for task in missing), 0, time.monotonic()
    last = start
    with tqdm(desc=what, total=total, unit="B", unit_scale=True, leave=False, disable=None) as bar:
        for task in run(function, missing):
            yield task
            bar.update(task.n_bytes)
            done += task.n_bytes
            if bar.disable and time.monotonic() - last > LINE_EVERY_S:
                last = time.monotonic()
                echo(tqdm.format_meter(done, total, last - start, ncols=80, prefix=what, unit="B", unit_scale=True))
