"""Data parallelism (DDP or FSDP2), compilation and activation checkpointing of a model."""

import inspect
import logging
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint, create_selective_checkpoint_contexts

from mixlaw.errors import ConfigError
from train.config import MachineConfig
from train.distributed import World
from train.models.initial import allocate

log = logging.getLogger(__name__)
_COSTLY = [
    torch.ops.aten.mm.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
]
# Rotary tables are equal on all ranks, so buffers need no broadcast; torch renamed the setting after 2.9.
_NEW_NAME = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
_KEEP_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if _NEW_NAME else "broadcast_buffers": False}


def place(model: nn.Module, machine: MachineConfig, precision: str, world: World) -> nn.Module:
    """Shard a model on the meta device if machine.parallel=fsdp, and allocate its memory on this rank.

    Call before building the optimizer. The weights are uninitialised: `initialise` or a checkpoint fills them.
    """
    alone = world.size == 1 and not dist.is_initialized()  # a process group of one rank is sharded too
    if machine.parallel == "fsdp" and not alone:
        warnings.filterwarnings("ignore", "FSDP2-wrapped module")  # about returned views, which nothing writes to
        _shard(model, _mesh(shards_of(machine, world.size), world), precision)
    allocate(model, world.device)
    model.scores_at_once = machine.scores_at_once  # type: ignore[assignment]
    return model


def shards_of(machine: MachineConfig, n_ranks: int) -> int:
    """Return the number of ranks that share one copy of the model under FSDP.

    Raises
    ------
    ConfigError
        If it does not divide the number of ranks.
    """
    n_shards = machine.shards or n_ranks
    if n_ranks % n_shards:
        raise ConfigError(f"machine.shards {n_shards} does not divide the {n_ranks} ranks of the run")
    return n_shards


def _mesh(n_shards: int, world: World) -> DeviceMesh:
    """Return the device mesh: one copy of the model over all ranks, or one per `n_shards` neighbours (HSDP)."""
    kind, n_copies = world.device.type, world.size // n_shards
    if n_copies == 1:
        return init_device_mesh(kind, (n_shards,))
    return init_device_mesh(kind, (n_copies, n_shards), mesh_dim_names=("copies", "shards"))


def _shard(model: nn.Module, mesh: DeviceMesh, precision: str) -> None:
    """Shard every parameter over ranks; weights are all-gathered in the type of the computation.

    Inputs of blocks are not cast: rotary tables stay in fp32, and the residual stream has the right type already.
    """
    sums = torch.float32 if precision == "bf16" else None
    half = MixedPrecisionPolicy(torch.bfloat16 if sums else None, sums, cast_forward_inputs=False)
    whole = MixedPrecisionPolicy(None, sums, cast_forward_inputs=False)
    lookup = [model.embedding] if hasattr(model, "embedding") else []
    for module in (*lookup, *model.blocks, model):  # type: ignore[misc]
        # reshard the root too, because no backward pass follows an evaluation
        policy = whole if module in lookup else half
        fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=True)


def trainable(model: nn.Module, machine: MachineConfig, world: World) -> nn.Module:
    """Return the model that the loop calls, with compilation, activation checkpointing and DDP as configured.

    A sharded model is compiled per block (and its head with the losses), inside the all-gather hooks, because hooks
    break graphs. Activation checkpointing is inside the compiled part.
    """
    compiled = partial(torch.compile, mode="reduce-overhead" if machine.cuda_graphs else "default")
    sharded, told = isinstance(model, FSDPModule), list[str]()
    for block in model.blocks:  # type: ignore[union-attr]
        if machine.compile:
            block.forward = _watched(block.forward, told)
        if machine.activation_checkpointing:
            block.forward = _recomputed(block.forward, machine.selective_checkpointing)
        if machine.compile and sharded:
            block.forward = compiled(block.forward)
    if sharded:
        if machine.compile:
            model.losses = compiled(model.losses)  # type: ignore[assignment]
        return model
    replica = compiled(model) if machine.compile else model
    if world.size > 1:
        return DistributedDataParallel(replica, gradient_as_bucket_view=True, **_KEEP_BUFFERS)
    return replica  # type: ignore[return-value]


def _recomputed(forward: Callable[..., Tensor], selective: bool) -> Callable[..., Tensor]:
    """Wrap a function with activation checkpointing: keep its inputs, and recompute it in the backward pass.

    Parameters
    ----------
    selective : keep the results of matrix products and attention too; the rest is cheap to recompute
    """
    kept: dict[str, Any] = {"context_fn": partial(create_selective_checkpoint_contexts, _COSTLY)} if selective else {}

    def call(*inputs: Any) -> Tensor:
        return checkpoint(forward, *inputs, use_reentrant=False, **kept)

    return call


def _watched(forward: Callable[..., Tensor], told: list[str]) -> Callable[..., Tensor]:
    """Wrap a function to warn once if it is trained uncompiled."""

    def call(*inputs: Any) -> Tensor:
        if not torch.compiler.is_compiling() and torch.is_grad_enabled() and not told:
            told.append("machine.compile is on, but blocks run uncompiled: training is slower than it could be")
            log.warning(told[0])
        return forward(*inputs)

    return call


def summing_gradients(model: nn.Module, enabled: bool) -> AbstractContextManager[None]:
    """Make DDP reduce gradients in the last backward pass of a step only.

    FSDP reduces in every pass: unreduced gradients are unsharded fp32 tensors on every rank, larger than all the rest.
    """
    if isinstance(model, DistributedDataParallel) and not enabled:
        return model.no_sync()
    return nullcontext()


def clip_gradients(model: nn.Module, limit: float) -> Tensor:
    """Clip the global gradient norm to `limit`; return the norm before clipping, over all shards."""
    norm = nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
    nn.utils.clip_grads_with_norm_(model.parameters(), limit, norm)
    return norm


def micro_batch_of(batch_size: int, machine: MachineConfig, n_ranks: int) -> int:
    """Return the number of sequences per forward pass of a rank.

    Raises
    ------
    ConfigError
        If ranks cannot divide the batch, passes cannot divide a rank's share, or CUDA graphs would need several passes.
    """
    share, left = divmod(batch_size, n_ranks)
    if left:
        raise ConfigError(f"stream.batch_size {batch_size} is not a multiple of the {n_ranks} ranks")
    micro_batch = min(machine.micro_batch or share, share)
    if share % micro_batch:
        fitting = ", ".join(str(n) for n in range(1, share + 1) if share % n == 0)
        raise ConfigError(
            f"machine.micro_batch {micro_batch} does not divide the {share} sequences of a rank (stream.batch_size "
            f"{batch_size} over {n_ranks}): the last pass would be of another shape, and compiled again. Set one of "
            f"{fitting}"
        )
    if machine.cuda_graphs and micro_batch < share:
        raise ConfigError(
            f"machine.cuda_graphs replays into the same memory: the {share // micro_batch} passes of a step would "
            "overwrite each other's results. Set machine.micro_batch=0 or machine.cuda_graphs=false"
        )
    return micro_batch
