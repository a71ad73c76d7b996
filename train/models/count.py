"""How big a model is: parameters by kind, and training FLOPs per token.

The paper's N is the total with untied embeddings (its tables recompute to within rounding), and its FLOPs are 6ND. At
tiny sizes embeddings weigh more, so every count is stored and the fitter may choose.
"""

from torch import nn

from train.config import ModelConfig


def count_parameters(model: nn.Module) -> dict[str, int]:
    """Return total, embedding (the lookup table), head, non_embedding (neither of the two), active (used per token)."""
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    total = sum(sizes.values())
    embedding = sum(n for name, n in sizes.items() if name.startswith("embedding."))
    head = sum(n for name, n in sizes.items() if name.startswith("head."))
    non_embedding = total - embedding - head
    return {
        "total": total,
        "embedding": embedding,
        "head": head,
        "non_embedding": non_embedding,
        "active": total,
    }


def flops_per_token(config: ModelConfig, counts: dict[str, int], seq_len: int) -> dict[str, float]:
    """Return training FLOPs per token (forward and backward).

    exact: 6 per matrix parameter (the lookup table costs nothing), and attention over the (S + 1) / 2 positions that
    a causal mask leaves on average; palm: attention over all S, the convention of model FLOPs utilisation (Chowdhery
    et al. 2022, appendix B); six_n: the paper's 6N.
    """
    matrices = 6 * (counts["total"] - counts["embedding"])
    attention_per_position = 12 * config.depth * config.width
    return {
        "exact": matrices + attention_per_position * (seq_len + 1) / 2,
        "palm": float(matrices + attention_per_position * seq_len),
        "six_n": 6.0 * counts["total"],
    }
