"""The settings of a run. YAML files give values; these dataclasses define the settings, their types and checks."""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from data.config import DataConfig
from data.stream.items import FAMILIES, UNITS, Layout
from data.stream.views import View
from mixlaw.errors import ConfigError, unknown_name
from mixlaw.paths import expand_path


@dataclass
class ModelConfig:
    """A model whose size is set by its width; depth is fixed within a study, as in the paper."""

    family: str = "text"
    width: int = 64
    depth: int = 4
    head_dim: int = 16
    ffn_multiple_of: int = 16  # SwiGLU's hidden width is 8/3 of the width, rounded up to this
    vocab_multiple_of: int = 1  # pad embeddings and head to a multiple of this many rows
    qk_norm: bool = True
    rope_base: float = 10_000.0
    norm_eps: float = 2.0**-23  # of RMSNorm; the machine epsilon of fp32, which is torch's default
    document_mask: bool = False  # text: attend within the same document of a sequence only
    image_size: int = 32  # multimodal and vision: side of images in pixels
    patch_size: int = 8  # side of a patch in pixels; a patch is a token
    decoder_depth: int = 2  # vision: blocks of the decoder; depth counts those of the image encoder
    image_loss_weight: float = 0.4  # vision: of predicted patches, as in AIMv2
    text_loss_weight: float = 1.0  # vision: of predicted captions; 0: the image-only autoregressive form

    def __post_init__(self) -> None:
        require_name("model.family", self.family, list(FAMILIES))
        require_at_least(1, model_width=self.width, model_depth=self.depth, model_head_dim=self.head_dim)
        require_at_least(1, model_ffn_multiple_of=self.ffn_multiple_of, model_rope_base=self.rope_base)
        require_at_least(1, model_vocab_multiple_of=self.vocab_multiple_of)
        require_at_least(0, model_norm_eps=self.norm_eps)
        if self.width % self.head_dim or self.head_dim % 2:
            raise ConfigError(
                f"model.width {self.width} must be a multiple of model.head_dim {self.head_dim}, an even number"
            )
        require_at_least(1, model_image_size=self.image_size, model_patch_size=self.patch_size)
        require_at_least(1, model_decoder_depth=self.decoder_depth)
        require_at_least(
            0, model_image_loss_weight=self.image_loss_weight, model_text_loss_weight=self.text_loss_weight
        )
        if self.image_size % self.patch_size or self.image_size < 2 * self.patch_size:
            raise ConfigError(
                f"model.image_size {self.image_size} must be at least twice model.patch_size {self.patch_size}, and a "
                "multiple of it"
            )
        if not self.image_loss_weight + self.text_loss_weight > 0:
            raise ConfigError("model.image_loss_weight and model.text_loss_weight are both 0: nothing would be learned")


@dataclass
class PhaseConfig:
    """A part of a run with weights of its own."""

    until: float = 1.0  # its end: a share of the run's tokens, or tokens if above 1
    weights: dict[str, float] = field(default_factory=dict)


@dataclass
class MixtureConfig:
    """Weights, phases, or the name of a mixture that follows from the data. Weights and phases take precedence."""

    named: str = "natural"  # natural: in proportion to the available tokens | uniform
    weights: dict[str, float] | None = None
    phases: list[PhaseConfig] = field(default_factory=list)  # weights that change during the run; none: they do not

    def __post_init__(self) -> None:
        require_name("mixture.named", self.named, ["natural", "uniform"])
        if self.weights and self.phases:
            raise ConfigError("mixture.weights and mixture.phases are both set: a run has one mixture, or phases")


@dataclass
class MatchConfig:
    """A bigger run whose repetition a small run shall have: its pools shrink in proportion to the tokens of the run."""

    n_tokens: float = 0.0  # D of the bigger run
    available: dict[str, float] = field(default_factory=dict)  # domain -> unique tokens that the bigger run has

    def __post_init__(self) -> None:
        if bool(self.n_tokens) != bool(self.available):
            raise ConfigError(
                "stream.match_repetition needs both: n_tokens of the bigger run, and its available tokens"
            )

    def pools(self, n_tokens: int) -> dict[str, float]:
        """Return domain -> unique tokens with which a run repeats the domain as often as the bigger run.

        Parameters
        ----------
        n_tokens : D of the run

        Raises
        ------
        ConfigError
            If the other run is not bigger.
        """
        if self.available and n_tokens > self.n_tokens:
            raise ConfigError(
                f"stream.match_repetition.n_tokens is {self.n_tokens:,.0f}, and this run has {n_tokens:,} tokens: give "
                "the tokens of the bigger run, or lower schedule.n_tokens"
            )
        return {domain: tokens * n_tokens / self.n_tokens for domain, tokens in self.available.items()}


@dataclass
class StreamConfig:
    seq_len: int = 64  # tokens in a packed sequence
    batch_size: int = 16  # sequences in a step, over all ranks
    max_epochs: float = 4.0  # limit on the epochs of a domain; mixtures beyond it are refused
    unit: str = "tokens"  # weights are shares of: tokens (text and patches) | samples (documents)
    min_crop: float = 1.0  # random crops of images have at least this share of the area; 1: no crop
    flip: float = 0.0  # probability of a horizontal flip
    unique_tokens: dict[str, float] = field(default_factory=dict)  # domain -> limit; the others have none
    match_repetition: MatchConfig = field(default_factory=MatchConfig)  # limits that follow from a bigger run

    def __post_init__(self) -> None:
        require_at_least(1, stream_seq_len=self.seq_len, stream_batch_size=self.batch_size)
        require_name("stream.unit", self.unit, list(UNITS))
        if not (0 < self.min_crop <= 1 and 0 <= self.flip <= 1):
            raise ConfigError(
                f"stream.min_crop is {self.min_crop} and stream.flip {self.flip}; the one lies in (0, 1], the other in "
                "[0, 1]"
            )
        if self.unique_tokens and self.match_repetition.available:
            raise ConfigError("stream.unique_tokens and stream.match_repetition both limit tokens: remove one of them")

    @property
    def limited_by(self) -> str:
        """The name of the setting that limits unique tokens, or ''."""
        if self.match_repetition.available:
            return "stream.match_repetition"
        return "stream.unique_tokens" if self.unique_tokens else ""


@dataclass
class OptimConfig:
    """AdamW with fully decoupled weight decay, under a parametrisation."""

    parametrization: str = "mup"  # mup: one lr for all widths | standard: the same lr for every parameter
    base_width: int = 64  # mup: width for which lr is unscaled
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
    cooldown: float = 0.0  # final share of the tokens over which lr falls as 1 - sqrt(progress)

    def __post_init__(self) -> None:
        if not 0 <= self.cooldown <= 1:
            raise ConfigError(f"schedule.cooldown is {self.cooldown}; a share of the tokens lies in [0, 1]")
        require_at_least(1, schedule_n_tokens=self.n_tokens)
        require_at_least(0, schedule_warmup_tokens=self.warmup_tokens)
        if self.warmup_tokens >= self.n_tokens:
            raise ConfigError(
                f"schedule.warmup_tokens {self.warmup_tokens} must be below schedule.n_tokens {self.n_tokens}: set a "
                "shorter warm-up or more tokens"
            )
        if self.warmup_tokens > (1 - self.cooldown) * self.n_tokens:
            raise ConfigError(
                f"schedule.cooldown {self.cooldown} begins before schedule.warmup_tokens {self.warmup_tokens} are over"
            )


@dataclass
class EvaluationConfig:
    n_points: int = 7  # evaluations per run, on a logarithmic grid of D that ends at schedule.n_tokens
    ratio: float = 1.3  # of neighbouring grid points
    n_sequences: int = 96  # per domain, the same for all runs
    max_questions: int = 200  # per task, the same for all runs; 0: all
    split: str = "eval"
    average: float = 0.0  # weight averaging over this share of the training so far; 0: none

    def __post_init__(self) -> None:
        require_name("evaluation.split", self.split, ["eval", "test"])
        if not 0 <= self.average <= 1:
            raise ConfigError(f"evaluation.average is {self.average}; a share of the training lies in [0, 1]")
        require_at_least(1, evaluation_n_points=self.n_points, evaluation_n_sequences=self.n_sequences)
        require_at_least(0, evaluation_max_questions=self.max_questions)
        if self.ratio <= 1:
            raise ConfigError(f"evaluation.ratio is {self.ratio}; a growing grid needs more than 1")


@dataclass
class CheckpointConfig:
    every_steps: int = 100
    keep: int = 2
    permanent: list[int] = field(default_factory=list)  # tokens after which checkpoints are never deleted
    branch_from: str = ""  # a run, or a folder of runs: start from a checkpoint before the cool-down or next phase

    def __post_init__(self) -> None:
        require_at_least(1, checkpoint_every_steps=self.every_steps, checkpoint_keep=self.keep)
        self.branch_from = expand_path(self.branch_from, "checkpoint.branch_from")


@dataclass
class MachineConfig:
    """The machine of a run. These settings do not affect losses, so they are not part of the run id."""

    device: str = "auto"  # auto: cuda if available | cpu | cuda
    threads: int = 1  # of the CPU; two runs in parallel are faster than one run with two threads
    workers: int = 0  # processes that prefetch batches
    micro_batch: int = 0  # sequences per forward pass; 0: all of the rank
    parallel: str = "ddp"  # ddp: each rank has the whole model | fsdp: a shard
    compile: bool = False
    cuda_graphs: bool = False  # with compile: replay whole steps; for models too small to keep a GPU busy
    scores_at_once: int = 0  # compute logits and loss in chunks of this many tokens, to save memory; 0: all at once
    shards: int = 0  # with fsdp: ranks that share one copy of the model, such as those of a node; 0: all ranks
    activation_checkpointing: bool = False  # keep activations between blocks only, and recompute the others
    selective_checkpointing: bool = False  # with activation_checkpointing: keep results of matrix products too
    background_saves: bool = False  # write checkpoints during training, from a copy in host memory
    timeout_minutes: float = 30.0  # time-out of a collective
    wait_minutes: float = 720.0  # time-out for work of single ranks outside of collectives, such as verifying data
    runs: str = "runs"  # folder of all studies

    def __post_init__(self) -> None:
        require_name("machine.device", self.device, ["auto", "cpu", "cuda"])
        require_name("machine.parallel", self.parallel, ["ddp", "fsdp"])
        require_at_least(1, machine_threads=self.threads)
        require_at_least(0, machine_workers=self.workers, machine_micro_batch=self.micro_batch)
        if not (self.timeout_minutes > 0 and self.wait_minutes > 0):
            raise ConfigError(
                f"machine.timeout_minutes is {self.timeout_minutes:g} and machine.wait_minutes {self.wait_minutes:g}; "
                "both must be above 0"
            )
        require_at_least(0, machine_scores_at_once=self.scores_at_once, machine_shards=self.shards)
        if self.cuda_graphs and (not self.compile or self.parallel == "fsdp"):
            raise ConfigError(
                f"machine.cuda_graphs replays compiled steps of models too small to keep a GPU busy; here are "
                f"machine.compile={str(self.compile).lower()} and machine.parallel={self.parallel}: set compile=true "
                "and parallel=ddp, or cuda_graphs=false"
            )
        if self.shards and self.parallel != "fsdp":
            raise ConfigError(f"machine.shards is {self.shards}; only machine.parallel=fsdp shards a model")
        if self.selective_checkpointing and not self.activation_checkpointing:
            raise ConfigError("machine.selective_checkpointing needs machine.activation_checkpointing=true")
        if not self.runs:
            raise ConfigError("machine.runs is empty; it names the folder of all runs")
        self.runs = expand_path(self.runs, "machine.runs")


@dataclass
class LoggingConfig:
    wandb: bool = False
    project: str = "mixlaw"
    every_steps: int = 20

    def __post_init__(self) -> None:
        require_at_least(1, logging_every_steps=self.every_steps)


@dataclass
class TrainConfig:
    """One run. All settings except machine, logging, checkpoint and study_name affect losses, and so the run id.

    Of init_from, the hash of the weights is part of the run id, and the path is not.
    """

    study_name: str = "solo"
    seed: int = 0
    init_from: str = ""  # start from the weights of a finished run, or of a Hugging Face folder: train/origin.py
    precision: str = "fp32"  # fp32 (exact, also on GPUs) | tf32 | bf16 (fp32 master weights); train/precision.py
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
        require_name("precision", self.precision, ["fp32", "tf32", "bf16"])
        if not self.study_name.replace("-", "").replace("_", "").isalnum():
            raise ConfigError(f"study_name {self.study_name!r} names a folder: use letters, digits, '-' and '_'")
        self.init_from = expand_path(self.init_from, "init_from")
        require_finite(dataclasses.asdict(self))

    def layout(self) -> Layout:
        """Return the layout in which this model reads documents.

        Raises
        ------
        ConfigError
            If a sequence cannot hold an image and a token.
        """
        if self.model.family == "text":
            return Layout(self.stream.seq_len)
        view = View(self.model.image_size, self.stream.min_crop, self.stream.flip)
        captions = self.model.text_loss_weight > 0
        layout = Layout(self.stream.seq_len, self.model.family, self.model.patch_size, view, captions)
        if layout.n_patches >= self.stream.seq_len:
            raise ConfigError(
                f"stream.seq_len {self.stream.seq_len} must hold an image of {layout.n_patches} patches and a token"
            )
        return layout


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
