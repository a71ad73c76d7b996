"""Which planned runs a `study=` file still describes: after an edit, runs of its former version are not the study's."""

from collections.abc import Iterable
from pathlib import Path

from mixlaw.errors import MixlawError
from mixlaw.runs.ledger import PlannedRun
from sweeps.study_path import path_of


def typed(run: PlannedRun) -> tuple[str, ...]:
    """Return what a person typed beside `study=` when a run was launched: what stands after it."""
    words = f"study={run.plan}"
    return tuple(run.overrides[run.overrides.index(words) + 1 :]) if words in run.overrides else ()


def edited(plans: Iterable[str], since: Path) -> set[str]:
    """Return the studies whose file is newer than another file, the plan of their runs."""
    if not since.exists():
        return set()
    then = since.stat().st_mtime
    files = {plan: path_of(plan) for plan in plans if plan}
    return {plan for plan, path in files.items() if path.exists() and path.stat().st_mtime > then}


def still_planned(runs: Iterable[PlannedRun]) -> set[str]:
    """Return the ids of those runs that their `study=` files describe as they are now.

    A run without a file, and one whose file or data cannot be read any more, counts as planned.
    """
    groups: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    for run in runs:
        groups.setdefault((run.plan, typed(run)), set()).add(run.run_id)
    found: set[str] = set()
    for (plan, words), names in groups.items():
        now = _ids_now(plan, words) if plan and path_of(plan).exists() else None
        found |= names if now is None else names & now
    return found


def _ids_now(plan: str, words: tuple[str, ...]) -> set[str] | None:
    """Return the run ids that training this plan with these words would have, or None if it would refuse."""
    from hydra.errors import HydraException

    from sweeps.grids import combinations
    from sweeps.study_file import grids_of
    from train.compose import compose_study, open_data
    from train.plan import make_plan

    try:
        params, grids = grids_of(path_of(plan))
        configs = compose_study(combinations(params, grids, [f"study={plan}", *words]))
        manifests = {id(config.data): config for config in configs}
        opened = {key: open_data(config) for key, config in manifests.items()}
        return {make_plan(config, opened[id(config.data)]).run_id for config in configs}
    except (MixlawError, HydraException):
        return None
