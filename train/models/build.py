"""From a configuration to an initialised model."""

import math
from typing import Any

import torch
from torch import nn

from data.items import Layout
from data.order import derived_key
from train.config import ModelConfig
from train.models.count import count_parameters
from train.models.multimodal import MultimodalModel
from train.models.text import TextModel
from train.models.vision import VisionModel

FAMILIES: dict[str, Any] = {"text": TextModel, "multimodal": MultimodalModel, "vision": VisionModel}


def build_model(config: ModelConfig, vocab_size: int, layout: Layout, seed: int, end_id: int = 0) -> nn.Module:
    """Return the model on the CPU with weights that depend on (config, seed) only.

    All families have `blocks`; `inputs`, what they read of a batch; `forward(batch)`, their losses by kind, element by
    element; `predicted(batch)`, how many elements of each sequence these are; `loss_weights`, what each kind counts.
    """
    model = _shaped(config, vocab_size, layout, end_id)
    generator = torch.Generator().manual_seed(derived_key(seed, "weights", 0) >> 1)
    initialise(model, config, generator)
    return model


def _shaped(config: ModelConfig, vocab_size: int, layout: Layout, end_id: int) -> nn.Module:
    model: nn.Module = FAMILIES[config.family](config, vocab_size, layout, end_id)
    return model


def count_of(config: ModelConfig, vocab_size: int, layout: Layout) -> dict[str, int]:
    """Return `count_parameters` of a model of any size, none of whose weights is made."""
    with torch.device("meta"):
        return count_parameters(_shaped(config, vocab_size, layout, 0))


@torch.no_grad()
def initialise(model: nn.Module, config: ModelConfig, generator: torch.Generator) -> None:
    """Fill all weights: the variances of muP, which standard parametrisation at these depths shares.

    Lookup table: std 1. Matrices: std 1/sqrt(fan_in), those that write into the residual stream divided by
    sqrt(2 depth) more. Heads: std 1/fan_in, so that initial logits shrink with width (Yang et al. 2022, table 3).
    """
    depth = len(model.blocks)  # type: ignore[arg-type]
    for name, weight in model.named_parameters():
        if name.endswith("norm.weight"):
            weight.fill_(1.0)
        elif name == "embedding.weight":
            weight.normal_(0.0, 1.0, generator=generator)
        elif name in ("head.weight", "image_head.weight"):
            weight.normal_(0.0, 1 / weight.shape[1], generator=generator)
        else:
            writes_residual = name.endswith(("out.weight", "down.weight"))
            scale = 1 / math.sqrt(2 * depth) if writes_residual else 1.0
            weight.normal_(0.0, scale / math.sqrt(weight.shape[1]), generator=generator)
