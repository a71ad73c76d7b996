"""Ranks: who this process is, and how all of them come to one decision. torch.distributed is the only engine."""

import os
import re
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist

from mixlaw.errors import ConfigError, MixlawError


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

    def total(self, value: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over the ranks."""
        if self.size > 1:
            dist.all_reduce(value, op=dist.ReduceOp.SUM)
        return value

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            dist.barrier()

    @contextmanager
    def together(self) -> Iterator[None]:
        """A block that all ranks leave in the same way: an error of one of them stops the others, too.

        Raises
        ------
        MixlawError, OSError
            This rank's own, or one that says to look at the others.
        """
        failure: MixlawError | OSError | None = None
        try:
            yield
        except (MixlawError, OSError) as error:
            failure = error
        if self.maximum(int(failure is not None)):
            raise failure or MixlawError("stopped, because another rank of this run failed: see what it says")


ALONE = World(0, 1, torch.device("cpu"))


def join_world(device: str) -> World:
    """Return this process's place: alone, or among the ranks that torchrun or srun started."""
    use_cuda = device != "cpu" and torch.cuda.is_available()
    if device == "cuda" and not use_cuda:
        raise ConfigError("machine.device is cuda, but torch sees no GPU: use machine.device=auto")
    adopt_slurm(os.environ)
    rank, size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_RANK", 0))
    chosen = torch.device("cuda", gpu_of(local, torch.cuda.device_count())) if use_cuda else torch.device("cpu")
    if use_cuda:
        torch.cuda.set_device(chosen)
    if size > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if use_cuda else "gloo", device_id=chosen if use_cuda else None)
    return World(rank, size, chosen)


def gpu_of(local_rank: int, n_seen: int) -> int:
    """Return which of the GPUs that CUDA shows this process is the rank's own.

    Raises
    ------
    ConfigError
        If a node has more ranks than GPUs: two ranks of a run cannot share one.
    """
    if n_seen == 1:  # with --gpus-per-task each task sees its own GPU only, whatever its number on the node
        return 0
    if local_rank >= n_seen:
        raise ConfigError(
            f"rank {local_rank} of this node finds {n_seen} GPUs: start one process per GPU "
            f"(torchrun --nproc-per-node={n_seen}, or sbatch --ntasks-per-node={n_seen}), or make more GPUs visible"
        )
    return local_rank


def adopt_slurm(environment: MutableMapping[str, str]) -> None:
    """Say in torch's words what `srun` says in its own; torchrun's words win where both are there."""
    step = environment.get("SLURM_STEP_NUM_TASKS", "1")  # of the srun step, not of the allocation
    if "RANK" in environment or step == "1":
        return
    environment["RANK"] = environment["SLURM_PROCID"]
    environment["WORLD_SIZE"] = step
    environment["LOCAL_RANK"] = environment["SLURM_LOCALID"]
    environment.setdefault("MASTER_ADDR", first_host(environment["SLURM_STEP_NODELIST"]))
    environment.setdefault("MASTER_PORT", str(20_000 + int(environment["SLURM_JOB_ID"]) % 20_000))


def first_host(nodes: str) -> str:
    """Return the first host of Slurm's short form of a list: gpu[03-05,9],x -> gpu03."""
    match = re.match(r"([^,\[]+)(?:\[([^,\-\]]+))?", nodes)
    if not match:
        raise ConfigError(f"SLURM_STEP_NODELIST is {nodes!r}; it names no host: set MASTER_ADDR")
    return match[1] + (match[2] or "")


def leave_world() -> None:
    """Let the other ranks go."""
    if dist.is_initialized():
        dist.destroy_process_group()
