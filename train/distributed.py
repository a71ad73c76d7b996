"""Ranks: who this process is, and how all of them come to one decision. torch.distributed is the only engine."""

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn

from mixlaw.errors import ConfigError


@dataclass(frozen=True)
class World:
    """This process among the ranks that train one model together."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this rank writes: only one does."""
        return self.rank == 0

    def maximum(self, value: int) -> int:
        """Return the largest of all ranks' values, so that every rank acts on the same one."""
        if self.size == 1:
            return value
        flag = torch.tensor(value, device=self.device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return int(flag.item())

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Return the mean of a tensor over the ranks."""
        if self.size > 1:
            dist.all_reduce(value, op=dist.ReduceOp.SUM)
            value /= self.size
        return value

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over the ranks."""
        if self.size > 1:
            dist.all_reduce(value, op=dist.ReduceOp.SUM)
        return value

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier()

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the model with gradients averaged over the ranks."""
        return nn.parallel.DistributedDataParallel(model) if self.size > 1 else model


def join_world(device: str) -> World:
    """Return this process's place: alone, or among the ranks that torchrun or srun started."""
    use_cuda = device != "cpu" and torch.cuda.is_available()
    if device == "cuda" and not use_cuda:
        raise ConfigError("machine.device is cuda, but torch sees no GPU: use machine.device=auto")
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_RANK", 0))
    chosen = torch.device("cuda", local) if use_cuda else torch.device("cpu")
    if use_cuda:
        torch.cuda.set_device(chosen)
    if size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if use_cuda else "gloo")
    return World(rank, size, chosen)


def leave_world() -> None:
    """Let the other ranks go."""
    if dist.is_initialized():
        dist.destroy_process_group()
