"""What a run's configuration may say. YAML gives values; these dataclasses are the truth, and check them together."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from data.config import DataConfig
from data.schedule import SCHEDULE_VERSION
from data.shards import Manifest
from data.stream import check_epochs
from mixlaw.errors import ConfigError, unknown_name
from mixlaw.mixture import check_weights, proportional, uniform
from mixlaw.runlog import SCHEMA_VERSION, run_id

TRAINER_VERSION = 1  # raised when the same configuration would give other losses


@dataclass
class ModelConfig:
    """A decoder whose size is set by its width alone; depth stays fixed within a study, as in the paper."""

    family: str = "text"
    width: int = 64
    depth: int = 4
    head_dim: int = 16
    ffn_multiple_of: int = 16  # SwiGLU's hidden width is 8/3 of the width, rounded up to this
    qk_norm: bool = True
    rope_base: float = 10_000.0
    document_mask: bool = False  # attend within the own document only, where a sequence holds several

    def __post_init__(self) -> None:
        require_name("model.family", self.family, ["text"])
        require_at_least(1, model_width=self.width, model_depth=self.depth, model_head_dim=self.head_dim)
        require_at_least(1, model_ffn_multiple_of=self.ffn_multiple_of, model_rope_base=self.rope_base)
        if self.width % self.head_dim or self.head_dim % 2:
            raise ConfigError(
                f"model.width {self.width} must be a multiple of model.head_dim {self.head_dim}, an even number"
            )


@dataclass
class MixtureConfig:
    """The weights, or the name of a mixture that follows from the data. Weights, where given, win."""

    named: str = "natural"  # natural: in proportion to the tokens there are | uniform
    weights: dict[str, float] | None = None

    def __post_init__(self) -> None:
        require_name("mixture.named", self.named, ["natural", "uniform"])

    def resolve(self, manifest: Manifest) -> dict[str, float]:
        """Return domain -> weight over all training domains of the data, zeros included."""
        if self.weights:
            return check_weights(self.weights, manifest.domains, "mixture.weights")
        if self.named == "uniform":
            return uniform(manifest.domains)
        return proportional({d: manifest.n_tokens(d, "train") for d in manifest.domains})


@dataclass
class StreamConfig:
    seq_len: int = 64  # tokens in a packed sequence
    batch_size: int = 16  # sequences in a step, over all ranks
    max_epochs: float = 4.0  # a mixture that repeats a domain more often is refused

    def __post_init__(self) -> None:
        require_at_least(1, stream_seq_len=self.seq_len, stream_batch_size=self.batch_size)


@dataclass
class OptimConfig:
    """AdamW with fully decoupled weight decay, under a parametrisation."""

    parametrization: str = "mup"  # mup: one lr serves all widths | standard: lr as given for every parameter
    base_width: int = 64  # mup: the width at which lr is what it says
    lr: float = 8e-3
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 1e-4
    clip: float = 1.0

    def __post_init__(self) -> None:
        require_name("optim.parametrization", self.parametrization, ["mup", "standard"])
        require_at_least(1, optim_base_width=self.base_width)
        require_at_least(0, optim_eps=self.eps, optim_weight_decay=self.weight_decay)
        if not (self.lr > 0 and self.clip > 0):
            raise ConfigError(f"optim.lr is {self.lr} and optim.clip {self.clip}; both must be above 0")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optim.betas are {list(self.betas)}; each must lie in [0, 1)")


@dataclass
class ScheduleConfig:
    """Constant learning rate after a warm-up, so that every evaluation is one (N, D, h) point of the law."""

    n_tokens: int = 500_000
    warmup_tokens: int = 20_000
    cooldown: float = 0.0  # the share of the tokens, at the end, over which the rate falls as 1 - sqrt(progress)

    def __post_init__(self) -> None:
        if not 0 <= self.cooldown <= 1:
            raise ConfigError(f"schedule.cooldown is {self.cooldown}; a share of the tokens lies in [0, 1]")
        if self.warmup_tokens > (1 - self.cooldown) * self.n_tokens:
            raise ConfigError(
                f"schedule.cooldown {self.cooldown} begins before schedule.warmup_tokens {self.warmup_tokens} are over"
            )
        if not 0 <= self.warmup_tokens < self.n_tokens:
            raise ConfigError(
                f"schedule.warmup_tokens {self.warmup_tokens} must be below schedule.n_tokens {self.n_tokens}"
            )


@dataclass
class EvaluationConfig:
    n_points: int = 7  # evaluations a run, on a logarithmic grid of D that ends at schedule.n_tokens
    ratio: float = 1.3  # between neighbouring points
    n_sequences: int = 96  # per domain, the same for all runs
    split: str = "eval"
    average: float = 0.0  # 0: the weights as they are | the share of the training so far whose mean is evaluated

    def __post_init__(self) -> None:
        require_name("evaluation.split", self.split, ["eval", "test"])
        if not 0 <= self.average <= 1:
            raise ConfigError(f"evaluation.average is {self.average}; a share of the training lies in [0, 1]")
        require_at_least(1, evaluation_n_points=self.n_points, evaluation_n_sequences=self.n_sequences)
        if self.ratio <= 1:
            raise ConfigError(f"evaluation.ratio is {self.ratio}; a growing grid needs more than 1")


@dataclass
class CheckpointConfig:
    every_steps: int = 100
    keep: int = 2
    permanent: list[int] = field(default_factory=list)  # tokens after which a checkpoint is kept for good
    branch_from: str = ""  # run directory whose checkpoint a run with a cool-down may begin with

    def __post_init__(self) -> None:
        require_at_least(1, checkpoint_every_steps=self.every_steps, checkpoint_keep=self.keep)


@dataclass
class MachineConfig:
    """Where a run happens. Nothing here may change what a run learns, so none of it is part of its identity."""

    device: str = "auto"  # auto: cuda when there is one | cpu | cuda
    threads: int = 1  # one each: two runs side by side beat one run on two threads
    workers: int = 0  # processes that read ahead
    micro_batch: int = 0  # sequences per forward pass; 0: the rank's whole share
    parallel: str = "ddp"  # of several ranks, each holds: ddp: the whole model | fsdp: a shard of it
    compile: bool = False
    cuda_graphs: bool = False  # with compile: replay whole steps; for models too small to keep a GPU busy
    activation_checkpointing: bool = False  # compute activations twice, and keep those between blocks only
    runs: str = "runs"

    def __post_init__(self) -> None:
        require_name("machine.device", self.device, ["auto", "cpu", "cuda"])
        require_name("machine.parallel", self.parallel, ["ddp", "fsdp"])
        require_at_least(1, machine_threads=self.threads)
        require_at_least(0, machine_workers=self.workers, machine_micro_batch=self.micro_batch)
        if not self.runs:
            raise ConfigError("machine.runs is empty; it names the folder of all runs")


@dataclass
class LoggingConfig:
    wandb: bool = False
    project: str = "mixlaw"
    every_steps: int = 20

    def __post_init__(self) -> None:
        require_at_least(1, logging_every_steps=self.every_steps)


@dataclass
class TrainConfig:
    """One run. All but machine, logging, checkpoint and the study's name decides its losses, and so its identity."""

    study_name: str = "solo"
    seed: int = 0
    precision: str = "fp32"  # fp32 | bf16 (autocast, fp32 master weights)
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    mixture: MixtureConfig = field(default_factory=MixtureConfig)
    stream: StreamConfig = field(default_factory=StreamConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)

    def __post_init__(self) -> None:
        require_name("precision", self.precision, ["fp32", "bf16"])
        if not self.study_name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"study_name {self.study_name!r} names a folder: use letters, digits, '-' and '_'")
        require_finite(dataclasses.asdict(self))

    @property
    def tokens_per_step(self) -> int:
        return self.stream.seq_len * self.stream.batch_size

    @property
    def n_steps(self) -> int:
        """Steps of the run; D is rounded up to whole steps."""
        return -(-self.schedule.n_tokens // self.tokens_per_step)

    def cooldown_step(self) -> int:
        """Return the last step at the full rate."""
        start = (1 - self.schedule.cooldown) * self.n_steps * self.tokens_per_step
        return min(int(start // self.tokens_per_step) + 1, self.n_steps)

    def permanent_steps(self) -> set[int]:
        """Return the steps after which a checkpoint is kept for good."""
        return {-(-n_tokens // self.tokens_per_step) for n_tokens in self.checkpoint.permanent}

    def saves_after(self, step: int) -> bool:
        """Return whether a step is followed by a checkpoint."""
        return step == self.n_steps or step % self.checkpoint.every_steps == 0 or step in self.permanent_steps()

    def evaluation_steps(self) -> list[int]:
        """Return the steps after which the run is evaluated, the last step among them; after a cool-down only that.

        While the rate falls, a run is neither at its constant rate nor cooled down.
        """
        if self.schedule.cooldown:
            return [self.n_steps]
        grid = (self.n_steps * self.evaluation.ratio**-i for i in range(self.evaluation.n_points))
        return sorted({max(round(step), 1) for step in grid})


@dataclass(frozen=True)
class Plan:
    """A configuration checked against the data it names: what there is to know before anything is trained."""

    config: TrainConfig
    manifest: Manifest
    weights: dict[str, float]
    run_id: str

    @property
    def folder_name(self) -> str:
        return f"{self.config.study_name}/{self.run_id}"

    def data_hashes(self) -> dict[str, str]:
        """Return what each domain and target is, down to the byte."""
        return {d: self.manifest.domain_sha256(d) for d in (*self.manifest.domains, *self.manifest.targets)}


def make_plan(config: TrainConfig, manifest: Manifest) -> Plan:
    """Check mixture and repetition against the data, and name the run.

    Raises
    ------
    ConfigError
        For unknown domains, weights that do not sum to one, or more epochs than allowed.
    """
    weights = config.mixture.resolve(manifest)
    n_tokens = config.n_steps * config.tokens_per_step
    check_epochs(manifest, weights, n_tokens, config.stream.seq_len, config.stream.max_epochs)
    return Plan(config, manifest, weights, run_id(science(config, weights, manifest)))


def science(config: TrainConfig, weights: dict[str, float], manifest: Manifest) -> dict[str, Any]:
    """Return everything that decides the losses of a run: what its id is the hash of."""
    facts = dataclasses.asdict(config)
    for machine_side in ("study_name", "machine", "logging", "checkpoint", "data"):
        del facts[machine_side]
    del facts["stream"]["max_epochs"]  # it refuses runs, and changes none
    for group, added in (("evaluation", "average"), ("schedule", "cooldown"), ("model", "document_mask")):
        if not facts[group][added]:
            del facts[group][added]  # runs of the time before there was this setting keep their names
    facts["mixture"] = {d: round(w, 12) for d, w in weights.items()}
    facts["data"] = {d: manifest.domain_sha256(d) for d in (*manifest.domains, *manifest.targets)}
    facts["tokenizer"] = manifest.facts["tokenizer"]
    facts["versions"] = {"run_log": SCHEMA_VERSION, "schedule": SCHEDULE_VERSION, "trainer": TRAINER_VERSION}
    return facts


def require_name(where: str, name: str, known: list[str]) -> None:
    """Raise ConfigError unless the name is one of the known ones."""
    if name not in known:
        raise ConfigError(f"{where}: {unknown_name('value', name, known)}")


def require_at_least(low: float, **settings: float) -> None:
    """Raise ConfigError for the first setting below `low`; `stream_seq_len` is shown as `stream.seq_len`."""
    for name, value in settings.items():
        if not value >= low:
            raise ConfigError(f"{name.replace('_', '.', 1)} is {value}; it must be at least {low:g}")


def require_finite(settings: dict[str, Any], where: str = "") -> None:
    """Raise ConfigError for the first number that is inf or nan; `settings` may be nested."""
    for name, value in settings.items():
        if isinstance(value, dict):
            require_finite(value, f"{where}{name}.")
        elif isinstance(value, float) and not math.isfinite(value):
            raise ConfigError(f"{where}{name} is {value}; it must be a finite number")
