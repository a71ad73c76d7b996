"""Our text models as Llamas of transformers: names of weights, and settings of the shape.

Without QK-norm a text model is a `LlamaForCausalLM`; with it, the same architecture is called `Qwen3ForCausalLM` there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mixlaw.errors import ConfigError
from train.config import ModelConfig
from train.models.layers import ffn_width, n_symbols

PARTS = {  # ours -> theirs, below a block; matrices that hold several of theirs are cut in that order
    "attention_norm": ["input_layernorm"],
    "attention.qkv": ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    "attention.q_norm": ["self_attn.q_norm"],
    "attention.k_norm": ["self_attn.k_norm"],
    "attention.out": ["self_attn.o_proj"],
    "ffn_norm": ["post_attention_layernorm"],
    "ffn.gate_up": ["mlp.gate_proj", "mlp.up_proj"],
    "ffn.down": ["mlp.down_proj"],
}
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
OUTSIDE = {"embedding.weight": EMBEDDING, "final_norm.weight": "model.norm.weight", "head.weight": HEAD}
COMPUTED = "rotary_emb.inv_freq"  # a table that old versions of transformers saved


def their_names(name: str) -> list[str]:
    """Return the names in transformers of the weights that one of ours consists of, in their order."""
    if not name.startswith("blocks."):
        return [OUTSIDE[name]]
    _, number, part = name.removesuffix(".weight").split(".", 2)
    return [f"model.layers.{number}.{theirs}.weight" for theirs in PARTS[part]]


def renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under the names of transformers' Llama, with fused matrices split."""
    named: dict[str, Tensor] = {}
    for name, value in weights.items():
        theirs = their_names(name)
        pieces = (piece.contiguous() for piece in value.chunk(len(theirs)))
        named |= dict(zip(theirs, pieces, strict=True))
    return named


def settings(model: ModelConfig, vocab_size: int) -> dict[str, Any]:
    """Return the settings in transformers of the architecture of a text model, but for the length of sequences."""
    return {
        "vocab_size": n_symbols(model, vocab_size),
        "hidden_size": model.width,
        "intermediate_size": ffn_width(model),
        "num_hidden_layers": model.depth,
        "num_attention_heads": model.width // model.head_dim,
        "num_key_value_heads": model.width // model.head_dim,
        "head_dim": model.head_dim,
        "rms_norm_eps": model.norm_eps,
        "rope_parameters": {"rope_type": "default", "rope_theta": model.rope_base},
    }


def check_llama(folder: Path, model: ModelConfig, vocab_size: int) -> None:
    """Check that the model of a Hugging Face folder has the architecture of a run's model.

    Raises
    ------
    ConfigError
        Naming the first setting that differs, with both values.
    """
    from transformers import AutoConfig

    try:
        theirs = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"init_from: {folder}/config.json is of no model of transformers: {error!s:.200}") from None
    ours = {"model_type": "qwen3" if model.qk_norm else "llama", "hidden_act": "silu", **settings(model, vocab_size)}
    for name, value in ours.items():
        found = getattr(theirs, name, None)
        if found != value:
            raise ConfigError(
                f"init_from: {folder} has {name} {found}, and this run's model {value}: change the settings of "
                "`model`, which must describe the same Llama (qk_norm=true: Qwen3)"
            )


def weight_files(folder: Path) -> list[Path]:
    """Return the files of weights of a Hugging Face folder; pickled ones are never read."""
    return sorted(folder.glob("*.safetensors"))
