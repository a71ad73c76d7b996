"""Runs the tasks of a stage, in this process or in several, and reports their progress."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context, parent_process
from threading import Thread
from typing import Protocol, TypeVar

from tqdm import tqdm

from data.demo_corpora.wheels import Echo
from mixlaw.errors import DataError

LINE_EVERY_S = 30.0  # of the progress without a terminal


class Sized(Protocol):
    """A task with the size of what it works on."""

    @property
    def n_bytes(self) -> int:
        """Bytes."""


Task = TypeVar("Task", bound=Sized)


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor | None]:
    """Start worker processes of one thread each; None for 0 workers.

    They end when the block fails, when this process is killed, and not by Ctrl-C, which this process handles.
    """
    if not workers:
        yield None
        return
    others = set(active_children())
    with ProcessPoolExecutor(workers, get_context("spawn"), _start) as pool:
        try:
            yield pool
        except BaseException as error:
            for process in set(active_children()) - others:
                process.terminate()
            if isinstance(error, BrokenProcessPool):
                raise DataError(
                    "a worker process was killed, perhaps because memory was full: the same command continues; fewer "
                    "--workers need less memory"
                ) from None
            raise


def _start() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}  # of tokenizers and of pyarrow
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if parent := parent_process():
        parent.join()
        os._exit(1)


def for_each(
    function: Callable[[Task], None], tasks: Sequence[Task], pool: ProcessPoolExecutor | None, what: str, echo: Echo
) -> Iterator[Task]:
    """Call a function with each task, and yield the tasks as they are finished.

    Parameters
    ----------
    what : is done, for the progress: a bar on a terminal, else a line every 30 s
    """
    total, done, start = sum(task.n_bytes for task in tasks), 0, time.monotonic()
    last = start
    with tqdm(desc=what, total=total, unit="B", unit_scale=True, leave=False, disable=None) as bar:
        for task in _finished(function, tasks, pool):
            yield task
            bar.update(task.n_bytes)
            done += task.n_bytes
            if bar.disable and time.monotonic() - last > LINE_EVERY_S:
                last = time.monotonic()
                echo(tqdm.format_meter(done, total, last - start, ncols=80, prefix=what, unit="B", unit_scale=True))


def _finished(
    function: Callable[[Task], None], tasks: Sequence[Task], pool: ProcessPoolExecutor | None
) -> Iterator[Task]:
    if pool is None:
        for task in tasks:
            function(task)
            yield task
        return
    futures = {pool.submit(function, task): task for task in tasks}
    for future in as_completed(futures):
        future.result()
        yield futures[future]
