"""Runs the tasks of a stage in jobs of a Slurm cluster, submitted as arrays with submitit.

A job works through every n-th task with worker processes. A task leaves its result as a file, so a job that Slurm
requeues, or that replaces a killed one, does what is still missing.
"""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data.demo_corpora.wheels import Echo
from data.preparation.workers import Runner, Task, WorkerKilled, worker_processes
from mixlaw.errors import ConfigError, DataError, MixlawError

if TYPE_CHECKING:
    import submitit

POLL_S = 2.0
MOST_ROUNDS = 3  # of jobs that end without finishing a task
MOST_TIMEOUTS = 100  # after which submitit gives a job up
JOB = "job"  # file in the work folder with the id of the last array


@dataclass
class SlurmOptions:
    """Resources of one job; an empty option is left to the cluster's default.

    Attributes
    ----------
    time : time limit of one job in minutes; a job that needs longer is requeued and continues
    max_running : jobs
    extra : more options of sbatch, without their dashes: {"reservation": "data"}
    """

    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    time: int = 240
    cpus_per_task: int = 8
    mem: str = ""
    max_running: int = 4
    extra: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("time", "cpus_per_task", "max_running"):
            if getattr(self, name) < 1:
                raise ConfigError(f"hydra.launcher.{name} is {getattr(self, name)}; it must be at least 1")


@dataclass(frozen=True)
class Share:
    """The tasks of one job.

    Attributes
    ----------
    n_processes : worker processes of the job
    """

    function: Callable[[Any], None]
    tasks: Sequence[Any]
    n_processes: int

    def __call__(self) -> str:
        """Do the tasks whose results are missing; return the message of an error that the user can cause.

        A killed worker is none: Slurm ends the processes of a job that it requeues, and results that are missing show.
        """
        try:
            with worker_processes(self.n_processes) as run:
                for _ in run(self.function, [task for task in self.tasks if not task.is_done]):
                    pass
        except WorkerKilled:
            return ""
        except (MixlawError, OSError) as error:
            return str(error) or type(error).__name__
        return ""

    def checkpoint(self) -> "submitit.helpers.DelayedSubmission":
        """Return what submitit puts back into the queue near the time limit: the same tasks."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@contextmanager
def slurm_jobs(options: SlurmOptions, work: Path, echo: Echo) -> Iterator[Runner]:
    """Yield what runs tasks in Slurm jobs, whose logs are in the work folder; cancel them if the block fails."""
    try:
        import submitit
    except ImportError:
        raise ConfigError("hydra/launcher=slurm needs submitit: pip install -e '.[train,cluster]'") from None
    if shutil.which("sbatch") is None:
        raise ConfigError("hydra/launcher=slurm needs sbatch, which is not on PATH: submit from a node of the cluster")
    _cancel(work)  # jobs of a process that was killed
    executor = submitit.SlurmExecutor(work / "slurm", max_num_timeout=MOST_TIMEOUTS)
    named = {name: getattr(options, name) for name in ("partition", "account", "qos", "constraint", "mem")}
    executor.update_parameters(
        **{name: value for name, value in named.items() if value},
        job_name="data.prepare",
        time=options.time,
        cpus_per_task=options.cpus_per_task,
        ntasks_per_node=1,
        array_parallelism=options.max_running,
        stderr_to_stdout=True,
        additional_parameters={"requeue": True} | options.extra,
    )
    try:
        yield partial(_in_jobs, executor, options, work, echo)
    except BaseException:
        _cancel(work)
        raise


def _in_jobs(
    executor: "submitit.SlurmExecutor",
    options: SlurmOptions,
    work: Path,
    echo: Echo,
    function: Callable[[Task], None],
    tasks: Sequence[Task],
) -> Iterator[Task]:
    left, n_fruitless = list(tasks), 0
    while left:
        n_before, n_jobs = len(left), min(options.max_running, len(left))
        jobs = _submit(executor, [Share(function, left[i::n_jobs], options.cpus_per_task) for i in range(n_jobs)])
        (work / JOB).write_text(_array(jobs))
        echo(f"job {_array(jobs)}: {n_before:,} tasks in {n_jobs} jobs; logs: {work / 'slurm'}")
        for finished in _watched(jobs, left):
            left.remove(finished)
            yield finished
        n_fruitless = n_fruitless + 1 if len(left) == n_before else 0
        if n_fruitless == MOST_ROUNDS:
            raise DataError(f"{MOST_ROUNDS} times, the jobs ended without finishing a task: see {jobs[0].paths.stdout}")


def _submit(executor: "submitit.SlurmExecutor", shares: Sequence[Share]) -> "list[submitit.Job[str]]":
    from submitit.core.utils import FailedJobError

    try:
        with executor.batch():
            return [executor.submit(share) for share in shares]
    except FailedJobError as error:
        said = re.sub("sbatch: error: ", "", str(error)).split("\n")
        raise DataError(f"sbatch refused: {' '.join(filter(None, said))}") from None


def _array(jobs: "Sequence[submitit.Job[str]]") -> str:
    return str(jobs[0].job_id).partition("_")[0]


def _watched(jobs: "Sequence[submitit.Job[str]]", tasks: Sequence[Task]) -> Iterator[Task]:
    """Yield the tasks as they are finished, until all are, or Slurm has none of the jobs any more."""
    left, is_alive = list(tasks), True
    while left and is_alive:
        time.sleep(POLL_S)
        is_alive = _is_alive(jobs)  # before the results are looked for
        finished = [task for task in left if task.is_done]
        left = [task for task in left if task not in finished]
        yield from finished
        for job in jobs:
            _raise_error_of(job)


def _is_alive(jobs: "Sequence[submitit.Job[str]]") -> bool:
    """Return whether a job waits or runs; sacct, which submitit asks, needs an accounting database."""
    answer = subprocess.run(
        ["squeue", "--noheader", "--format=%T", f"--jobs={_array(jobs)}"], capture_output=True, text=True, check=False
    )
    is_unknown = "Invalid job id" in answer.stderr
    return bool(answer.stdout.strip()) if not answer.returncode else not is_unknown


def _raise_error_of(job: "submitit.Job[str]") -> None:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    if not job.paths.result_pickle.exists():
        return
    try:
        message = job.result()
    except (FailedJobError, UncompletedJobError):
        message = f"job {job.job_id} failed: see {job.paths.stdout}"
    if message:
        raise DataError(message)


def _cancel(work: Path) -> None:
    """Cancel the last array, if it is not over."""
    if (work / JOB).exists():
        subprocess.run(["scancel", (work / JOB).read_text()], capture_output=True, check=False)
        (work / JOB).unlink()
