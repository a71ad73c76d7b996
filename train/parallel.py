"""How a model lies on its ranks: one copy each (DDP) or one shard each (FSDP2); what is compiled and recomputed."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from train.config import MachineConfig
from train.distributed import World
from train.models.initial import allocate


def place(model: nn.Module, machine: MachineConfig, precision: str, world: World) -> nn.Module:
    """Give a model that has no memory yet its place on this rank, sharded if machine.parallel says so.

    Comes before the optimizer. The weights hold no values: `initialise` or a checkpoint fills them.
    """
    alone = world.size == 1 and not dist.is_initialized()  # a group of one, where one was made, is sharded too
    if machine.parallel == "fsdp" and not alone:
        warnings.filterwarnings("ignore", "FSDP2-wrapped module")  # returns a view: nothing writes into the losses
        _shard(model, init_device_mesh(world.device.type, (world.size,)), precision)
    allocate(model, world.device)
    return model


def _shard(model: nn.Module, mesh: DeviceMesh, precision: str) -> None:
    """Leave each rank a part of every parameter; weights are gathered in the type in which they are computed with.

    No input of a block is cast, because rotary tables stay in fp32, and the residual stream has its type already.
    """
    sums = torch.float32 if precision == "bf16" else None
    half = MixedPrecisionPolicy(torch.bfloat16 if sums else None, sums, cast_forward_inputs=False)
    whole = MixedPrecisionPolicy(None, sums, cast_forward_inputs=False)
    lookup = [model.embedding] if hasattr(model, "embedding") else []
    for module in (*lookup, *model.blocks, model):  # type: ignore[misc]
        # also the outermost goes back to shards after an evaluation, which no backward pass follows
        policy = whole if module in lookup else half
        fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=True)


def trainable(model: nn.Module, machine: MachineConfig, world: World) -> nn.Module:
    """Return what the loop calls: compiled, recomputing activations, and summing gradients, as the machine wants."""
    mode = "reduce-overhead" if machine.cuda_graphs else "default"
    sharded = isinstance(model, FSDPModule)
    for block in model.blocks:  # type: ignore[union-attr]
        if machine.activation_checkpointing:
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        if machine.compile and sharded:  # block by block, because gathering the shards breaks graphs
            block.compile(mode=mode)
    if sharded:
        return model
    replica = torch.compile(model, mode=mode) if machine.compile else model
    if world.size > 1:
        return DistributedDataParallel(replica, gradient_as_bucket_view=True)
    return replica  # type: ignore[return-value]


@contextmanager
def summing_gradients(model: nn.Module, enabled: bool) -> Iterator[None]:
    """Let the ranks exchange gradients in this backward pass, or leave that to a later one of the same step."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(enabled)
    if isinstance(model, DistributedDataParallel) and not enabled:
        with model.no_sync():
            yield
    else:
        yield


def clip_gradients(model: nn.Module, limit: float) -> Tensor:
    """Scale all gradients so that their norm is at most `limit`; return the norm before, over all ranks' shards."""
    norm = nn.utils.clip_grad_norm_(model.parameters(), limit)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm
