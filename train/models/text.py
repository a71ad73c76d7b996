"""The text family: a Llama-like decoder with untied input and output embeddings, as in the paper's language runs.

Shapes: B sequences, S positions, D width, V vocabulary.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from data.stream.items import Layout
from train.config import ModelConfig
from train.models.attention import document_mask
from train.models.layers import Block, Positions, in_fp32, n_symbols
from train.models.losses import scores, token_losses
from train.precision import as_stream


class TextModel(nn.Module):
    """Next-token prediction over packed sequences.

    Parameters
    ----------
    config : width, depth and heads
    vocab_size : of the tokenizer; V is this or more
    layout : S, the longest sequence that positions are prepared for
    end_id : token that ends a document, where attention is to stay within documents
    """

    inputs = ("tokens",)  # of a batch
    scores_at_once = 0  # places whose scores are in memory at a time; 0: of all

    def __init__(self, config: ModelConfig, vocab_size: int, layout: Layout, end_id: int = 0) -> None:
        super().__init__()
        self.loss_weights = {"text": 1.0}
        self._end_id = end_id if config.document_mask else None
        self._head_dim = config.head_dim
        self.embedding = nn.Embedding(n_symbols(config, vocab_size), config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final_norm = nn.RMSNorm(config.width, config.norm_eps)
        self.head = nn.Linear(config.width, n_symbols(config, vocab_size), bias=False)
        self.positions = Positions(config, layout.seq_len)

    def stream(self, tokens_BS: Tensor) -> Tensor:
        """Return (B, S, D) what the last block hands on."""
        x_BSD = as_stream(self.embedding(tokens_BS.clamp(min=0)))
        mask = None if self._end_id is None else document_mask(tokens_BS, self._end_id, self._head_dim)
        cos, sin = self.positions(tokens_BS.shape[1])
        for block in self.blocks:
            x_BSD = block(x_BSD, cos, sin, mask)
        return x_BSD

    def logits(self, tokens_BS: Tensor) -> Tensor:
        """Return (B, S, V) scores of the token that follows each position."""
        return scores(self.head, in_fp32(self.final_norm, self.stream(tokens_BS)))

    def losses(self, x_BSD: Tensor, targets_BS: Tensor) -> Tensor:
        """Return (B, S) losses of what the last block hands on."""
        return token_losses(self.head, in_fp32(self.final_norm, x_BSD), targets_BS, self.scores_at_once)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return (B, S) losses in nats per token for `tokens` (B, S + 1); 0 where the next one is IGNORED."""
        return {"text": self.losses(self.stream(batch["tokens"][:, :-1]), batch["tokens"][:, 1:])}

    @staticmethod
    def predicted(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return (B,) how many tokens of each sequence are predicted."""
        return {"text": (batch["tokens"][:, 1:] >= 0).sum(1)}
