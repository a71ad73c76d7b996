"""Planned runs of a study: `Job`, which the planner, both launchers and `sweeps.status` share.

A job contains the composed configuration, so nothing is composed again after planning. Torch and Hydra are imported
inside functions, because `sweeps.status` imports this module and must start fast.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mixlaw.console import say
from mixlaw.counts import flops
from mixlaw.errors import ConfigError, MixlawError
from mixlaw.runs.ledger import PlannedRun, read_plan, write_plan
from mixlaw.runs.log import read_status
from mixlaw.runs.study_status import former_runs, former_sentence
from sweeps.study_path import path_of

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn

    from data.store.tokens import Manifest
    from train.config import TrainConfig
    from train.plan import Plan

IN_QUEUE = "in Slurm's queue"
OVER = ("finished", "diverged")
ANY_EPOCHS = 1e12  # effectively no limit; settings must be finite


@dataclass
class Job:
    """One planned run of a study.

    Attributes
    ----------
    plan : the resolved configuration, checked against its data
    overrides : the command line of `python -m train` that it was composed from
    n_params : N, all parameters
    status : planned, unfinished, finished or diverged, from its run directory; launchers update it
    n_taken : tokens that its trunk trains, from whose checkpoint it starts
    trunk : the run id of this trunk if it is in the same folder, or ''
    """

    plan: "Plan"
    overrides: list[str]
    n_params: int
    status: str = "planned"
    n_taken: int = 0
    trunk: str = ""

    @property
    def run_id(self) -> str:
        """The name of the run directory."""
        return self.plan.run_id

    @property
    def folder(self) -> Path:
        """The run directory."""
        return self.plan.folder

    @property
    def log(self) -> Path:
        """The log file of all its processes."""
        return self.folder / "log.txt"

    @property
    def flops(self) -> float:
        """Training compute, 6 N times the tokens that it trains itself."""
        return flops(self.n_params, self.plan.n_tokens - self.n_taken)

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to train."""
        return self.status in OVER

    def planned(self) -> PlannedRun:
        """Return the run as its line in the study's ledger."""
        from train.plan import planned_run

        return planned_run(self.plan, self.n_params, self.overrides, self.n_taken, self.trunk)


def plan_jobs(job_overrides: Sequence[Sequence[str]]) -> list[Job]:
    """Compose and check the runs of a study; runs with equal configurations become one job.

    Raises
    ------
    MixlawError
        If any run is not possible: a wrong setting, data that are not prepared, an unknown domain.
    """
    jobs = {str(job.folder): job for job in resolve(job_overrides)}
    for job in jobs.values():
        job.status = read_status(job.folder)
    find_trunks(list(jobs.values()))
    return list(jobs.values())


def find_trunks(jobs: Sequence[Job]) -> None:
    """Set the trunk of every job that branches: the run that saves most, trained, or planned earlier in the list.

    Raises
    ------
    ConfigError
        If a job names one run as its trunk, and they differ from the first step on.
    """
    from train.branch import Trunk, taken_from, trunks_in

    planned: dict[Path, list[Trunk]] = {}
    trained: dict[Path, list[Trunk]] = {}
    for job in jobs:
        if name := job.plan.config.checkpoint.branch_from:
            folder = Path(name).absolute()
            if folder not in trained:
                trained[folder] = trunks_in(folder)
            job.n_taken, trunk = taken_from(job.plan, [*trained[folder], *planned.get(folder, [])])
            job.trunk = trunk if folder == job.folder.parent.absolute() else ""
        if not job.is_over:
            planned.setdefault(job.folder.parent.absolute(), []).append(Trunk.planned(job.plan))


def require_trunks(jobs: Iterable[Job]) -> None:
    """Refuse to launch runs that branch from a folder without runs.

    Raises
    ------
    ConfigError
        Names the folder.
    """
    from train.branch import no_trunks, trunks_in

    here = {job.folder.parent.absolute() for job in jobs}
    named = {Path(name) for job in jobs if (name := job.plan.config.checkpoint.branch_from)}
    for folder in named:
        if folder.absolute() not in here and not trunks_in(folder):
            raise ConfigError(no_trunks(folder))


def resolve(job_overrides: Sequence[Sequence[str]], any_epochs: bool = False) -> list[Job]:
    """Compose one job for each list of overrides; data and models that jobs share are read once.

    Parameters
    ----------
    any_epochs : accept mixtures that repeat a domain more often than `stream.max_epochs`

    Raises
    ------
    MixlawError
        If any run is not possible.
    """
    from train.compose import compose_study

    configs = compose_study(job_overrides)  # keeps shared parts alive, so that their id() stays unique
    shared = _Shared()
    return [shared.job(list(o), config, any_epochs) for o, config in zip(job_overrides, configs, strict=True)]


class _Shared:
    """Caches what jobs have in common: opened data, and the parameter counts of models."""

    def __init__(self) -> None:
        self._manifests: dict[int, Manifest] = {}
        self._n_params: dict[tuple[int, int], int] = {}

    def job(self, overrides: list[str], config: "TrainConfig", any_epochs: bool) -> Job:
        from train.compose import open_data
        from train.models.build import count_of
        from train.plan import make_plan

        data, model = id(config.data), id(config.model)
        if data not in self._manifests:
            self._manifests[data] = open_data(config)
        manifest = self._manifests[data]
        if (model, data) not in self._n_params:
            self._n_params[model, data] = count_of(config.model, manifest.vocab_size, config.layout())["total"]
        allowed = replace(config, stream=replace(config.stream, max_epochs=ANY_EPOCHS)) if any_epochs else config
        plan = replace(make_plan(allowed, manifest), config=config)
        return Job(plan, overrides, self._n_params[model, data])


def by_study(jobs: Sequence[Job]) -> dict[Path, list[Job]]:
    """Return study folder -> its jobs."""
    found: dict[Path, list[Job]] = {}
    for job in jobs:
        found.setdefault(job.folder.parent, []).append(job)
    return found


def record(folder: Path, jobs: Sequence[Job], queued: Iterable[str]) -> None:
    """Write the jobs of one launch into the study's ledger, and report runs of a former version of the study.

    Parameters
    ----------
    folder : runs/<study>
    queued : ids of runs in Slurm's queue, which stay in the ledger
    """
    write_plan(folder, [job.planned() for job in jobs], set(queued), still_planned_beside(folder, jobs))
    if sentence := former_sentence(folder, former_runs(folder)):
        say(f"{sentence}: neither counted nor fitted")


def jobs_memory(jobs: Sequence[Job], n_gpus: int) -> list[str]:
    """Return the estimated memory per GPU of each size, as `python -m train.memory` shows it in full."""
    from train.memory import memory_lines

    runs = [(job.plan.config, job.overrides) for job in jobs]
    return memory_lines(runs, jobs[0].plan.manifest.vocab_size, n_gpus) if jobs else []


def send_late_logs(jobs: Sequence[Job]) -> None:
    """Send logs of finished runs to W&B if they ended before W&B was enabled."""
    from train.late_mirror import send_late

    asked = [(job.folder, job.plan.config.logging) for job in jobs if job.is_over and job.plan.config.logging.wandb]
    done, failed = send_late((folder, logging.project) for folder, logging in asked)
    if done or failed:
        say(f"W&B: {done} logs sent late, {failed} not")


def hydra_returns(jobs: Sequence[Job], first_index: int) -> "list[JobReturn]":
    """Return Hydra's record of every job; jobs that were only planned or submitted to Slurm are not completed.

    Parameters
    ----------
    first_index : Hydra's number of the first job
    """
    from hydra.core.utils import JobReturn, JobStatus

    found = []
    for i, job in enumerate(jobs):
        status = JobStatus.COMPLETED if job.is_over else JobStatus.UNKNOWN
        returned = JobReturn(overrides=job.overrides, status=status)
        returned.return_value = {"run_id": job.run_id, "status": job.status, "index": first_index + i}
        found.append(returned)
    return found


def typed(run: PlannedRun) -> tuple[str, ...]:
    """Return the overrides of a run that were typed on the command line, which follow `study=NAME`."""
    study = f"study={run.plan}"
    return tuple(run.overrides[run.overrides.index(study) + 1 :]) if study in run.overrides else ()


def edited(plans: Iterable[str], since: Path) -> set[str]:
    """Return the studies whose files changed after another file (usually the ledger) was written."""
    if not since.exists():
        return set()
    then = since.stat().st_mtime
    files = {plan: path_of(plan) for plan in plans if plan}
    return {plan for plan, path in files.items() if path.exists() and path.stat().st_mtime > then}


def still_planned(runs: Iterable[PlannedRun]) -> set[str]:
    """Return the ids of runs that the current study files still contain.

    Runs without a study file count as planned, and so do runs whose file or data can no longer be read.
    """
    groups: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for run in runs:
        groups.setdefault((run.plan, typed(run)), set()).add(run.run_id)
    found: set[str] = set()
    for (plan, words), ids in groups.items():
        now = _ids_now(plan, words) if plan and path_of(plan).exists() else None
        found |= ids if now is None else ids & now
    return found


def still_planned_beside(folder: Path, jobs: Sequence[Job]) -> set[str]:
    """Return the runs of a folder that are not among these jobs, but still in the studies of these jobs."""
    new, plans = {job.run_id for job in jobs}, {job.planned().plan for job in jobs}
    return still_planned(run for name, run in read_plan(folder).items() if run.plan in plans and name not in new)


def _ids_now(plan: str, words: tuple[str, ...]) -> set[str] | None:
    """Return the run ids of a study file with some overrides, or None if it cannot be planned any more."""
    from hydra.errors import HydraException

    from sweeps.study_file import grids_of
    from train.grids import combinations

    try:
        params, grids = grids_of(path_of(plan))
        return {job.run_id for job in resolve(combinations(params, grids, [f"study={plan}", *words]))}
    except (MixlawError, HydraException):
        return None
