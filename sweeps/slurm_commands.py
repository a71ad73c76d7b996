"""Calls of Slurm's command line tools: sbatch, scontrol, squeue, sacct and scancel."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from mixlaw.errors import MixlawError
from mixlaw.runs.ledger import read_jobs
from mixlaw.runs.study_status import LIVE, Queue, run_states

MAX_ARRAY_SIZE = 1001  # Slurm's default
PATIENCE_S = 60  # for an answer of Slurm's controller
TASKS_PER_SCANCEL = 1000  # which keeps a command line short enough for the kernel


def submit_array(command: Sequence[str], n_before: int, n_all: int) -> str:
    """Submit one array with sbatch and return its job id.

    Parameters
    ----------
    command : the call of sbatch
    n_before, n_all : how many of how many runs were submitted before, for the error message

    Raises
    ------
    MixlawError
        With the message of sbatch.
    """
    answer = _ask(*command)
    if answer is None or answer.returncode:
        said = " ".join(answer.stderr.replace("sbatch: error: ", "").split()) if answer else "it does not answer"
        before = f"; {n_before} of {n_all} runs were submitted before; the same command continues" if n_before else ""
        raise MixlawError(f"sbatch refused: {said}{before}")
    return answer.stdout.strip().split(";")[0]


def max_array_size() -> int:
    """Return the largest number of tasks that this cluster allows in one array."""
    answer = _ask("scontrol", "show", "config")
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", answer.stdout, re.M) if answer else None
    return max(int(found[1]), 1) if found else MAX_ARRAY_SIZE


def ask_queue(folder: Path, must: bool = False) -> Queue | None:
    """Return what squeue knows of a study's jobs; None if none were submitted, or if Slurm does not answer.

    Parameters
    ----------
    folder : runs/<study>
    must : raise an error if Slurm does not answer

    Raises
    ------
    MixlawError
        If `must` and Slurm does not answer: runs that it still has would be submitted twice.
    """
    jobs = {job.job for job in read_jobs(folder)}
    if not jobs:
        return None
    answer = _ask("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r", f"--jobs={','.join(jobs)}")
    if answer is None or (answer.returncode and "Invalid job id" not in answer.stderr):
        if must:
            raise MixlawError(
                "squeue does not answer, and runs that Slurm still has must not be submitted twice: try again later"
            )
        return None
    lines = (line.split("|") for line in answer.stdout.splitlines())
    return {line[0]: (line[1], line[2]) for line in lines if len(line) == 3}


def queued_runs(folder: Path) -> set[str]:
    """Return the ids of a study's runs that wait or run in Slurm."""
    if not (folder / "jobs.jsonl").exists():
        return set()
    return {s.run.run_id for s in run_states(folder, ask_queue(folder)) if s.in_queue}


def ask_accounting(tasks: Sequence[str]) -> Queue:
    """Return from sacct how tasks ended that squeue no longer lists; empty where the cluster keeps no accounts."""
    jobs = ",".join(sorted({task.split("_")[0] for task in tasks}))
    answer = _ask("sacct", "-X", "-n", "-P", "--format=JobID,State", f"--jobs={jobs}") if jobs else None
    if answer is None or answer.returncode:
        return {}
    lines = (line.split("|") for line in answer.stdout.splitlines())
    ends = {line[0]: (line[1].split()[0], "") for line in lines if len(line) == 2 and line[1]}
    return {task: end for task, end in ends.items() if end[0] not in LIVE}


def cancel(tasks: Sequence[str]) -> None:
    """Cancel tasks with scancel; its TERM lets running ones save first.

    Raises
    ------
    MixlawError
        With the message of scancel.
    """
    for i in range(0, len(tasks), TASKS_PER_SCANCEL):
        answer = _ask("scancel", *tasks[i : i + TASKS_PER_SCANCEL])
        if answer is None or answer.returncode:
            raise MixlawError(f"scancel: {' '.join(answer.stderr.split()) if answer else 'it does not answer'}")


def _ask(*command: str) -> subprocess.CompletedProcess[str] | None:
    """Run a command of Slurm; None where it is not installed or does not answer in time."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
