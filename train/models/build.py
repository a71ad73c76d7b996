"""From a configuration to an initialised model."""

from typing import Any

import torch
from torch import nn

from data.stream.items import Layout
from train.config import ModelConfig
from train.models.count import count_parameters
from train.models.initial import allocate, initialise
from train.models.multimodal import MultimodalModel
from train.models.text import TextModel
from train.models.vision import VisionModel

FAMILIES: dict[str, Any] = {"text": TextModel, "multimodal": MultimodalModel, "vision": VisionModel}


def build_model(config: ModelConfig, vocab_size: int, layout: Layout, seed: int, end_id: int = 0) -> nn.Module:
    """Return the model on the CPU with weights that depend on (config, seed) only."""
    model = shape_model(config, vocab_size, layout, end_id)
    allocate(model, torch.device("cpu"))
    initialise(model, config, seed)
    return model


def shape_model(config: ModelConfig, vocab_size: int, layout: Layout, end_id: int = 0) -> nn.Module:
    """Return a model that takes no memory yet (on the meta device), of any size.

    All families have `blocks`; `inputs`, what they read of a batch; `forward(batch)`, their losses by kind, element by
    element; `predicted(batch)`, how many elements of each sequence these are; `loss_weights`, what each kind counts.
    """
    with torch.device("meta"):
        model: nn.Module = FAMILIES[config.family](config, vocab_size, layout, end_id)
    return model


def count_of(config: ModelConfig, vocab_size: int, layout: Layout) -> dict[str, int]:
    """Return `count_parameters` of a model of any size, none of whose weights is made."""
    return count_parameters(shape_model(config, vocab_size, layout))
