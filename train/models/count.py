"""How big a model is: parameters by kind, and training FLOPs per token.

The paper's N is the total with untied embeddings (its tables recompute to within rounding), and its FLOPs are 6ND. At
tiny sizes embeddings weigh more, so every count is stored and the fitter may choose.
"""

from torch import nn

from mixlaw.counts import FLOPS_PER_PARAM_AND_TOKEN, flops
from train.config import ModelConfig


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Return total, embedding (the lookup table), head, non_embedding (neither of the two), active (used per token)."""
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    total = sum(sizes.values())
    embedding = sum(n for name, n in sizes.items() if name.startswith("embedding."))
    head = sum(n for name, n in sizes.items() if name.startswith("head."))
    patches = sum(n for name, n in sizes.items() if name.startswith(("patches.", "image_head.")))
    counts = {
        "total": total,
        "embedding": embedding,
        "head": head,
        "non_embedding": total - embedding - head,
        "active": total,
    }
    return counts | ({"patches": patches} if patches else {})


def flops_per_token(
    config: ModelConfig, counts: dict[str, int], seq_len: int, image_share: float = 0.0
) -> dict[str, float]:
    """Return training FLOPs per token (forward and backward), averaged over text and patches.

    exact: 6 per matrix parameter (the lookup table costs nothing), and attention over the (S + 1) / 2 positions that
    a causal mask leaves on average; palm: attention over all S, the convention of model FLOPs utilisation (Chowdhery
    et al. 2022, appendix B); six_n: the paper's 6N. Text does not pass the matrices of patches, nor the encoder of a
    vision model, and patches do not pass the head.

    Parameters
    ----------
    image_share : of the tokens that are patches
    """
    patches = counts.get("patches", 0)
    blocks = counts["total"] - counts["embedding"] - counts["head"] - patches
    depth: float = config.depth
    if config.family == "vision":
        depth = config.depth * image_share + config.decoder_depth
        blocks *= depth / (config.depth + config.decoder_depth)  # type: ignore[assignment]
    matrices = FLOPS_PER_PARAM_AND_TOKEN * (blocks + (1 - image_share) * counts["head"] + image_share * patches)
    attention_per_position = 12 * depth * config.width
    return {
        "exact": matrices + attention_per_position * (seq_len + 1) / 2,
        "palm": float(matrices + attention_per_position * seq_len),
        "six_n": flops(counts["total"], n_tokens=1),
    }
