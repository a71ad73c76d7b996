"""Trains runs of a study in parallel processes, forked from a server that has imported torch once.

A child process receives the resolved plan of its run, so it composes no configuration. Otherwise it behaves like
`python -m train OVERRIDES`: its own log, GPU, exit code, and entries in the ledger.
"""

import ctypes
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mixlaw.console import AGAIN, DIVERGED, say
from mixlaw.runs.ledger import begin_attempt, end_attempt
from mixlaw.runs.study_status import share_done
from sweeps.jobs import Job
from train.gpus import VARIABLE

if TYPE_CHECKING:
    from train.plan import Plan

POLL_S = 0.2
LINE_EVERY_S = 10.0
PATIENCE_S = 60.0  # for a run to save after a signal
# What the server imports before it forks. Every optimizer imports torch._dynamo, which takes 1.5 s.
PRELOAD = ["sweeps.processes", "train.loop", "train.exits", "torch._dynamo"]
_STATUSES = {0: "finished", AGAIN: "unfinished", DIVERGED: "diverged"}


@dataclass
class Running:
    """A job that a process trains."""

    job: Job
    process: ForkServerProcess
    slot: int


class Pool:
    """Trains jobs in a fixed number of processes and shows their progress.

    Parameters
    ----------
    n_processes : runs at a time
    gpus : names for CUDA_VISIBLE_DEVICES; the process in slot i gets GPU i modulo their number
    """

    def __init__(self, n_processes: int, gpus: Sequence[str] = ()) -> None:
        self._n_processes, self._gpus = n_processes, gpus
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(PRELOAD)
        self._tokens = self._context.RawArray("d", n_processes)  # no lock: each slot has one writer

    def run(self, todo: Sequence[Job]) -> None:
        """Start every job in turn, after its trunk has ended, and wait for all; after a signal, jobs save and stop."""
        from train.preempt import StopRequest

        waiting, running = list(todo), list[Running]()
        display = _Display(todo)
        try:
            with StopRequest() as request:
                while (waiting or running) and not request.signal:
                    while len(running) < self._n_processes and (job := startable(waiting, running)):
                        waiting.remove(job)
                        running.append(self._start(job, {r.slot for r in running}))
                    time.sleep(POLL_S)
                    for ended in [r for r in running if not r.process.is_alive()]:
                        running.remove(ended)
                        note_killed(ended)
                        ended.job.status = status_of(ended.process.exitcode, stopping=bool(request.signal))
                        display.ended(ended.job)
                    display.update(sum(self._flops_done(r) for r in running))
        finally:
            stop(running)
            display.close()

    def _start(self, job: Job, taken: set[int]) -> Running:
        slot = min(set(range(self._n_processes)) - taken)
        self._tokens[slot] = 0.0
        gpu = self._gpus[slot % len(self._gpus)] if self._gpus else None
        arguments = (job.plan, slot, self._tokens, dict(os.environ), gpu)
        process = self._context.Process(target=run_job, args=arguments, daemon=False)
        process.start()
        return Running(job, process, slot)

    def _flops_done(self, running: Running) -> float:
        job = running.job
        return job.flops * share_done(self._tokens[running.slot], job.plan.n_tokens, job.n_taken)


def startable(waiting: Sequence[Job], running: Sequence[Running]) -> Job | None:
    """Return the first waiting job whose trunk neither waits nor runs, or None."""
    ahead = {job.run_id for job in (*waiting, *(r.job for r in running))}
    return next((job for job in waiting if job.trunk not in ahead), None)


class _Display:
    """Shows how much of a study's compute is done: a bar on a terminal, a line every few seconds otherwise."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        from tqdm import tqdm

        self._n_jobs, self._n_ended, self._flops_ended = len(jobs), 0, 0.0
        self._total = sum(job.flops for job in jobs)
        self._bar: Any = tqdm(
            total=self._total, unit="FLOP", unit_scale=True, desc="runs", disable=not sys.stderr.isatty()
        )
        self._started = self._last_line = time.monotonic()

    def ended(self, job: Job) -> None:
        """Print the end of a run."""
        self._n_ended += 1
        self._flops_ended += job.flops
        mixture = " ".join(f"{d} {w:.2f}" for d, w in job.plan.weights.items())
        self._bar.clear()
        width = job.plan.config.model.width
        say(f"  [{self._n_ended}/{self._n_jobs}] {job.run_id} width {width:<4} {mixture}: {job.status}")

    def update(self, flops_running: float) -> None:
        """Show the progress, given the FLOPs that the running jobs have done."""
        done = min(self._flops_ended + flops_running, self._total)
        self._bar.n = done
        self._bar.update(0)
        now = time.monotonic()
        if self._bar.disable and now - self._last_line > LINE_EVERY_S and done > 0:
            self._last_line = now
            left = (now - self._started) * (self._total / done - 1)
            say(f"  {done / self._total:4.0%} of the FLOPs, about {left:.0f} s to go")

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()


def status_of(code: int | None, stopping: bool) -> str:
    """Return the status of a run whose process has ended.

    Parameters
    ----------
    code : its exit code
    stopping : whether the study is being stopped; Ctrl-C may kill a child before it can save
    """
    return _STATUSES.get(code or 0, "unfinished" if stopping else f"failed (exit {code})")


def note_killed(running: Running) -> None:
    """Record the end of a process that a signal killed, because it could not do so itself."""
    code = running.process.exitcode or 0
    if code < 0:
        end_attempt(running.job.folder, code)


def stop(running: Sequence[Running]) -> None:
    """Ask running jobs to save and leave, and wait for them."""
    if running:
        say(f"stopping: {len(running)} runs save and leave; the same command resumes them")
    for each in running:
        each.process.terminate()
    for each in running:
        each.process.join(PATIENCE_S)
    for each in running:
        note_killed(each)
        each.job.status = "unfinished"


def run_job(
    plan: "Plan", slot: int, tokens: "ctypes.Array[ctypes.c_double]", environment: Mapping[str, str], gpu: str | None
) -> None:
    """Train one run in this process: its log, its GPU, its entries in the ledger, and its exit code.

    Parameters
    ----------
    tokens : where slot i says how many tokens its run has seen
    environment : of the launcher; the server of these processes may have been started by another study
    gpu : name for CUDA_VISIBLE_DEVICES
    """
    os.environ.clear()
    os.environ.update(environment)
    place = f"process {os.getpid()} on {socket.gethostname()}"
    if gpu is not None:
        os.environ[VARIABLE] = gpu  # before CUDA is initialised, which reads it once
        place += f", GPU {gpu}"
    begin_attempt(plan.folder, place)
    code = 1
    try:
        code = train_into(plan.folder / "log.txt", plan, slot, tokens)
    finally:
        end_attempt(plan.folder, code)
    sys.exit(code)


def train_into(log: Path, plan: "Plan", slot: int, tokens: "ctypes.Array[ctypes.c_double]") -> int:
    """Train one run with its output in a log file; return the exit code."""
    with log.open("a", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from train.exits import EXIT_CODES, run_command
    from train.loop import run

    def progress(n_tokens: int, loss: float) -> None:
        tokens[slot] = float(n_tokens)

    leave_with_parent()
    return run_command(lambda: EXIT_CODES[run(plan, progress)])


def leave_with_parent() -> None:
    """Send this run a TERM when the launcher is gone, also if it was killed."""
    launcher = multiprocessing.parent_process()

    def watch() -> None:
        if launcher:
            launcher.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
