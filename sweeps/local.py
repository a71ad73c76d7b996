"""The local launcher: trains the runs of a study on this machine, several at a time.

All runs are planned before the first one starts, so a mistake in any of them costs nothing. Finished runs are skipped
and interrupted ones resumed. The longest runs start first, so that none is left to run alone at the end; a run that
branches starts when its trunk has ended.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from data.store.verified import verify_touched
from mixlaw.console import AGAIN, say
from mixlaw.runs.study_status import run_states
from sweeps.describe import describe
from sweeps.jobs import (
    IN_QUEUE,
    Job,
    by_study,
    hydra_returns,
    jobs_memory,
    plan_jobs,
    record,
    require_trunks,
    send_late_logs,
)
from sweeps.processes import Pool
from sweeps.slurm_commands import ask_queue, queued_runs
from train.gpus import gpus_for

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn

FAILED = 1  # exit code of a study with a failed run
N_LAST_LINES = 3  # of a failed run's log


def run_study(
    job_overrides: Sequence[Sequence[str]], n_jobs: int, first_index: int, dry_run: bool = False
) -> "list[JobReturn]":
    """Train all runs of a study; raise SystemExit unless every one is over: 75 if stopped, 1 if a run failed.

    Parameters
    ----------
    job_overrides : the command line of each run
    n_jobs : runs at a time; 0: one per visible GPU, or one per core where there is none
    first_index : Hydra's number of the first run
    dry_run : print what would run, and change nothing

    Raises
    ------
    MixlawError
        If any of the runs is not possible or prepared data are damaged, before anything is trained.
    """
    jobs = plan_jobs(job_overrides)
    if not dry_run:
        require_trunks(jobs)
    for folder, group in by_study(jobs).items():
        if dry_run:
            say(preview(folder, group))
            continue
        queued = queued_runs(folder)
        record(folder, group, queued)
        for job in group:
            job.status = IN_QUEUE if job.run_id in queued else job.status
    return hydra_returns(jobs, first_index) if dry_run else run_jobs(jobs, n_jobs, first_index)


def preview(folder: Path, jobs: Sequence[Job]) -> str:
    """Return what a launch would run: size, mixture, cost and state of every run, and the memory of each size."""
    states = run_states(folder, ask_queue(folder), [job.planned() for job in jobs])
    memory = jobs_memory(jobs, 1 if _gpus(jobs) else 0)
    return "\n".join([describe(folder, states, everything=True), *memory])


def run_jobs(jobs: list[Job], n_jobs: int, first_index: int = 0) -> "list[JobReturn]":
    """Train planned jobs, as `run_study` does."""
    todo = sorted((j for j in jobs if j.status in ("planned", "unfinished")), key=lambda j: -j.flops)
    over = [job for job in jobs if job.is_over]
    _announce(jobs, todo)
    if todo:
        for manifest in {str(job.plan.manifest.folder): job.plan.manifest for job in todo}.values():
            verify_touched(manifest, say)  # once for all runs
        gpus = _gpus(todo)
        Pool(n_jobs or len(gpus) or len(os.sched_getaffinity(0)), gpus).run(todo)
    if not any(j.status == "unfinished" for j in jobs):  # nobody asked to stop
        send_late_logs(over)
    return finish(jobs, first_index)


def _announce(jobs: Sequence[Job], todo: Sequence[Job]) -> None:
    study = jobs[0].plan.config.study_name if jobs else ""
    resumed = sum(j.status == "unfinished" for j in todo)
    queued = sum(j.status == IN_QUEUE for j in jobs)
    done, new = len(jobs) - len(todo) - queued, len(todo) - resumed
    left = f", {queued} left to Slurm, which has them" if queued else ""
    say(f"study {study}: {len(jobs)} runs, {done} done before, {resumed} to resume, {new} new{left}")


def _gpus(jobs: Sequence[Job]) -> list[str]:
    return gpus_for(job.plan.config.machine.device for job in jobs)


def finish(jobs: list[Job], first_index: int) -> "list[JobReturn]":
    """Return Hydra's record of every job, or leave with an exit code if some are not over."""
    left = [j for j in jobs if not j.is_over]
    failed = [j for j in left if j.status not in ("planned", "unfinished", IN_QUEUE)]
    for job in failed:
        tail = job.log.read_text(errors="replace").splitlines()[-N_LAST_LINES:] if job.log.exists() else []
        say(f"  {job.run_id} {job.status}; {job.log} ends: {' / '.join(tail) or 'empty'}")
    if left:
        say(f"{len(left)} of {len(jobs)} runs are not over; the same command continues with them")
        raise SystemExit(FAILED if failed else AGAIN)
    return hydra_returns(jobs, first_index)
