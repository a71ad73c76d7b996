"""Cool-down branches: up to its cool-down, a run has the same steps as a run at a constant learning rate, its trunk.

It can therefore start from a checkpoint of the trunk, and its final weights are identical to those of a run from
scratch. Its own log begins where it leaves the trunk.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mixlaw.errors import ConfigError
from mixlaw.runs.log import read_facts
from train.checkpoint import newest_checkpoint
from train.distributed import ALONE, World
from train.plan import Plan

# Settings that may differ: machine, run length and evaluations.
_FREE = ("study_name", "machine", "logging", "checkpoint", "data", "schedule", "evaluation", "mixture")


def find_trunk(plan: Plan, world: World = ALONE) -> Path | None:
    """Return the newest checkpoint of the trunk before the cool-down, or None if there is none.

    The first rank checks the trunk, and all ranks share the hashing of its checkpoint.

    Raises
    ------
    ConfigError
        If checkpoint.branch_from is not a run directory, or the run differs in more than the end of the schedule.
    """
    folder = Path(plan.config.checkpoint.branch_from)
    with world.together():
        if world.is_first:
            _check_trunk(plan, folder)
    return newest_checkpoint(folder / "checkpoints", plan.cooldown_step(), world)


def _check_trunk(plan: Plan, folder: Path) -> None:
    """Refuse a trunk that differs in more than the end of the schedule."""
    if not (folder / "run.json").exists():
        raise ConfigError(f"checkpoint.branch_from: {folder} is no run directory (it holds no run.json)")
    facts = read_facts(folder)
    ours, theirs = _shared(dataclasses.asdict(plan.config), plan.weights, plan.data_hashes()), _shared_of(facts)
    for key in ours.keys() | theirs.keys():
        if ours.get(key) != theirs.get(key):
            raise ConfigError(
                f"checkpoint.branch_from: {folder} differs in {key} ({theirs.get(key)!r:.80} there, "
                f"{ours.get(key)!r:.80} here); only the end of the schedule and the evaluation may differ"
            )


def _shared_of(facts: Mapping[str, Any]) -> dict[str, Any]:
    hashes = {name: entry["sha256"] for name, entry in facts["data"].items()}
    return _shared(facts["config"], facts["mixture"], hashes)


def _shared(config: Mapping[str, Any], mixture: Mapping[str, float], data: Mapping[str, str]) -> dict[str, Any]:
    """Return the facts that trunk and branch must share, as JSON types."""
    facts = {key: value for key, value in config.items() if key not in _FREE}
    facts["stream"] = {k: v for k, v in config["stream"].items() if k != "max_epochs"}
    facts["schedule.warmup_tokens"] = config["schedule"]["warmup_tokens"]
    facts["evaluation.average"] = config["evaluation"].get("average", 0.0)
    facts |= {"mixture": {d: round(w, 12) for d, w in mixture.items()}, "data": dict(data)}
    shared: dict[str, Any] = json.loads(json.dumps(facts))
    return shared
