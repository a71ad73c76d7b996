"""A configuration checked against its data: the mixture, the steps, and the run id."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.store.tokens import Manifest
from data.stream.items import Kinds, kinds_in
from data.stream.loader import check_epochs, shares_of_items
from data.stream.schedule import SCHEDULE_VERSION
from mixlaw.counts import flops
from mixlaw.errors import ConfigError
from mixlaw.mixture import Mixture
from mixlaw.runs.ledger import PlannedRun
from mixlaw.runs.log import SCHEMA_VERSION, run_id
from train.config import MixtureConfig, TrainConfig
from train.precision import VERSIONS

# Settings that were added later. If they have their defaults, they are left out of the run id, so that ids stay.
_ADDED: dict[str, tuple[str, ...]] = {
    "evaluation": ("average",),
    "schedule": ("cooldown",),
    "model": (
        "document_mask",
        "image_size",
        "patch_size",
        "decoder_depth",
        "image_loss_weight",
        "text_loss_weight",
        "vocab_multiple_of",
    ),
    "stream": ("unit", "min_crop", "flip"),
}


@dataclass(frozen=True)
class Timetable:
    """The steps of a run, with its checkpoints and evaluations. D counts tokens without padding.

    Attributes
    ----------
    tokens_per_step : mean over the items, which may differ in length
    """

    config: TrainConfig
    tokens_per_step: float

    @property
    def n_steps(self) -> int:
        """Steps of the run; D is rounded up to whole steps."""
        return -int(-self.config.schedule.n_tokens // self.tokens_per_step)

    @property
    def n_tokens(self) -> int:
        """D: tokens that the run has seen at its end, rounded up to whole steps."""
        return round(self.n_steps * self.tokens_per_step)

    def cooldown_step(self) -> int:
        """Return the last step at the full rate."""
        start = (1 - self.config.schedule.cooldown) * self.n_steps * self.tokens_per_step
        return min(int(start // self.tokens_per_step) + 1, self.n_steps)

    def permanent_steps(self) -> set[int]:
        """Return the steps whose checkpoints are never deleted."""
        return {-int(-n_tokens // self.tokens_per_step) for n_tokens in self.config.checkpoint.permanent}

    def saves_after(self, step: int) -> bool:
        """Return whether a step is followed by a checkpoint."""
        return step == self.n_steps or step % self.config.checkpoint.every_steps == 0 or step in self.permanent_steps()

    def evaluation_steps(self) -> list[int]:
        """Return the steps after which the run is evaluated, including the last one; with a cool-down, only the last.

        During the cool-down, losses are comparable neither with a constant rate nor with a finished cool-down.
        """
        if self.config.schedule.cooldown:
            return [self.n_steps]
        evaluation = self.config.evaluation
        grid = (self.n_steps * evaluation.ratio**-i for i in range(evaluation.n_points))
        return sorted({max(round(step), 1) for step in grid})


@dataclass(frozen=True)
class Plan(Timetable):
    """Everything that is known about a run before it is trained."""

    manifest: Manifest
    weights: Mixture
    run_id: str
    kinds: dict[str, Kinds]

    @property
    def folder_name(self) -> str:
        """The run directory relative to `machine.runs`."""
        return f"{self.config.study_name}/{self.run_id}"

    @property
    def folder(self) -> Path:
        """The run directory."""
        return Path(self.config.machine.runs) / self.folder_name

    @property
    def image_share(self) -> float:
        """The share of the tokens that are patches of images."""
        drawn = {d: w for d, w in self.weights.items() if w > 0}
        shares = shares_of_items(drawn, self.kinds, self.config.stream.unit)
        n_image, n = (
            sum(share * self.kinds[d].per_item(what) for d, share in shares.items())
            for what in ("n_image_tokens", "n_tokens")
        )
        return n_image / n

    def available(self, domain: str) -> dict[str, int]:
        """Return the training tokens of a domain (text and patches of this model), and its samples."""
        if not self.manifest.image_size:
            return {"n_tokens": self.manifest.n_tokens(domain, "train")}
        kinds = self.kinds.get(domain)
        return {what: kinds.total(what) if kinds else 0 for what in ("n_tokens", "n_samples")}

    def data_hashes(self) -> dict[str, str]:
        """Return domain or target -> sha256 of its data."""
        return {d: self.manifest.domain_sha256(d) for d in (*self.manifest.domains, *self.manifest.targets)}


def make_plan(config: TrainConfig, manifest: Manifest) -> Plan:
    """Check mixture and repetition against the data, and name the run.

    Raises
    ------
    ConfigError
        For unknown domains, weights that do not sum to one, or more epochs than allowed.
    """
    layout = config.layout()
    if layout.family == "vision":
        for name in (*manifest.domains, *manifest.targets):
            if name.endswith(("-image", "-text")):
                raise ConfigError(f"domain '{name}': its losses would be taken for a part of another's: rename it")
    kinds = {domain: kinds_in(manifest, domain, "train", layout) for domain in manifest.domains}
    weights = resolve(config.mixture, manifest, kinds)
    if any(w > 0 and not kinds[d].size for d, w in weights.items()):  # raises the error with a table
        check_epochs(kinds, {d: w * config.schedule.n_tokens for d, w in weights.items()}, config.stream.max_epochs)
    shares = shares_of_items(weights, kinds, config.stream.unit)
    per_item = {d: kinds[d].per_item("n_tokens") for d, w in weights.items() if w > 0}
    alike = len(set(per_item.values())) == 1
    mean = next(iter(per_item.values())) if alike else sum(shares[d] * n for d, n in per_item.items())
    name = run_id(science(config, weights, manifest))
    per_step = int(mean) * config.stream.batch_size if mean == int(mean) else mean * config.stream.batch_size
    plan = Plan(config, per_step, manifest, weights, name, kinds)
    n_items = plan.n_steps * config.stream.batch_size
    taken = {d: shares[d] * n_items * per_item.get(d, 0.0) for d in weights}
    check_epochs(kinds, taken, config.stream.max_epochs)
    return plan


def planned_run(plan: Plan, n_params: int, overrides: Sequence[str] = ()) -> PlannedRun:
    """Return a plan as its line in the study's ledger.

    Parameters
    ----------
    n_params : N of the model
    overrides : the command line of `python -m train` that the plan was composed from
    """
    chosen = [o.partition("=")[2] for o in overrides if o.startswith("study=")]
    return PlannedRun(
        run_id=plan.run_id,
        plan=chosen[0] if chosen else "",
        overrides=list(overrides),
        n_params=n_params,
        n_tokens=plan.n_tokens,
        flops=flops(n_params, plan.n_tokens),
        mixture=dict(plan.weights),
        seed=plan.config.seed,
    )


def resolve(mixture: MixtureConfig, manifest: Manifest, kinds: dict[str, Kinds]) -> Mixture:
    """Return the requested mixture over all training domains of the data, zeros included."""
    if mixture.weights:
        return Mixture.of(mixture.weights, manifest.domains, "mixture.weights")
    if mixture.named == "uniform":
        return Mixture.uniform(manifest.domains)
    if manifest.image_size:
        return Mixture.proportional({d: kinds[d].total("n_tokens") for d in manifest.domains})
    return Mixture.proportional({d: manifest.n_tokens(d, "train") for d in manifest.domains})


def science(config: TrainConfig, weights: Mixture, manifest: Manifest) -> dict[str, Any]:
    """Return all facts that decide the losses of a run; the run id is their hash."""
    facts = dataclasses.asdict(config)
    for machine_side in ("study_name", "machine", "logging", "checkpoint", "data"):
        del facts[machine_side]
    del facts["stream"]["max_epochs"]  # a limit only; it changes no loss
    plain = dataclasses.asdict(TrainConfig())
    for group, added in _ADDED.items():
        for name in added:
            if facts[group][name] == plain[group][name]:
                del facts[group][name]
    facts["mixture"] = {d: round(w, 12) for d, w in weights.items()}
    facts["data"] = {d: manifest.domain_sha256(d) for d in (*manifest.domains, *manifest.targets)}
    facts["tokenizer"] = manifest.facts["tokenizer"]
    facts["versions"] = {"run_log": SCHEMA_VERSION, "schedule": SCHEDULE_VERSION, "trainer": VERSIONS[config.precision]}
    return facts
