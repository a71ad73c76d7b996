"""Branches: up to its cool-down or its next phase, a run has the same steps as a longer or static run, its trunk.

It can therefore start from a checkpoint of the trunk, and its final weights are identical to those of a run from
scratch. Its own log begins where it leaves the trunk.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixlaw.errors import ConfigError, MixlawError
from mixlaw.runs.log import read_facts
from train.checkpoint import newest_checkpoint, step_of, valid_names
from train.config import ModelConfig
from train.distributed import ALONE, World
from train.plan import Plan

_RUN_ID = re.compile(r"[0-9a-f]{12}")
_ANY_STEP = 1 << 40  # beyond the end of a trunk, which has no checkpoints there
# Settings that may differ: machine, run length and evaluations. The mixture of the first phase, and the hash of the
# weights that a run starts from, are compared below.
_FREE = ("study_name", "machine", "logging", "checkpoint", "data", "schedule", "evaluation", "mixture", "init_from")
_LIMITS = ("max_epochs", "unique_tokens", "match_repetition")  # of the stream; the pools are compared


@dataclass(frozen=True)
class Trunk:
    """A run, trained or planned, that others may start from.

    Attributes
    ----------
    folder : its run directory
    shared : the facts that its branches must share
    phases : the last step and the mixture of each phase
    full_rate : its last step at the full learning rate
    kept : steps of its checkpoints
    """

    folder: Path
    shared: Mapping[str, Any]
    phases: list[tuple[int, dict[str, float]]]
    full_rate: int
    kept: list[int]

    @classmethod
    def planned(cls, plan: Plan) -> "Trunk":
        """Return a planned run with the checkpoints that it will keep for good."""
        config, first = dataclasses.asdict(plan.config), plan.phases[0].weights
        phases = [(phase.end, _rounded(phase.weights)) for phase in plan.phases]
        origin = plan.origin.sha256 if plan.origin else ""
        shared = _shared(config, first, plan.data_hashes(), plan.pool_tokens(), origin)
        kept = sorted({*plan.permanent_steps(), plan.n_steps})
        return cls(plan.folder, shared, phases, plan.cooldown_step(), kept)

    @classmethod
    def read(cls, folder: Path) -> "Trunk":
        """Return the run of a directory with the checkpoints that it has.

        Raises
        ------
        RunLogError
            If its run.json is damaged.
        """
        facts = read_facts(folder)
        phases = facts.get("phases") or [{"step": facts.get("n_steps", _ANY_STEP), "weights": facts["mixture"]}]
        hashes = {name: entry["sha256"] for name, entry in facts["data"].items()}
        pools = {name: entry["n_tokens"] for name, entry in facts["data"].items() if "corpus_tokens" in entry}
        origin = facts.get("init_from", {}).get("sha256", "")
        full_rate = int((1 - facts["config"]["schedule"].get("cooldown", 0.0)) * phases[-1]["step"])
        return cls(
            folder,
            _shared(facts["config"], phases[0]["weights"], hashes, pools, origin),
            [(phase["step"], _rounded(phase["weights"])) for phase in phases],
            full_rate,
            sorted(step_of(path.name) for path in valid_names(folder / "checkpoints")),
        )

    def steps_of(self, branch: "Trunk") -> int:
        """Return the last step that another run, whose shared facts are equal, has in common with this one."""
        step = 0
        for (end, weights), (own_end, own_weights) in zip(branch.phases, self.phases, strict=False):
            if weights != own_weights:
                break
            step = min(end, own_end)
            if end != own_end:
                break
        return min(step, branch.full_rate, self.full_rate)


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
        if world.is_first:
            trunks = trunks_in(folder)
            if is_run:
                n_shared = require_shared(plan, trunks[0])
            elif not trunks:
                raise ConfigError(no_trunks(folder))
            else:
                n_shared, name = best_trunk(plan, trunks)
                chosen = int(name or "0", 16)
    chosen, n_shared = world.maximum(chosen), world.maximum(n_shared)
    trunk = folder if is_run else folder / f"{chosen:012x}"
    return newest_checkpoint(trunk / "checkpoints", n_shared, world) if n_shared else None


def trunks_in(folder: Path) -> list[Trunk]:
    """Return the run of a directory, or all runs in a folder of runs; those that cannot be read are left out.

    Raises
    ------
    RunLogError
        If it is a run directory with a damaged run.json.
    """
    if (folder / "run.json").exists():
        return [Trunk.read(folder)]
    found = []
    for path in folder.glob("*/run.json"):
        if _RUN_ID.fullmatch(path.parent.name):
            try:
                found.append(Trunk.read(path.parent))
            except MixlawError:  # it can be no trunk, but others can
                continue
    return found


def no_trunks(folder: Path) -> str:
    """Return the sentence about a folder without runs."""
    return f"checkpoint.branch_from: {folder} is no run directory, and no folder of runs: train its runs first"


def best_trunk(plan: Plan, trunks: Iterable[Trunk]) -> tuple[int, str]:
    """Return the step at which a run leaves the trunk that saves most, and the run id of that one; (0, '') if none."""
    own = Trunk.planned(plan)
    found = (0, "")
    for trunk in trunks:
        if trunk.folder.name != plan.run_id and trunk.shared == own.shared:
            n_shared = trunk.steps_of(own)
            found = max(found, (max((step for step in trunk.kept if step <= n_shared), default=0), trunk.folder.name))
    return found if found[0] else (0, "")


def taken_from(plan: Plan, trunks: Iterable[Trunk]) -> tuple[int, str]:
    """Return how many tokens of a run its trunk trains, and the run id of this trunk; (0, '') if there is none.

    Parameters
    ----------
    trunks : what checkpoint.branch_from names, trained or planned

    Raises
    ------
    ConfigError
        If checkpoint.branch_from names one run, and they differ from the first step on.
    """
    trunks, folder = list(trunks), Path(plan.config.checkpoint.branch_from)
    if (folder / "run.json").exists():
        require_shared(plan, trunks[0])
    step, name = best_trunk(plan, trunks)
    return (round(plan.part_of(step).tokens_after(step)), name) if step else (0, "")


def require_shared(plan: Plan, trunk: Trunk) -> int:
    """Return the last step that a run shares with the one trunk that it names.

    Raises
    ------
    ConfigError
        If they differ from the first step on.
    """
    own = Trunk.planned(plan)
    for key in own.shared.keys() | trunk.shared.keys():
        ours, theirs = own.shared.get(key), trunk.shared.get(key)
        if ours != theirs:
            raise ConfigError(
                f"checkpoint.branch_from: {trunk.folder} differs in {key} ({theirs!r:.80} there, "
                f"{ours!r:.80} here); only later phases, the end of the schedule and the evaluation may differ"
            )
    return trunk.steps_of(own)


def _rounded(mixture: Mapping[str, float]) -> dict[str, float]:
    return {domain: round(weight, 12) for domain, weight in mixture.items()}


def _shared(
    config: Mapping[str, Any],
    mixture: Mapping[str, float],
    data: Mapping[str, str],
    pools: Mapping[str, int],
    origin: str,
) -> dict[str, Any]:
    """Return the facts that trunk and branch must share, as JSON types; `mixture` is that of the first phase."""
    facts = {key: value for key, value in config.items() if key not in _FREE}
    facts["model"] = dataclasses.asdict(ModelConfig()) | config["model"]  # runs of before a setting had its default
    facts["stream"] = {k: v for k, v in config["stream"].items() if k not in _LIMITS}
    facts["schedule.warmup_tokens"] = config["schedule"]["warmup_tokens"]
    facts["evaluation.average"] = config["evaluation"].get("average", 0.0)
    facts |= {"mixture": _rounded(mixture), "data": dict(data), "pools": dict(pools), "init_from": origin}
    shared: dict[str, Any] = json.loads(json.dumps(facts))
    return shared
