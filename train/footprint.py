"""Estimates the GPU memory of a run by tracing one micro-batch, without a GPU and without data.

Weights, gradients and optimizer state follow from the parameter shapes. For activations and logits, the model runs on
fake tensors, which have shapes but no memory, while every storage is counted from its allocation until it is freed.
All blocks are equal, so models of one and two blocks determine the memory of any depth.

The estimate is an upper bound, because compiled kernels keep less and nothing is compiled here. Norms and masked
attention are counted like the fused kernels of a GPU (`as_gpu`).
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from data.stream.items import Layout
from train.config import TrainConfig
from train.distributed import ALONE
from train.models.build import FAMILIES
from train.parallel import micro_batch_of, shards_of, trainable

CONTEXT = 1_500_000_000  # bytes: CUDA's context, cuBLAS's workspace, NCCL's buffers
FRAGMENTS = 0.03  # fragmentation of the allocator, as a share of all tensors
_FEW_SYMBOLS = 16  # size of a vocabulary with negligible logits
_FP32 = 4


@dataclass(frozen=True)
class Footprint:
    """Memory on the fullest GPU of a run [bytes].

    Attributes
    ----------
    weights : fp32, this rank's part; with evaluation.average also of the averaged weights
    gradients : fp32, this rank's part
    optimizer : AdamW's two moments, this rank's part
    gathered : FSDP: all-gathered blocks, and their gradients before they are reduced
    activations : kept by one micro-batch for the backward pass, and the temporaries of the largest operation
    logits : the same for the head and the loss
    evaluation : memory of an evaluation besides weights and optimizer
    overhead : CUDA, NCCL, and fragmentation
    """

    weights: int
    gradients: int
    optimizer: int
    gathered: int
    activations: int
    logits: int
    evaluation: int

    @property
    def training(self) -> int:
        """All tensors during a training step."""
        return self.state + self.gradients + self.gathered + self.activations + self.logits

    @property
    def state(self) -> int:
        """Tensors that exist permanently."""
        return self.weights + self.optimizer

    @property
    def tensors(self) -> int:
        """Peak of all tensors: in a training step, or in an evaluation, which has no gradients."""
        return max(self.training, self.state + self.evaluation)

    @property
    def overhead(self) -> int:
        return CONTEXT + int(FRAGMENTS * self.tensors)

    @property
    def total(self) -> int:
        """Memory that the GPU must have."""
        return self.tensors + self.overhead


def footprint(config: TrainConfig, vocab_size: int, n_ranks: int, as_gpu: bool = True) -> Footprint:
    """Return the memory that one GPU of a run needs.

    Evaluations are counted in micro-batches, and FSDP reduces and scatters gradients after each micro-batch. A single
    process with one micro-batch per step needs up to `gradients` less, because gradients replace activations.

    Parameters
    ----------
    vocab_size : of the tokenizer
    n_ranks : number of GPUs that train the run
    as_gpu : count the kernels of a GPU; False: of a CPU, which can be measured

    Raises
    ------
    ConfigError
        If ranks cannot share the batch, passes a rank's share, or copies of the model the ranks.
    """
    sharded = config.machine.parallel == "fsdp" and n_ranks > 1
    n_shards = shards_of(config.machine, n_ranks) if sharded else 1
    micro_batch = micro_batch_of(config.stream.batch_size, config.machine, n_ranks)
    shapes = _parameter_shapes(config, vocab_size)
    own = sum(_own_part(shape, n_shards) for shape in shapes.values()) * _FP32
    kept = _Kept(config, sharded, micro_batch, as_gpu)
    activations = kept.of(_FEW_SYMBOLS, training=True)
    return Footprint(
        weights=own * (2 if config.evaluation.average else 1),
        gradients=own,
        optimizer=2 * own,
        gathered=_gathered(config, shapes, training=True) if sharded else 0,
        activations=activations,
        logits=kept.of_head(vocab_size),
        evaluation=kept.of(vocab_size, training=False) + (_gathered(config, shapes, training=False) if sharded else 0),
    )


def _parameter_shapes(config: TrainConfig, vocab_size: int) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model = FAMILIES[config.model.family](config.model, vocab_size, config.layout())
    return {name: p.shape for name, p in model.named_parameters()}


def _own_part(shape: torch.Size, n_ranks: int) -> int:
    """Return the elements of a parameter on the first rank: shards divide the first axis, the first is the largest."""
    return -(-shape[0] // n_ranks) * shape[1:].numel()


def _gathered(config: TrainConfig, shapes: dict[str, torch.Size], training: bool) -> int:
    """Return what FSDP holds beside shards when activations are most: the head, norms, the block at work and the next,
    all whole; in training the gradients of the head and of a block, whole, and of two blocks on their way in fp32.

    The lookup table is gathered while a pass begins and ends, when activations are few.
    """
    size = 2 if config.precision == "bf16" else _FP32
    counts: dict[str, int] = {}
    for name, shape in shapes.items():
        group = ".".join(name.split(".")[:2]) if name.startswith("blocks.") else ""
        counts[group] = counts.get(group, 0) + shape.numel() * (not name.startswith("embedding."))
    root, block = counts.pop(""), max(counts.values())
    head = sum(shape.numel() for name, shape in shapes.items() if name.startswith("head."))
    return size * (root + 2 * block) + training * (size * (block + head) + 2 * _FP32 * block)


@dataclass(frozen=True)
class _Kept:
    """What the model's code makes and keeps, beside weights and gradients, in one micro-batch [bytes]."""

    config: TrainConfig
    sharded: bool
    micro_batch: int
    as_gpu: bool

    def of(self, vocab_size: int, training: bool) -> int:
        """Return the most bytes at once, from models of few blocks: every further block of a kind adds the same."""
        model = self.config.model
        depths = (model.depth, model.decoder_depth if model.family == "vision" else 0)
        few = tuple(min(depth, 1) for depth in depths)
        base = total = self._peak(vocab_size, training, few)
        for i, depth in enumerate(depths):
            if depth > 1:
                more = tuple(n + (i == j) for j, n in enumerate(few))
                total += (depth - 1) * (self._peak(vocab_size, training, more) - base)
        return total

    def of_head(self, vocab_size: int) -> int:
        """Return what the symbols of a vocabulary add to a step, whatever the depth."""
        few = (1, 1 if self.config.model.family == "vision" else 0)
        return max(self._peak(vocab_size, True, few) - self._peak(_FEW_SYMBOLS, True, few), 0)

    def _peak(self, vocab_size: int, training: bool, depths: tuple[int, ...]) -> int:
        changed = replace(
            self.config.model, depth=depths[0], decoder_depth=depths[1] or self.config.model.decoder_depth
        )
        machine = replace(self.config.machine, compile=False, cuda_graphs=False, micro_batch=0)
        config = replace(self.config, model=changed, machine=machine)
        key = (repr(config.model), repr(config.layout()), config.precision, repr(machine))
        return _peak_of(
            _Case(config, vocab_size, self.sharded, self.micro_batch, as_gpu=self.as_gpu, training=training, key=key)
        )


@dataclass(frozen=True, eq=False)
class _Case:
    config: TrainConfig
    vocab_size: int
    sharded: bool
    micro_batch: int
    as_gpu: bool
    training: bool
    key: tuple[Any, ...]

    def __hash__(self) -> int:
        return hash(self._facts())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Case) and self._facts() == other._facts()

    def _facts(self) -> tuple[Any, ...]:
        return (self.key, self.vocab_size, self.sharded, self.micro_batch, self.as_gpu, self.training)


@cache
def _peak_of(case: _Case) -> int:
    """Run one micro-batch on fake tensors; return the most bytes at once beside weights and gradients."""
    config, layout = case.config, case.config.layout()
    with FakeTensorMode(), gpu_kernels() if case.as_gpu else nullcontext():
        half = case.sharded and config.precision == "bf16"  # as gathered shards are
        with _weights_of(torch.bfloat16 if half else torch.float32):
            model: nn.Module = FAMILIES[config.model.family](config.model, case.vocab_size, layout)
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(_drop_gradient)  # counted apart
        model.scores_at_once = config.machine.scores_at_once  # type: ignore[assignment]
        batch = inputs_like(layout, case.micro_batch)
        called: Any = trainable(model, config.machine, ALONE)
        with LiveBytes([*model.parameters(), *model.buffers(), *batch.values()]) as live:
            with torch.set_grad_enabled(case.training):
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.precision == "bf16"):
                    losses = called(batch)
                    loss = torch.stack([losses[kind].sum() for kind in model.loss_weights]).sum()  # type: ignore[union-attr]
                if case.training:
                    loss.backward()
            return live.peak


@contextmanager
def _weights_of(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _drop_gradient(parameter: Tensor) -> None:
    parameter.grad = None


def inputs_like(layout: Layout, n: int) -> dict[str, Tensor]:
    """Return what a model reads of a batch of n, all zeros."""
    side, S, M = layout.view.size, layout.seq_len, layout.seq_len // layout.n_patches if layout.n_patches else 0
    if layout.family == "text":
        return {"tokens": torch.zeros(n, S + 1, dtype=torch.int64)}
    if layout.family == "multimodal":
        places = {name: torch.zeros(n, S, dtype=torch.int64) for name in ("tokens", "document", "patch")}
        return places | {"images": torch.zeros(n, M, side, side, 3, dtype=torch.uint8)}
    return {
        "images": torch.zeros(n, side, side, 3, dtype=torch.uint8),
        "tokens": torch.zeros(n, S - layout.n_patches, dtype=torch.int64),
        "prefix": torch.ones(n, dtype=torch.int64),
    }


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, from when they are made until they are freed.

    Parameters
    ----------
    known : tensors that were there before, which do not count
    """

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known = {t.untyped_storage()._cdata for t in known}
        self._kept = known  # so that no new storage gets the place of a known one

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        place = storage._cdata
        if place not in self._known:
            self._known.add(place)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, place, storage.nbytes())

    def _forget(self, place: int, n_bytes: int) -> None:
        self._known.discard(place)
        self.now -= n_bytes


@contextmanager
def gpu_kernels() -> Iterator[None]:
    """Keep for the backward pass what a GPU's kernels keep where a CPU's keep more: fused RMSNorm, and attention whose
    mask is a rule (FlexAttention) and no matrix.

    Their names are replaced, because a torch function mode ends where a backward pass computes activations again.
    """
    norm, attention = F.rms_norm, F.scaled_dot_product_attention

    def unmasked(q: Tensor, k: Tensor, v: Tensor, attn_mask: Any = None, is_causal: bool = False) -> Tensor:
        return attention(q, k, v, is_causal=is_causal or attn_mask is not None)

    F.rms_norm, F.scaled_dot_product_attention = _fused_norm, unmasked  # type: ignore[assignment]
    try:
        yield
    finally:
        F.rms_norm, F.scaled_dot_product_attention = norm, attention


def _fused_norm(x: Tensor, shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    return _FusedNorm.apply(x, weight)


class _FusedNorm(torch.autograd.Function):
    """A norm that keeps its input, one number for each row, and its weights; only shapes are right."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | None) -> Tensor:
        scale = torch.empty(x.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(x, scale, *([] if weight is None else [weight]))
        return torch.empty_like(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, _, *weight = ctx.saved_tensors
        return torch.empty_like(x), torch.empty_like(weight[0]) if weight else None
