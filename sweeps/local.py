"""The runs of a study on one machine: each in a process of its own, several at a time.

Hydra's basic launcher runs one after the other in one process. Here each run is what `python -m train` with its
overrides would be: its own process, log and exit code. Processes are forked from a server that has imported torch
once. All runs are planned before the first one starts, so a mistake in any of them costs nothing; finished runs are
skipped, runs that were cut off are resumed, and the longest start first so that none is left alone at the end. What is
planned and who tried it stands in the study's ledger (`mixlaw/runs/ledger.py`).
"""

import ctypes
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus

from data.store.verified import verify_touched
from mixlaw.errors import ConfigError
from mixlaw.runs.ledger import PlannedRun, begin_attempt, end_attempt, read_plan, write_plan
from mixlaw.runs.log import read_status
from mixlaw.runs.study_status import former_in_words, former_runs, run_states
from sweeps.former import still_planned
from sweeps.slurm import ask_queue
from sweeps.status import describe
from train.gpus import VARIABLE, visible_gpus

if TYPE_CHECKING:
    from data.store.tokens import Manifest
    from train.plan import Plan

POLL_S = 0.2
LINE_EVERY_S = 10.0
IN_QUEUE = "in Slurm's queue"


@dataclass
class Job:
    """One run of the sweep and how far it is."""

    plan: "Plan"
    overrides: list[str]
    n_params: int
    status: str
    process: ForkServerProcess | None = None
    slot: int = -1

    @property
    def folder(self) -> Path:
        """The run directory."""
        return Path(self.plan.config.machine.runs) / self.plan.folder_name

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    @property
    def flops(self) -> float:
        """6 N D: only to order the runs and to tell how long they take."""
        return 6.0 * self.n_params * self.plan.n_steps * self.plan.tokens_per_step

    def planned(self) -> PlannedRun:
        """Return the run's line in the ledger."""
        chosen = [o.partition("=")[2] for o in self.overrides if o.startswith("study=")]
        n_tokens = round(self.plan.n_steps * self.plan.tokens_per_step)
        run_id, weights, seed = self.plan.run_id, self.plan.weights, self.plan.config.seed
        return PlannedRun(
            run_id, chosen[0] if chosen else "", self.overrides, self.n_params, n_tokens, self.flops, weights, seed
        )


def run_study(
    job_overrides: Sequence[Sequence[str]], n_jobs: int, first_index: int, dry_run: bool = False
) -> list[JobReturn]:
    """Run all jobs; raise SystemExit unless every one is over: 75 if they were stopped, 1 if one failed.

    Parameters
    ----------
    job_overrides : the command line of each run
    n_jobs : how many at a time; 0: one per GPU that is visible, or one per core where there is none
    first_index : Hydra's number of the first of them
    dry_run : print what would run, and do nothing

    Raises
    ------
    MixlawError
        Before anything is trained, if any of the runs is not possible, or prepared data are damaged.
    """
    jobs = plan_jobs(job_overrides)
    for folder, runs in by_study(jobs).items():
        if dry_run:
            states = run_states(folder, ask_queue(folder), [job.planned() for job in runs])
            say("\n".join([describe(folder, states, everything=True), *memory_lines(runs, 1 if gpus_for(runs) else 0)]))
        else:
            queued = queued_runs(folder)
            write_plan(folder, [job.planned() for job in runs], queued, still_planned_of(folder, runs))
            say_former(folder)
            for job in runs:
                job.status = IN_QUEUE if job.plan.run_id in queued else job.status
    return returns(jobs, first_index) if dry_run else run_jobs(jobs, n_jobs, first_index)


def memory_lines(jobs: Sequence[Job], n_gpus: int) -> list[str]:
    """Return how much memory each size needs on one of the GPUs of a run, as `python -m train.memory` tells in full."""
    from train.memory import sizes_of

    if not n_gpus:
        return []
    names = [
        next((o.partition("=")[2] for o in j.overrides if o.startswith(("experiment=", "model="))), "") for j in jobs
    ]
    configs = [job.plan.config for job in jobs]
    lines = []
    for size in sizes_of(list(zip(names, configs, strict=True)), jobs[0].plan.manifest.vocab_size, n_gpus):
        try:
            words = f"{size.footprint().total / 1e9:.1f} GB on each of {n_gpus} GPUs, estimated"
        except ConfigError as error:
            words = str(error)
        lines.append(f"memory of {size.name}: {words}")
    return lines


def run_jobs(jobs: list[Job], n_jobs: int, first_index: int = 0) -> list[JobReturn]:
    """Run planned jobs, as `run_study` does."""
    todo = sorted((j for j in jobs if j.status in ("planned", "unfinished")), key=lambda j: -j.flops)
    study = jobs[0].plan.config.study_name if jobs else ""
    resumed = sum(j.status == "unfinished" for j in todo)
    queued = sum(j.status == IN_QUEUE for j in jobs)
    done, new = len(jobs) - len(todo) - queued, len(todo) - resumed
    left = f", {queued} left to Slurm, which has them" if queued else ""
    over = [j for j in jobs if j.status in ("finished", "diverged")]
    say(f"study {study}: {len(jobs)} runs, {done} done before, {resumed} to resume, {new} new{left}")
    if todo:
        for manifest in {str(job.plan.manifest.folder): job.plan.manifest for job in todo}.values():
            verify_touched(manifest, say)  # once for all of them
        gpus = gpus_for(todo)
        Pool(n_jobs or len(gpus) or len(os.sched_getaffinity(0)), gpus).run(todo)
    if not any(j.status == "unfinished" for j in jobs):  # nobody asked to stop
        send_unmirrored(over)
    return finish(jobs, first_index)


def send_unmirrored(jobs: Sequence[Job]) -> None:
    """Send the logs of runs to W&B that were over before it was asked for."""
    from train.late_mirror import send_late

    asked = [(job.folder, job.plan.config.logging) for job in jobs if job.plan.config.logging.wandb]
    done, failed = send_late((folder, logging.project) for folder, logging in asked)
    if done or failed:
        say(f"W&B: {done} logs sent late, {failed} not")


def by_study(jobs: Sequence[Job]) -> dict[Path, list[Job]]:
    """Return the folder of each study -> its jobs."""
    found: dict[Path, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.folder.parent, []).append(job)
    return found


def queued_runs(folder: Path) -> set[str]:
    """Return the ids of a study's runs that Slurm has."""
    if not (folder / "jobs.jsonl").exists():
        return set()
    return {s.run.run_id for s in run_states(folder, ask_queue(folder)) if s.in_queue}


def still_planned_of(folder: Path, jobs: Sequence[Job]) -> set[str]:
    """Return the runs of a folder that the studies of some jobs describe, though these jobs do not hold them."""
    new, plans = {job.plan.run_id for job in jobs}, {job.planned().plan for job in jobs}
    return still_planned(run for name, run in read_plan(folder).items() if run.plan in plans and name not in new)


def say_former(folder: Path) -> None:
    """Name the runs of a former version of a study."""
    if sentence := former_in_words(folder, former_runs(folder)):
        say(f"{sentence}: neither counted nor fitted")


def plan_jobs(job_overrides: Sequence[Sequence[str]]) -> list[Job]:
    """Compose and check every run; the same run twice is one run."""
    from train.compose import compose_study, open_data
    from train.models.build import count_of
    from train.plan import make_plan

    jobs: dict[str, Job] = {}
    configs = compose_study(job_overrides)  # they live on below, so the ids of the parts that they share stay theirs
    manifests: dict[int, Manifest] = {}
    sizes: dict[tuple[int, int], int] = {}
    for overrides, config in zip(job_overrides, configs, strict=True):
        data, model = id(config.data), id(config.model)
        if data not in manifests:
            manifests[data] = open_data(config)
        plan = make_plan(config, manifests[data])
        if (model, data) not in sizes:
            sizes[model, data] = count_of(config.model, plan.manifest.vocab_size, config.layout())["total"]
        folder = Path(config.machine.runs) / plan.folder_name
        jobs[str(folder)] = Job(plan, list(overrides), sizes[model, data], read_status(folder))
    return list(jobs.values())


class Pool:
    """Keeps n processes busy and shows how far they are.

    Parameters
    ----------
    n_jobs : processes at a time
    gpus : what they share, as CUDA_VISIBLE_DEVICES names them; process i gets GPU i modulo their number
    """

    def __init__(self, n_jobs: int, gpus: Sequence[str] = ()) -> None:
        self._n_jobs, self._gpus = n_jobs, gpus
        self._context = multiprocessing.get_context("forkserver")
        # every optimizer imports torch._dynamo, for 1.5 s of each run if the server had not
        self._context.set_forkserver_preload(["train.loop", "train.compose", "torch._dynamo"])
        self._tokens = self._context.RawArray("d", n_jobs)  # no lock: each slot has one writer

    def run(self, todo: list[Job]) -> None:
        """Start every job and wait for all; a signal stops the running ones, which save first."""
        from tqdm import tqdm

        from train.preempt import StopRequest

        waiting, running = list(todo), list[Job]()
        total = sum(j.flops for j in todo)
        bar = tqdm(total=total, unit="FLOP", unit_scale=True, desc="runs", disable=not sys.stderr.isatty())
        over, started, last_line = 0.0, time.monotonic(), time.monotonic()
        try:
            with StopRequest() as request:
                while (waiting or running) and not request.signal:
                    while waiting and len(running) < self._n_jobs:
                        running.append(self._start(waiting.pop(0), {j.slot for j in running}))
                    time.sleep(POLL_S)
                    for job in [j for j in running if j.process and not j.process.is_alive()]:
                        running.remove(job)
                        over += job.flops
                        note_killed(job)
                        job.status = status_of(job, bool(request.signal))
                        self._report(job, len(todo) - len(waiting) - len(running), len(todo), bar)
                    bar.n = min(over + sum(self._progress(j) for j in running), total)
                    bar.update(0)
                    if bar.disable and time.monotonic() - last_line > LINE_EVERY_S and bar.n > 0:
                        last_line = time.monotonic()
                        left = (last_line - started) * (total / bar.n - 1)
                        say(f"  {bar.n / total:4.0%} of the FLOPs, about {left:.0f} s to go")
        finally:
            stop(running)
            bar.close()

    def _start(self, job: Job, taken: set[int]) -> Job:
        job.slot = min(set(range(self._n_jobs)) - taken)
        self._tokens[job.slot] = 0.0
        gpu = self._gpus[job.slot % len(self._gpus)] if self._gpus else None
        arguments = (job.overrides, str(job.folder), job.slot, self._tokens, dict(os.environ), gpu)
        job.process = self._context.Process(target=run_job, args=arguments, daemon=False)
        job.process.start()
        return job

    def _progress(self, job: Job) -> float:
        return job.flops * min(self._tokens[job.slot] / (job.plan.n_steps * job.plan.tokens_per_step), 1.0)

    def _report(self, job: Job, n_over: int, n_all: int, bar: Any) -> None:
        shares = " ".join(f"{d} {w:.2f}" for d, w in job.plan.weights.items())
        bar.clear()
        say(f"  [{n_over}/{n_all}] {job.plan.run_id} width {job.plan.config.model.width:<4} {shares}: {job.status}")


def status_of(job: Job, stopping: bool) -> str:
    """Return what a process's exit code says; Ctrl-C reaches it too, maybe before it can save."""
    code = job.process.exitcode if job.process else 1
    statuses = {0: "finished", 75: "unfinished", 76: "diverged"}
    return statuses.get(code or 0, "unfinished" if stopping else f"failed (exit {code})")


def note_killed(job: Job) -> None:
    """Write down the end of a process that could not do so itself."""
    if job.process and (job.process.exitcode or 0) < 0:
        end_attempt(job.folder, job.process.exitcode or 0)


def run_job(
    overrides: list[str],
    folder: str,
    slot: int,
    tokens: "ctypes.Array[ctypes.c_double]",
    environment: dict[str, str],
    gpu: str | None,
) -> None:
    """Be one `python -m train OVERRIDES`: own log, own GPU, real exit code."""
    os.environ.clear()  # of the time when the server of these processes was started, which other studies may have been
    os.environ.update(environment)
    place = f"process {os.getpid()} on {socket.gethostname()}"
    if gpu is not None:
        os.environ[VARIABLE] = gpu  # before anything asks CUDA, which reads it once
        place += f", GPU {os.environ[VARIABLE]}"
    begin_attempt(Path(folder), place)
    code = 1
    try:
        code = train_into(Path(folder) / "log.txt", overrides, slot, tokens)
    finally:
        end_attempt(Path(folder), code)
    sys.exit(code)


def train_into(log: Path, overrides: list[str], slot: int, tokens: "ctypes.Array[ctypes.c_double]") -> int:
    """Train one run, all words into its log; return the exit code."""
    with log.open("a", buffering=1) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from train.__main__ import EXIT_CODES, in_words
    from train.compose import compose_config, plan_run
    from train.loop import run

    def progress(n_tokens: int, loss: float) -> None:
        tokens[slot] = float(n_tokens)

    leave_with_parent()
    return in_words(lambda: EXIT_CODES[run(plan_run(compose_config(overrides)), progress)])


def leave_with_parent() -> None:
    """Ask this run to save and stop when the sweep is gone, also when it was killed."""
    sweep = multiprocessing.parent_process()

    def watch() -> None:
        if sweep:
            sweep.join()
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def stop(running: list[Job]) -> None:
    """Ask running jobs to save and leave, and wait for them."""
    if running:
        say(f"stopping: {len(running)} runs save and leave; the same command goes on from here")
    processes = [job.process for job in running if job.process]
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(60)
    for job in running:
        note_killed(job)
        job.status = "unfinished"


def finish(jobs: list[Job], first_index: int) -> list[JobReturn]:
    """Return Hydra's record of every job, or leave with an exit code that says that some are not over."""
    left = [j for j in jobs if j.status not in ("finished", "diverged")]
    failed = [j for j in left if j.status not in ("planned", "unfinished", IN_QUEUE)]
    for job in failed:
        tail = job.log.read_text(errors="replace").splitlines()[-3:] if job.log.exists() else []
        say(f"  {job.plan.run_id} {job.status}; {job.log} ends: {' / '.join(tail) or 'empty'}")
    if left:
        say(f"{len(left)} of {len(jobs)} runs are not over; the same command goes on with them")
        raise SystemExit(1 if failed else 75)
    return returns(jobs, first_index)


def returns(jobs: Sequence[Job], first_index: int) -> list[JobReturn]:
    """Return what Hydra wants to know of every job; it is not over if it was only planned or handed to Slurm."""
    found = []
    for i, job in enumerate(jobs):
        over = job.status in ("finished", "diverged")
        record = JobReturn(overrides=job.overrides, status=JobStatus.COMPLETED if over else JobStatus.UNKNOWN)
        record.return_value = {"run_id": job.plan.run_id, "status": job.status, "index": first_index + i}
        found.append(record)
    return found


def gpus_for(jobs: Sequence[Job]) -> list[str]:
    """Return the visible GPUs, one of which each process gets; none where all runs are to use CPUs."""
    import torch

    if all(job.plan.config.machine.device == "cpu" for job in jobs):
        return []
    return visible_gpus(torch.cuda.device_count(), os.environ)


def say(text: str) -> None:
    """Print a line at once, also into a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
