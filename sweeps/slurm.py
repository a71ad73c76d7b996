"""The Slurm launcher: submits a study as job arrays with sbatch and returns at once.

Each run is one task of an array, trained by scripts/slurm/sweep.sbatch. The study's ledger records what Slurm accepted,
so submitting a study again submits only runs that are neither over nor in the queue.
"""

import os
import re
import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mixlaw.console import say
from mixlaw.errors import ConfigError
from mixlaw.fileio import write_atomically
from mixlaw.runs.ledger import PlannedRun, record_job
from mixlaw.runs.study_status import RunState, counts, run_states
from sweeps.describe import describe
from sweeps.jobs import Job, by_study, hydra_returns, jobs_memory, plan_jobs, record, require_trunks, send_late_logs
from sweeps.slurm_commands import ask_queue, max_array_size, submit_array

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn

SCRIPT = Path("scripts/slurm/sweep.sbatch")
TO_SUBMIT = ("planned", "preempted", "failed")  # states of runs that a launch hands to Slurm, unless Slurm has them
_TIME = re.compile(r"(?:(\d+)-)?(\d+(?::\d+){0,2})")
_UNLIMITED = ("UNLIMITED", "INFINITE", "unlimited", "infinite")


@dataclass
class SlurmOptions:
    """Resources to request from Slurm; an empty option is left to the cluster's default.

    Attributes
    ----------
    time : time limit of one job in Slurm's format: "hh:mm:ss", "d-hh:mm:ss", or minutes. A run that needs longer saves
        and is requeued. Quote it in a YAML file: YAML reads 24:00:00 as the number 86400
    nodes, tasks_per_node, gpus_per_node, cpus_per_task : of one run. tasks_per_node 0: one task per GPU; 1 with several
        GPUs: torchrun starts one process per GPU
    max_running : runs of one submission that may run at a time; 0: no limit
    warn_s : seconds before its time limit at which a job is told to save
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
                "(hydra.launcher.warn_s): set a longer time (hh:mm:ss, d-hh:mm:ss or minutes) or a smaller warn_s"
            )

    def arguments(self, folder: Path) -> list[str]:
        """Return the arguments of sbatch."""
        named = {name: getattr(self, name) for name in ("partition", "account", "qos", "constraint", "time", "mem")}
        named |= {"nodes": self.nodes, "ntasks-per-node": self.tasks_per_node or max(self.gpus_per_node, 1)}
        named |= {"gpus-per-node": self.gpus_per_node or "", "cpus-per-task": self.cpus_per_task}
        named |= {"signal": f"B:USR2@{self.warn_s}", "job-name": folder.name, "output": f"{folder}/slurm/%A.log"}
        return [f"--{name}={value}" for name, value in named.items() if value != ""] + list(self.extra)


def seconds_of(time: str) -> int | None:
    """Return a time limit in Slurm's format in seconds; None if it is unlimited or left to the cluster.

    Raises
    ------
    ConfigError
        If the format is not one of Slurm's.
    """
    if time in ("", "0", *_UNLIMITED):
        return None
    if not (match := _TIME.fullmatch(time)):
        raise ConfigError(
            f"hydra.launcher.time is {time!r}; Slurm takes hh:mm:ss, d-hh:mm:ss, d-hh, mm:ss, minutes or UNLIMITED"
        )
    days, parts = int(match[1] or 0), [int(part) for part in match[2].split(":")]
    first = 0 if match[1] or len(parts) == 3 else 1  # without days, one part is minutes, two are minutes and seconds
    return 86400 * days + sum(part * unit for part, unit in zip(parts, (3600, 60, 1)[first:], strict=False))


def submit_study(job_overrides: Sequence[Sequence[str]], options: SlurmOptions, first_index: int) -> "list[JobReturn]":
    """Plan all runs of a study and submit those that are neither over nor in Slurm's queue.

    Parameters
    ----------
    job_overrides : the command line of each run
    first_index : Hydra's number of the first run

    Raises
    ------
    MixlawError
        If any of the runs is not possible, before anything is submitted; or with the message of sbatch.
    """
    if not options.dry_run and shutil.which("sbatch") is None:
        raise ConfigError("hydra/launcher=slurm needs sbatch, which is not on PATH: submit from a node of the cluster")
    if not SCRIPT.exists():
        raise ConfigError(f"hydra/launcher=slurm submits {SCRIPT}: run it from the checkout, not from {Path.cwd()}")
    jobs = plan_jobs(job_overrides)
    if not options.dry_run:
        require_trunks(jobs)
    for folder, group in by_study(jobs).items():
        _submit_group(folder, group, options)
    if not options.dry_run:
        send_late_logs(jobs)
    return hydra_returns(jobs, first_index)


def _submit_group(folder: Path, jobs: Sequence[Job], options: SlurmOptions) -> None:
    """Submit the jobs of one study folder, or print what would be submitted."""
    planned = [job.planned() for job in jobs]
    queue = ask_queue(folder, must=not options.dry_run)
    states = run_states(folder, queue, planned)
    todo = [s.run for s in states if not s.in_queue and s.state in TO_SUBMIT]
    _announce(folder, states, len(todo))
    if options.dry_run:
        memory = jobs_memory(jobs, options.nodes * options.gpus_per_node)
        say("\n".join([describe(folder, states, everything=True), *memory]))
    else:
        record(folder, jobs, queued=[s.run.run_id for s in run_states(folder, queue) if s.in_queue])
    ids = {run.run_id for run in todo}
    say_unverified([job for job in jobs if job.run_id in ids])
    submit(folder, todo, options.arguments(folder), options.max_running, options.dry_run)
    if todo and not options.dry_run:
        name = shlex.quote(str(folder))
        say(f"progress: python -m sweeps.status {name}; stop it: python -m sweeps.status cancel {name}")


def _announce(folder: Path, states: Sequence[RunState], n_todo: int) -> None:
    found = ", ".join(f"{n} {state}" for state, n in counts(states).items())
    say(f"study {folder.name}: {len(states)} runs: {found}; {n_todo} to submit")


def say_unverified(jobs: Sequence[Job]) -> None:
    """Name data whose hashes no run has verified yet: otherwise the first run does so while other nodes wait."""
    from data.store.verified import unverified

    for manifest in {str(job.plan.manifest.folder): job.plan.manifest for job in jobs}.values():
        if left := unverified(manifest):
            n_bytes = sum(int(facts["n_bytes"]) for _, facts in left)
            command = f"python -m data.prepare data={manifest.facts.get('name', '...')}"
            what = f"{len(left):,} files ({n_bytes / 1e9:.1f} GB) of {manifest.folder}"
            say(f"  {what} are not verified: `{command}` does that once, before nodes wait for it")


def submit(
    folder: Path, runs: Sequence[PlannedRun], arguments: Sequence[str], max_running: int, dry_run: bool = False
) -> None:
    """Submit runs as job arrays no longer than MaxArraySize, the longest runs first in each.

    Arrays that run side by side share `max_running`; further arrays depend on one of those, and arrays of runs that
    branch on all arrays of their trunks.

    Parameters
    ----------
    folder : runs/<study>
    arguments : of sbatch
    max_running : runs that may run at a time; 0: no limit

    Raises
    ------
    MixlawError
        With the message of sbatch, after the accepted arrays were recorded.
    """
    ids = {run.run_id for run in runs}
    trunks, branches = ([run for run in runs if (run.trunk in ids) == branching] for branching in (False, True))
    before = _submit_arrays(folder, trunks, arguments, max_running, dry_run, [])
    _submit_arrays(folder, branches, arguments, max_running, dry_run, before)


def _submit_arrays(
    folder: Path,
    runs: Sequence[PlannedRun],
    arguments: Sequence[str],
    max_running: int,
    dry_run: bool,
    before: Sequence[str],
) -> list[str]:
    """Submit runs that do not depend on each other, after some jobs have ended; return the ids of their arrays."""
    runs = sorted(runs, key=lambda run: -run.flops)
    size = max_array_size()
    n_arrays = -(-len(runs) // size)
    if n_arrays > 1:
        say(f"  MaxArraySize is {size}: {len(runs)} runs become {n_arrays} arrays")
    lanes = min(n_arrays, max_running or n_arrays)
    taken: list[str] = []
    n_before = 0
    for i in range(n_arrays):
        part = runs[i::n_arrays]
        share = max_running // lanes + (i % lanes < max_running % lanes) if max_running else 0
        array = f"--array=0-{len(part) - 1}" + f"%{share}" * bool(share)
        ahead = [taken[i - lanes]] if i >= lanes else before
        after = [f"--dependency=afterany:{':'.join(ahead)}"] if ahead else []
        number = len(before) + i
        tasks = folder / "slurm" / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{number}.tsv"
        command = ["sbatch", "--parsable", array, *after, *arguments, str(SCRIPT), str(tasks)]
        if dry_run:
            say(f"  {shlex.join(command)}")
            taken.append(f"<{number}>")
            continue
        write_tasks(tasks, folder, part)
        taken.append(submit_array(command, n_before, len(runs)))
        record_job(folder, taken[-1], [run.run_id for run in part], arguments, max_running)
        say(f"  job {taken[-1]}: {len(part)} runs{f', {share} at a time' if share else ''}")
        n_before += len(part)
    return taken


def write_tasks(path: Path, folder: Path, runs: Sequence[PlannedRun]) -> None:
    """Write the task file of an array: one line per task with run directory and overrides, separated by tabs.

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
