"""Branches: up to its cool-down or its next phase, a run has the same steps as a longer or static run, its trunk.

It can therefore start from a checkpoint of the trunk, and its final weights are identical to those of a run from
scratch. Its own log begins where it leaves the trunk.
"""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixlaw.errors import ConfigError, MixlawError
from mixlaw.runs.log import read_facts
from train.checkpoint import newest_checkpoint, step_of, valid_names
from train.distributed import ALONE, World
from train.plan import Plan

_RUN_ID = re.compile(r"[0-9a-f]{12}")
_ANY_STEP = 1 << 40  # beyond the end of a trunk, which has no checkpoints there
# Settings that may differ: machine, run length and evaluations; the mixture of the first phase is compared below.
_FREE = ("study_name", "machine", "logging", "checkpoint", "data", "schedule", "evaluation", "mixture")
_LIMITS = ("max_epochs", "unique_tokens", "match_repetition")  # of the stream; the pools are compared


def find_trunk(plan: Plan, world: World = ALONE) -> Path | None:
    """Return the newest checkpoint of a trunk before the first step that differs, or None if there is none.

    checkpoint.branch_from is the run directory of the trunk, or a folder of runs, of which the one that saves most is
    the trunk. The first rank chooses it, and all ranks share the hashing of its checkpoint.

    Raises
    ------
    ConfigError
        If checkpoint.branch_from is neither, or is a run that differs in more than later phases and the end of the
        schedule.
    """
    folder, chosen, n_shared = Path(plan.config.checkpoint.branch_from), 0, 0
    is_run = (folder / "run.json").exists()
    with world.together():
        if world.is_first and is_run:
            n_shared = _shared_steps(plan, _checked_trunk(plan, folder))
        elif world.is_first:
            n_shared, chosen = _best_trunk(plan, folder)
    chosen, n_shared = world.maximum(chosen), world.maximum(n_shared)
    trunk = folder if is_run else folder / f"{chosen:012x}"
    return newest_checkpoint(trunk / "checkpoints", n_shared, world) if n_shared else None


def _best_trunk(plan: Plan, folder: Path) -> tuple[int, int]:
    """Return the last step to take from the best trunk in a folder of runs, and its run id; (0, 0) if there is none."""
    runs = [path.parent for path in folder.glob("*/run.json") if _RUN_ID.fullmatch(path.parent.name)]
    if not runs:
        raise ConfigError(f"checkpoint.branch_from: {folder} is no run directory, and no folder of runs")
    found = (0, 0)
    for run in (run for run in runs if run.name != plan.run_id):
        try:
            n_shared = _shared_steps(plan, _checked_trunk(plan, run))
        except MixlawError:  # another experiment
            continue
        steps = [step for path in valid_names(run / "checkpoints") if (step := step_of(path.name)) <= n_shared]
        found = max(found, (max(steps, default=0), int(run.name, 16)))
    return found if found[0] else (0, 0)


def _checked_trunk(plan: Plan, folder: Path) -> dict[str, Any]:
    """Return the trunk's run.json; refuse a trunk that differs from the first step on."""
    facts = read_facts(folder)
    first = plan.phases[0].weights
    ours = _shared(dataclasses.asdict(plan.config), first, plan.data_hashes(), plan.pool_tokens())
    theirs = _shared_of(facts)
    for key in ours.keys() | theirs.keys():
        if ours.get(key) != theirs.get(key):
            raise ConfigError(
                f"checkpoint.branch_from: {folder} differs in {key} ({theirs.get(key)!r:.80} there, "
                f"{ours.get(key)!r:.80} here); only later phases, the end of the schedule and the evaluation may differ"
            )
    return facts


def _shared_steps(plan: Plan, trunk: Mapping[str, Any]) -> int:
    """Return the last step of a run that is also one of its trunk."""
    ours = [(phase.end, _rounded(phase.weights)) for phase in plan.phases]
    theirs = [(phase["step"], _rounded(phase["weights"])) for phase in _phases_of(trunk)]
    step = 0
    for (end, weights), (their_end, their_weights) in zip(ours, theirs, strict=False):
        if weights != their_weights:
            break
        step = min(end, their_end)
        if end != their_end:
            break
    cooldown = trunk["config"]["schedule"].get("cooldown", 0.0)
    return min(step, plan.cooldown_step(), int((1 - cooldown) * theirs[-1][0]))


def _phases_of(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    return facts.get("phases") or [{"step": facts.get("n_steps", _ANY_STEP), "weights": facts["mixture"]}]


def _rounded(mixture: Mapping[str, float]) -> dict[str, float]:
    return {domain: round(weight, 12) for domain, weight in mixture.items()}


def _shared_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    hashes = {name: entry["sha256"] for name, entry in facts["data"].items()}
    pools = {name: entry["n_tokens"] for name, entry in facts["data"].items() if "corpus_tokens" in entry}
    return _shared(facts["config"], _phases_of(facts)[0]["weights"], hashes, pools)


def _shared(
    config: Mapping[str, Any], mixture: Mapping[str, float], data: Mapping[str, str], pools: Mapping[str, int]
) -> dict[str, Any]:
    """Return the facts that trunk and branch must share, as JSON types; `mixture` is that of the first phase."""
    facts = {key: value for key, value in config.items() if key not in _FREE}
    facts["stream"] = {k: v for k, v in config["stream"].items() if k not in _LIMITS}
    facts["schedule.warmup_tokens"] = config["schedule"]["warmup_tokens"]
    facts["evaluation.average"] = config["evaluation"].get("average", 0.0)
    facts |= {"mixture": _rounded(mixture), "data": dict(data), "pools": dict(pools)}
    shared: dict[str, Any] = json.loads(json.dumps(facts))
    return shared
