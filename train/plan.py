"""A configuration checked against its data: the mixture, the steps, and the run id."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.store.tokens import Manifest
from data.stream.items import Kinds, kinds_in
from data.stream.loader import WeightedStream, check_epochs, shares_of_items
from data.stream.pools import pools_of
from data.stream.questions import check_tasks
from data.stream.schedule import SCHEDULE_VERSION
from mixlaw.counts import flops
from mixlaw.errors import ConfigError
from mixlaw.mixture import Mixture
from mixlaw.runs.ledger import PlannedRun
from mixlaw.runs.log import SCHEMA_VERSION, run_id
from train.config import MixtureConfig, StreamConfig, TrainConfig
from train.origin import Origin, find_origin
from train.phases import Part, Phase, in_steps, mean_weights, requested
from train.precision import VERSIONS

# Settings that were added later. If they have their defaults, they are left out of the run id, so that ids stay.
_ADDED: dict[str, tuple[str, ...]] = {
    "evaluation": ("average", "max_questions"),
    "schedule": ("cooldown",),
    "model": (
        "document_mask",
        "image_size",
        "patch_size",
        "decoder_depth",
        "image_loss_weight",
        "text_loss_weight",
        "vocab_multiple_of",
        "norm_eps",
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
    def parts(self) -> Sequence[Part]:
        """Parts of the run with constant tokens per step."""
        return (Part(0, 0, self.tokens_per_step),)

    @property
    def n_steps(self) -> int:
        """Steps of the run; D is rounded up to whole steps."""
        return self._part_at(self.config.schedule.n_tokens).steps_to(self.config.schedule.n_tokens)

    @property
    def n_tokens(self) -> int:
        """D: tokens that the run has seen at its end, rounded up to whole steps."""
        return round(self.part_of(self.n_steps).tokens_after(self.n_steps))

    def part_of(self, step: int) -> Part:
        """Return the part of the run that a step (counted from 1) belongs to."""
        return [part for part in self.parts if part.first < step][-1]

    def _part_at(self, n_tokens: float) -> Part:
        return [part for part in self.parts if part.start < n_tokens or part.first == 0][-1]

    def cooldown_step(self) -> int:
        """Return the last step at the full rate."""
        start = (1 - self.config.schedule.cooldown) * self.n_steps * self.tokens_per_step
        return min(self._part_at(start).steps_within(start) + 1, self.n_steps)

    def permanent_steps(self) -> set[int]:
        """Return the steps whose checkpoints are never deleted."""
        parts = [(self._part_at(n_tokens), n_tokens) for n_tokens in self.config.checkpoint.permanent]
        return {part.steps_within(n_tokens + part.per_step / 2) for part, n_tokens in parts}  # as phases end

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
    """Everything that is known about a run before it is trained.

    Attributes
    ----------
    weights : the mixture of the whole run, in shares of its tokens or samples
    phases : its parts; a run with one mixture is one phase
    kinds : training domain -> all its items
    pools : training domain -> items of its pool, if the run reads only a part of it
    origin : the weights that it starts from; None: random ones
    """

    manifest: Manifest
    weights: Mixture
    run_id: str
    kinds: dict[str, Kinds]
    pools: dict[str, Kinds]
    phases: tuple[Phase, ...]
    origin: Origin | None = None

    @property
    def parts(self) -> Sequence[Part]:
        """Parts of the run with constant tokens per step."""
        return [phase.part for phase in self.phases]

    def stream(self, rank: int = 0, world_size: int = 1) -> WeightedStream:
        """Return what a rank of the run reads."""
        config, (first, *later) = self.config, self.phases
        return WeightedStream(
            self.manifest,
            first.weights,
            config.layout(),
            config.stream.batch_size,
            config.seed,
            rank=rank,
            world_size=world_size,
            unit=config.stream.unit,
            changes=[(phase.part.first, phase.weights) for phase in later],
            pools=self.pools,
        )

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
        kinds = self.kinds | self.pools
        shares = shares_of_items(drawn, kinds, self.config.stream.unit)
        n_image, n = (
            sum(share * kinds[d].per_item(what) for d, share in shares.items())
            for what in ("n_image_tokens", "n_tokens")
        )
        return n_image / n

    def available(self, domain: str) -> dict[str, int]:
        """Return the training tokens of a whole domain (text and patches of this model), and its samples."""
        if not self.manifest.image_size:
            return {"n_tokens": self.manifest.n_tokens(domain, "train")}
        kinds = self.kinds.get(domain)
        return {what: kinds.total(what) if kinds else 0 for what in ("n_tokens", "n_samples")}

    def pool_tokens(self) -> dict[str, int]:
        """Return domain -> tokens of its pool."""
        return {domain: pool.total("n_tokens") for domain, pool in self.pools.items()}

    def data_hashes(self) -> dict[str, str]:
        """Return domain or target -> sha256 of its data."""
        return {d: self.manifest.domain_sha256(d) for d in (*self.manifest.domains, *self.manifest.targets)}


def make_plan(config: TrainConfig, manifest: Manifest) -> Plan:
    """Check mixture and repetition against the data, and name the run.

    Raises
    ------
    ConfigError
        For unknown domains, weights that do not sum to one, phases that do not fill the run, pools that are larger
        than their domains or smaller than a sequence, more epochs than allowed, weights in `init_from` that do not
        fit, or tasks for a model of images.
    DataError
        If an answer of a task is longer than a sequence.
    """
    layout = config.layout()
    check_tasks(manifest, layout)
    if layout.family == "vision":
        for name in (*manifest.domains, *manifest.targets):
            if name.endswith(("-image", "-text")):
                raise ConfigError(f"domain '{name}': its losses would be taken for a part of another's: rename it")
    whole = {domain: kinds_in(manifest, domain, "train", layout) for domain in manifest.domains}
    pools = _pools(config, manifest, whole)
    kinds, n_tokens = whole | pools, config.schedule.n_tokens
    wanted = [(1.0, resolve(config.mixture, manifest, whole))]
    limited_by = config.stream.limited_by
    if config.mixture.phases:
        wanted = requested(config.mixture.phases, n_tokens, manifest.domains)
    if any(w > 0 and not kinds[d].size for _, weights in wanted for d, w in weights.items()):
        needed = {d: w * n_tokens for d, w in mean_weights(wanted).items()}
        check_epochs(kinds, needed, config.stream.max_epochs, limited_by)  # raises the error with a table
    paces = [_per_step(weights, kinds, config.stream, "tokens") for _, weights in wanted]
    phases = in_steps(wanted, paces, n_tokens)
    weights = _of_the_whole_run(phases, kinds, config.stream)
    per_step = paces[0]
    if len(set(paces)) > 1:
        per_step = phases[-1].part.tokens_after(phases[-1].end) / phases[-1].end
    origin = find_origin(config, manifest, [d for d, w in weights.items() if w > 0])
    name = run_id(science(config, phases, manifest, pools, origin))
    check_epochs(kinds, _tokens_taken(phases, kinds, config.stream), config.stream.max_epochs, limited_by)
    return Plan(config, per_step, manifest, weights, name, whole, pools, phases, origin)


def _pools(config: TrainConfig, manifest: Manifest, kinds: Mapping[str, Kinds]) -> dict[str, Kinds]:
    """Return the pools that a configuration asks for."""
    stream = config.stream
    wanted = stream.unique_tokens or stream.match_repetition.pools(config.schedule.n_tokens)
    available = {domain: max(manifest.n_tokens(domain, "train"), k.total("n_tokens")) for domain, k in kinds.items()}
    return pools_of(kinds, available, wanted, stream.limited_by)


def _per_step(weights: Mixture, kinds: Mapping[str, Kinds], stream: StreamConfig, unit: str) -> float:
    """Return the mean number of tokens (or samples) of a step, an integer if all items are alike."""
    shares = shares_of_items(weights, kinds, stream.unit)
    per_item = {d: kinds[d].per_item(f"n_{unit}") for d, w in weights.items() if w > 0}
    alike = len(set(per_item.values())) == 1
    mean = next(iter(per_item.values())) if alike else sum(shares[d] * n for d, n in per_item.items())
    return int(mean) * stream.batch_size if mean == int(mean) else mean * stream.batch_size


def _of_the_whole_run(phases: Sequence[Phase], kinds: Mapping[str, Kinds], stream: StreamConfig) -> Mixture:
    """Return the mixture of all phases together."""
    if len(phases) == 1:
        return phases[0].weights
    amounts = [phase.n_steps * _per_step(phase.weights, kinds, stream, stream.unit) for phase in phases]
    pairs = list(zip(amounts, phases, strict=True))
    return Mixture.proportional({d: sum(n * phase.weights[d] for n, phase in pairs) for d in phases[0].weights})


def _tokens_taken(phases: Sequence[Phase], kinds: Mapping[str, Kinds], stream: StreamConfig) -> dict[str, float]:
    """Return domain -> tokens that the run reads."""
    taken = dict.fromkeys(phases[0].weights, 0.0)
    for phase in phases:
        for domain, share in shares_of_items(phase.weights, kinds, stream.unit).items():
            if share > 0:
                taken[domain] += share * phase.n_steps * stream.batch_size * kinds[domain].per_item("n_tokens")
    return taken


def planned_run(
    plan: Plan, n_params: int, overrides: Sequence[str] = (), n_taken: int = 0, trunk: str = ""
) -> PlannedRun:
    """Return a plan as its line in the study's ledger.

    Parameters
    ----------
    n_params : N of the model
    overrides : the command line of `python -m train` that the plan was composed from
    n_taken : tokens that its trunk trains
    trunk : the run id of its trunk, if that is in the same folder
    """
    chosen = [o.partition("=")[2] for o in overrides if o.startswith("study=")]
    return PlannedRun(
        run_id=plan.run_id,
        plan=chosen[0] if chosen else "",
        overrides=list(overrides),
        n_params=n_params,
        n_tokens=plan.n_tokens,
        flops=flops(n_params, plan.n_tokens - n_taken),
        mixture=dict(plan.weights),
        seed=plan.config.seed,
        n_taken=n_taken,
        trunk=trunk,
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


def science(
    config: TrainConfig,
    phases: Sequence[Phase],
    manifest: Manifest,
    pools: Mapping[str, Kinds],
    origin: Origin | None = None,
) -> dict[str, Any]:
    """Return all facts that decide the losses of a run; the run id is their hash."""
    facts = dataclasses.asdict(config)
    for no_part in ("study_name", "machine", "logging", "checkpoint", "data", "init_from"):
        del facts[no_part]
    if origin:
        facts["init_from"] = origin.sha256
    for limit in ("max_epochs", "unique_tokens", "match_repetition"):  # the pools say all that changes a loss
        del facts["stream"][limit]
    plain = dataclasses.asdict(TrainConfig())
    for group, added in _ADDED.items():
        for name in added:
            if facts[group][name] == plain[group][name]:
                del facts[group][name]
    mixtures = [{d: round(w, 12) for d, w in phase.weights.items()} for phase in phases]
    facts["mixture"] = mixtures[0]
    if len(phases) > 1:
        facts["mixture"] = [{"end": p.end, "weights": m} for p, m in zip(phases, mixtures, strict=True)]
    if pools:
        facts["pools"] = {domain: pool.size for domain, pool in pools.items()}
    facts["data"] = {d: manifest.domain_sha256(d) for d in (*manifest.domains, *manifest.targets)}
    if config.data.task_groups:
        facts["task_groups"] = config.data.task_groups
    facts["tokenizer"] = manifest.facts["tokenizer"]
    facts["versions"] = {"run_log": SCHEMA_VERSION, "schedule": SCHEDULE_VERSION, "trainer": VERSIONS[config.precision]}
    return facts
