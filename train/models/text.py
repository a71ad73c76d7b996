"""The text family: a Llama-like decoder with untied input and output embeddings, as in the paper's language runs.

Shapes: B sequences, S positions, D width, V vocabulary.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from train.config import ModelConfig
from train.models.layers import Block, rotary_table


class TextModel(nn.Module):
    """Next-token prediction over packed sequences.

    Parameters
    ----------
    config : width, depth and heads
    vocab_size : V
    seq_len : S, the longest sequence that positions are prepared for
    """

    def __init__(self, config: ModelConfig, vocab_size: int, seq_len: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final_norm = nn.RMSNorm(config.width)
        self.head = nn.Linear(config.width, vocab_size, bias=False)
        cos, sin = rotary_table(seq_len, config.head_dim, config.rope_base)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def logits(self, tokens_BS: Tensor) -> Tensor:
        """Return (B, S, V) scores of the token that follows each position."""
        x_BSD = self.embedding(tokens_BS)
        cos, sin = self.cos[: tokens_BS.shape[1]], self.sin[: tokens_BS.shape[1]]
        for block in self.blocks:
            x_BSD = block(x_BSD, cos, sin)
        return self.head(self.final_norm(x_BSD))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (B, S) losses in nats per token for sequences of S + 1 tokens."""
        logits_BSV = self.logits(tokens[:, :-1]).float()
        return F.cross_entropy(logits_BSV.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none").view(
            tokens.shape[0], -1
        )
