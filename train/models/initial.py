"""Initial weights: drawn one parameter at a time, so that a model that is sharded over ranks is never whole anywhere.

A model is built without memory (on the meta device), sharded, given memory, and only then filled. Every rank draws the
same sequence of whole parameters on its CPU and keeps its part, so the weights do not depend on the number of ranks.
"""

import math

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from data.stream.order import derived_key
from train.config import ModelConfig
from train.models.layers import Positions


def allocate(model: nn.Module, device: torch.device) -> None:
    """Give a model that was built on the meta device its memory; weights hold no values yet."""
    model.to_empty(device=device)
    for module in model.modules():
        if isinstance(module, Positions):
            module.fill()


@torch.no_grad()
def initialise(model: nn.Module, config: ModelConfig, seed: int) -> None:
    """Fill all weights with values that depend on (config, seed) only, whole or sharded.

    The variances of muP, which standard parametrisation at these depths shares. Lookup table: std 1. Matrices: std
    1/sqrt(fan_in), those that write into the residual stream divided by sqrt(2 depth) more. Heads: std 1/fan_in, so
    that initial logits shrink with width (Yang et al. 2022, table 3).
    """
    generator = torch.Generator().manual_seed(derived_key(seed, "weights", 0) >> 1)
    depth = len(model.blocks)  # type: ignore[arg-type]
    for name, weight in model.named_parameters():
        copy_whole(weight, _drawn(name, weight.shape, depth, generator))


def _drawn(name: str, shape: torch.Size, depth: int, generator: torch.Generator) -> Tensor:
    """Return the initial values of one parameter, on the CPU."""
    values = torch.empty(shape, dtype=torch.float32)
    if name.endswith("norm.weight"):
        return values.fill_(1.0)
    if name == "embedding.weight":
        std = 1.0
    elif name in ("head.weight", "image_head.weight"):
        std = 1 / shape[1]
    else:
        writes_residual = name.endswith(("out.weight", "down.weight"))
        std = (1 / math.sqrt(2 * depth) if writes_residual else 1.0) / math.sqrt(shape[1])
    return values.normal_(0.0, std, generator=generator)


@torch.no_grad()
def copy_whole(target: Tensor, whole: Tensor) -> None:
    """Copy a whole tensor into a live one; a sharded one takes this rank's part. No rank waits for another."""
    if isinstance(target, DTensor):
        whole = whole.to(target.device, target.dtype)
        whole = distribute_tensor(whole, target.device_mesh, target.placements, src_data_rank=None)
    target.copy_(whole)
