"""Wraps the multimodal and vision models as transformers models; transformers has no class of this architecture.

from train.hf import MixlawModel           # in a checkout of mixlaw
model = MixlawModel.from_pretrained(folder)
model(tokens=..., document=..., patch=..., images=...)   # multimodal: see data.stream.items.PackedDocuments.arrays
"""

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from data.stream.items import Layout
from data.stream.views import View
from train.config import ModelConfig
from train.models.build import FAMILIES
from train.models.layers import Positions, rotary_table


class MixlawConfig(PretrainedConfig):
    """The settings of the architecture.

    Parameters
    ----------
    model : the fields of train.config.ModelConfig
    vocab_size : of the tokenizer
    seq_len : places of a sequence, for tokens and patches
    """

    model_type = "mixlaw"

    def __init__(
        self, model: dict[str, Any] | None = None, vocab_size: int = 256, seq_len: int = 0, **more: Any
    ) -> None:
        self.model = model or {}
        self.vocab_size = vocab_size
        self.seq_len = seq_len
        super().__init__(**more)


class MixlawModel(PreTrainedModel):
    """A model of the multimodal or the vision family."""

    config_class = MixlawConfig

    def __init__(self, config: MixlawConfig) -> None:
        super().__init__(config)
        ours = ModelConfig(**config.model)
        layout = Layout(config.seq_len, ours.family, ours.patch_size, View(ours.image_size))
        self.inner: nn.Module = FAMILIES[ours.family](ours, config.vocab_size, layout)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Recompute the rotary table, the only tensor that is not saved."""
        if isinstance(module, Positions):
            ours = ModelConfig(**self.config.model)
            cos, sin = rotary_table(self.config.seq_len, ours.head_dim, ours.rope_base)
            with torch.no_grad():
                module.cos.copy_(cos)
                module.sin.copy_(sin)

    def forward(self, **batch: Tensor) -> Tensor:
        """Return the logits (B, S, V) of the next token at each place."""
        logits: Tensor = self.inner.logits(batch)  # type: ignore[operator]
        return logits


def to_own_model(model: nn.Module, config: ModelConfig, vocab_size: int, seq_len: int) -> MixlawModel:
    """Return a trained model with `save_pretrained`, in evaluation mode."""
    own = MixlawModel(MixlawConfig(dataclasses.asdict(config), vocab_size, seq_len, dtype="float32"))
    own.inner.load_state_dict(model.state_dict())
    return own.eval()
