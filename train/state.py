"""The state of a run: weights, optimizer statistics and averaged weights, as named tensors."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.staging import DefaultStager, StagingOptions
from torch.distributed.tensor import DTensor

from train.average import WeightAverage
from train.models.initial import copy_whole

Tensors = dict[str, Tensor]


@dataclass
class TrainState:
    """The tensors of a run: replicated on every rank, or sharded over ranks (FSDP)."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    average: WeightAverage | None = None

    def __post_init__(self) -> None:
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                _start_adam(self.optimizer, parameter)

    def parts(self) -> dict[str, Tensors]:
        """Return the live tensors by part and name: model, optimizer ("<parameter>/<statistic>"), average."""
        parts = {"model": dict(self.model.state_dict()), "optimizer": self._statistics()}
        if self.average:
            parts["average"] = dict(self.average.model.state_dict())
        return parts

    def copy_to_host(self, stager: DefaultStager) -> "Snapshot":
        """Return a copy in host memory of this rank's tensors; `stager` reuses the memory of its last copy."""
        copied: Any = stager.stage(self.parts())  # synchronous: no future
        return Snapshot(copied, self.is_sharded, self.n_bytes)

    def _statistics(self) -> Tensors:
        named = ((name, self.optimizer.state[p]) for name, p in self.model.named_parameters())
        return {f"{name}/{key}": value for name, statistics in named for key, value in statistics.items()}

    @property
    def is_sharded(self) -> bool:
        """Whether each rank has only a shard of the tensors."""
        return any(isinstance(p, DTensor) for p in self.model.parameters())

    @property
    def n_bytes(self) -> int:
        """Size of all tensors over all ranks [bytes]."""
        return sum(t.numel() * t.element_size() for part in self.parts().values() for t in part.values())


@dataclass(frozen=True)
class Snapshot:
    """A copy of a run's tensors, which training does not change."""

    tensors: dict[str, Tensors]
    is_sharded: bool
    n_bytes: int

    def parts(self) -> dict[str, Tensors]:
        """Return the copied tensors by part and name, as `TrainState.parts` does."""
        return self.tensors


def host_stager(device: torch.device) -> DefaultStager:
    """Return a stager that copies tensors to host memory; pinned memory for a GPU, which is faster."""
    pinned = device.type == "cuda"
    return DefaultStager(StagingOptions(pinned, False, False, use_non_blocking_copy=pinned))


def _start_adam(optimizer: torch.optim.Optimizer, parameter: Tensor) -> None:
    """Create the statistics that AdamW creates at its first step, so that a checkpoint can be loaded into them."""
    if not optimizer.state[parameter]:
        optimizer.state[parameter] = {
            "step": torch.zeros((), dtype=torch.float32, device=parameter.device),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }


def fill(targets: Tensors, values: Tensors) -> None:
    """Copy whole tensors into the live ones of the same names; a sharded one takes this rank's part.

    Raises
    ------
    KeyError, ValueError
        If a tensor is missing, left over, or has another shape; names it.
    """
    if targets.keys() != values.keys():
        raise KeyError(f"'{min(targets.keys() ^ values.keys())}' is in one of the two only")
    for name, target in targets.items():
        value = values[name]
        if value.shape != target.shape:
            raise ValueError(f"'{name}' has shape {list(value.shape)}, this model's has {list(target.shape)}")
        copy_whole(target, value)
