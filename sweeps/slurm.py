"""A study on a cluster: job arrays by plain sbatch, which are submitted and left alone.

A run is one task of an array, trained by scripts/slurm/sweep.sbatch. What Slurm took stands in the study's ledger, so
a study that is submitted again submits only runs that are neither over nor in the queue. Nothing here waits, and
nothing needs torch; only planning the runs does.
"""

import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mixlaw.errors import ConfigError, MixlawError
from mixlaw.fileio import write_atomically
from mixlaw.runs.ledger import PlannedRun, read_jobs, record_job, write_plan
from mixlaw.runs.study_status import LIVE, Queue, counts, run_states

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn

    from sweeps.local import Job

SCRIPT = Path("scripts/slurm/sweep.sbatch")
MAX_ARRAY_SIZE = 1001  # Slurm's own default
_TIME = re.compile(r"(?:(\d+)-)?(\d+(?::\d+){0,2})")
_UNLIMITED = ("UNLIMITED", "INFINITE", "unlimited", "infinite")
PATIENCE_S = 60  # for Slurm's controller to answer


@dataclass
class SlurmOptions:
    """What to ask Slurm for; an empty option is left to the cluster.

    Attributes
    ----------
    time : limit of one job as Slurm takes it: "hh:mm:ss", "d-hh:mm:ss", or minutes; a run that needs longer saves and
        goes on in the next one. In a YAML file in quotes, as YAML reads 24:00:00 as the number 86400
    nodes, tasks_per_node, gpus_per_node, cpus_per_task : of one run. tasks_per_node 0: one per GPU; 1 where there are
        more GPUs: torchrun starts one process per GPU
    max_running : how many runs of one submission at a time, 0: as many as Slurm lets
    warn_s : how long before its limit a job is told to save [s]
    extra : more arguments of sbatch
    dry_run : print what would be submitted
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    time: str = "04:00:00"
    nodes: int = 1
    tasks_per_node: int = 0
    gpus_per_node: int = 1
    cpus_per_task: int = 8
    mem: str = ""
    max_running: int = 0
    warn_s: int = 180
    extra: list[str] = field(default_factory=list)
    dry_run: bool = False

    def __post_init__(self) -> None:
        least = {"nodes": 1, "tasks_per_node": 0, "gpus_per_node": 0, "cpus_per_task": 1, "max_running": 0, "warn_s": 1}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ConfigError(f"hydra.launcher.{name} is {getattr(self, name)}; it must be at least {low}")
        limit = seconds_of(self.time)
        if limit is not None and limit <= self.warn_s:
            raise ConfigError(
                f"hydra.launcher.time {self.time} is {limit} s, and a job is told to save {self.warn_s} s before that "
                "(hydra.launcher.warn_s): set a longer time, as hh:mm:ss, d-hh:mm:ss or minutes, or a smaller warn_s"
            )

    def arguments(self, folder: Path) -> list[str]:
        """Return the arguments of sbatch."""
        named = {name: getattr(self, name) for name in ("partition", "account", "qos", "constraint", "time", "mem")}
        named |= {"nodes": self.nodes, "ntasks-per-node": self.tasks_per_node or max(self.gpus_per_node, 1)}
        named |= {"gpus-per-node": self.gpus_per_node or "", "cpus-per-task": self.cpus_per_task}
        named |= {"signal": f"B:USR2@{self.warn_s}", "job-name": folder.name, "output": f"{folder}/slurm/%A.log"}
        return [f"--{name}={value}" for name, value in named.items() if value != ""] + list(self.extra)


def seconds_of(time: str) -> int | None:
    """Return a time limit of Slurm's in seconds; None where there is no limit, or the cluster has its own.

    Raises
    ------
    ConfigError
        If Slurm would not understand it.
    """
    if time in ("", "0", *_UNLIMITED):
        return None
    if not (match := _TIME.fullmatch(time)):
        raise ConfigError(
            f"hydra.launcher.time is {time!r}; Slurm takes hh:mm:ss, d-hh:mm:ss, d-hh, mm:ss, minutes or UNLIMITED"
        )
    days, parts = int(match[1] or 0), [int(part) for part in match[2].split(":")]
    first = 0 if match[1] or len(parts) == 3 else 1  # alone they are minutes, or minutes and seconds
    return 86400 * days + sum(part * unit for part, unit in zip(parts, (3600, 60, 1)[first:], strict=False))


def submit_study(job_overrides: Sequence[Sequence[str]], options: SlurmOptions, first_index: int) -> "list[JobReturn]":
    """Plan all runs and hand those to Slurm that are neither over nor in its queue.

    Raises
    ------
    MixlawError
        Before anything is submitted, if any of the runs is not possible; or with what sbatch says.
    """
    from sweeps.local import (
        by_study,
        memory_lines,
        plan_jobs,
        returns,
        say,
        say_former,
        send_unmirrored,
        still_planned_of,
    )
    from sweeps.status import describe

    if not options.dry_run and shutil.which("sbatch") is None:
        raise ConfigError("hydra/launcher=slurm needs sbatch, which is not on PATH: submit from a node of the cluster")
    if not SCRIPT.exists():
        raise ConfigError(f"hydra/launcher=slurm submits {SCRIPT}: run it from the checkout, not from {Path.cwd()}")
    jobs = plan_jobs(job_overrides)
    for folder, group in by_study(jobs).items():
        planned = [job.planned() for job in group]
        queue = ask_queue(folder, must=not options.dry_run)
        states = run_states(folder, queue, planned)
        todo = [s.run for s in states if not s.in_queue and s.state in ("planned", "preempted", "failed")]
        words = ", ".join(f"{n} {state}" for state, n in counts(states).items())
        say(f"study {folder.name}: {len(states)} runs: {words}; {len(todo)} to submit")
        if options.dry_run:
            memory = memory_lines(group, options.nodes * options.gpus_per_node)
            say("\n".join([describe(folder, states, everything=True), *memory]))
        else:
            queued = {s.run.run_id for s in run_states(folder, queue) if s.in_queue}
            write_plan(folder, planned, queued, still_planned_of(folder, group))
            say_former(folder)
        if todo:
            say_unverified([job for job in group if job.plan.run_id in {run.run_id for run in todo}])
        submit(folder, todo, options.arguments(folder), options.max_running, options.dry_run)
        if todo and not options.dry_run:
            name = shlex.quote(str(folder))
            say(f"how far it is: python -m sweeps.status {name}; stop it: python -m sweeps.status cancel {name}")
    if not options.dry_run:
        send_unmirrored([job for job in jobs if job.status in ("finished", "diverged")])
    return returns(jobs, first_index)


def say_unverified(jobs: "Sequence[Job]") -> None:
    """Say which data no run has verified yet: the first run would do so, and the others wait for it on their nodes."""
    from data.store.verified import unverified
    from sweeps.local import say

    for manifest in {str(job.plan.manifest.folder): job.plan.manifest for job in jobs}.values():
        if left := unverified(manifest):
            n_bytes = sum(int(facts["n_bytes"]) for _, facts in left)
            command = f"python -m data.prepare data={manifest.facts.get('name', '...')}"
            what = f"{len(left):,} files ({n_bytes / 1e9:.1f} GB) of {manifest.folder}"
            say(f"  {what} are not verified: `{command}` does that once, before nodes wait for it")


def submit(folder: Path, runs: Sequence[PlannedRun], options: list[str], max_running: int, dry_run: bool) -> None:
    """Submit runs as arrays of at most MaxArraySize, the longest runs first in each; at most max_running run.

    Raises
    ------
    MixlawError
        With what sbatch says, after the arrays that it took were written down.
    """
    from sweeps.local import say

    runs = sorted(runs, key=lambda run: -run.flops)
    size = max_array_size()
    n_arrays = -(-len(runs) // size)
    if n_arrays > 1:
        say(f"  MaxArraySize is {size}: {len(runs)} runs become {n_arrays} arrays")
    lanes = min(n_arrays, max_running or n_arrays)  # arrays side by side share max_running; others wait for one of them
    taken: list[str] = []
    for i in range(n_arrays):
        part = runs[i::n_arrays]
        share = max_running // lanes + (i % lanes < max_running % lanes) if max_running else 0
        array = f"--array=0-{len(part) - 1}" + f"%{share}" * bool(share)
        after = [f"--dependency=afterany:{taken[i - lanes]}"] if i >= lanes else []
        tasks = folder / "slurm" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{i}.tsv"
        command = ["sbatch", "--parsable", array, *after, *options, str(SCRIPT), str(tasks)]
        if dry_run:
            say(f"  {shlex.join(command)}")
            taken.append(f"<{i}>")
            continue
        write_tasks(tasks, folder, part)
        taken.append(_sbatch(command, sum(len(runs[j::n_arrays]) for j in range(i)), len(runs)))
        record_job(folder, taken[-1], [run.run_id for run in part], options, max_running)
        say(f"  job {taken[-1]}: {len(part)} runs{f', {share} at a time' if share else ''}")


def write_tasks(path: Path, folder: Path, runs: Sequence[PlannedRun]) -> None:
    """Write one line per task of an array: run directory and overrides, tabs between.

    Raises
    ------
    ConfigError
        For an override that holds a tab or a line break.
    """
    lines = ["\t".join([str(folder / run.run_id), *run.overrides]) for run in runs]
    for run in runs:
        for override in run.overrides:
            if re.search(r"[\t\n\r]", override):
                raise ConfigError(f"{override!r} holds a tab or a line break, which a task of an array cannot")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, "".join(line + "\n" for line in lines))


def _sbatch(command: list[str], n_before: int, n_all: int) -> str:
    """Submit one array; return its job id."""
    answer = _ask(*command)
    if answer is None or answer.returncode:
        said = " ".join(answer.stderr.replace("sbatch: error: ", "").split()) if answer else "it does not answer"
        before = f"; {n_before} of {n_all} runs were submitted before, and the same command goes on" if n_before else ""
        raise MixlawError(f"sbatch refused: {said}{before}")
    return answer.stdout.strip().split(";")[0]


def max_array_size() -> int:
    """Return how many tasks an array may have."""
    answer = _ask("scontrol", "show", "config")
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", answer.stdout, re.M) if answer else None
    return max(int(found[1]), 1) if found else MAX_ARRAY_SIZE


def ask_queue(folder: Path, must: bool = False) -> Queue | None:
    """Return what Slurm knows of a study's jobs, or None if it has none, or cannot be asked.

    Raises
    ------
    MixlawError
        If it cannot be asked and `must` be: runs that it still has would be submitted twice.
    """
    jobs = {job.job for job in read_jobs(folder)}
    if not jobs:
        return None
    answer = _ask("squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r", f"--jobs={','.join(jobs)}")
    if answer is None or (answer.returncode and "Invalid job id" not in answer.stderr):
        if must:
            raise MixlawError(
                "squeue does not answer, and runs that Slurm still has must not be submitted twice: later"
            )
        return None
    lines = (line.split("|") for line in answer.stdout.splitlines())
    return {line[0]: (line[1], line[2]) for line in lines if len(line) == 3}


def ask_accounting(tasks: Sequence[str]) -> Queue:
    """Return how tasks ended that the queue has forgotten; nothing where the cluster keeps no accounts."""
    jobs = ",".join(sorted({task.split("_")[0] for task in tasks}))
    answer = _ask("sacct", "-X", "-n", "-P", "--format=JobID,State", f"--jobs={jobs}") if jobs else None
    if answer is None or answer.returncode:
        return {}
    lines = (line.split("|") for line in answer.stdout.splitlines())
    ends = {line[0]: (line[1].split()[0], "") for line in lines if len(line) == 2 and line[1]}
    return {task: end for task, end in ends.items() if end[0] not in LIVE}


def cancel(tasks: Sequence[str]) -> None:
    """Cancel tasks; those that run are told to save first, by TERM.

    Raises
    ------
    MixlawError
        With what scancel says.
    """
    for i in range(0, len(tasks), 1000):
        answer = _ask("scancel", *tasks[i : i + 1000])
        if answer is None or answer.returncode:
            raise MixlawError(f"scancel: {' '.join(answer.stderr.split()) if answer else 'it does not answer'}")


def _ask(*command: str) -> subprocess.CompletedProcess[str] | None:
    """Run one of Slurm's commands; None where it is not installed or does not answer."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
