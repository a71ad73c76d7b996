"""The multimodal family: early fusion, one decoder from scratch over text tokens and image patches, as in the paper.

No image encoder: patches go through one linear layer. Text is predicted causally within its document; the patches of an
image see each other and carry no loss, so the model reads images and writes text.

Shapes: B sequences, S places, M images that a sequence can hold, P patches of an image, C numbers of a patch, D width,
V vocabulary.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from data.stream.items import IGNORED, Layout
from train.config import ModelConfig
from train.models.attention import image_mask
from train.models.layers import Block, Positions, in_fp32, n_symbols, patches_of
from train.models.losses import scores, token_losses
from train.precision import as_stream


class MultimodalModel(nn.Module):
    """Next-token prediction over packed documents with images.

    Parameters
    ----------
    config : width, depth, heads and patches
    vocab_size : of the tokenizer; V is this or more
    layout : S and P
    end_id : unused: the batch says which document each place belongs to
    """

    inputs = ("tokens", "document", "patch", "images")  # of a batch
    scores_at_once = 0  # places whose scores are in memory at a time; 0: of all

    def __init__(self, config: ModelConfig, vocab_size: int, layout: Layout, end_id: int = 0) -> None:
        super().__init__()
        self.loss_weights = {"text": 1.0}
        self._n_patches, self._patch_size = layout.n_patches, layout.patch_size
        self._head_dim = config.head_dim
        self.embedding = nn.Embedding(n_symbols(config, vocab_size), config.width)
        self.patches = nn.Linear(3 * layout.patch_size**2, config.width, bias=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.final_norm = nn.RMSNorm(config.width, config.norm_eps)
        self.head = nn.Linear(config.width, n_symbols(config, vocab_size), bias=False)
        self.positions = Positions(config, layout.seq_len)

    def embed(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return (B, S, D) what each place holds: a token, a patch, or nothing that is ever attended to."""
        patches_BNC = patches_of(batch["images"], self._patch_size).flatten(1, 2)  # N = M x P
        patches_BND = self.patches(patches_BNC)
        index = batch["patch"].clamp(min=0)[..., None].expand(-1, -1, patches_BND.shape[-1])
        tokens_BSD = as_stream(self.embedding(batch["tokens"].clamp(min=0)))
        return patches_BND.gather(1, index).where((batch["patch"] >= 0)[..., None], tokens_BSD)

    def stream(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return (B, S, D) what the last block hands on."""
        patch_BS = batch["patch"]
        image_BS = patch_BS.div(self._n_patches, rounding_mode="floor")  # -1 where there is none
        mask = image_mask(batch["document"], image_BS, self._head_dim)
        x_BSD = self.embed(batch)
        cos, sin = self.positions(x_BSD.shape[1])
        for block in self.blocks:
            x_BSD = block(x_BSD, cos, sin, mask)
        return x_BSD

    def logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return (B, S, V) scores of the token that follows each place."""
        return scores(self.head, in_fp32(self.final_norm, self.stream(batch)))

    def losses(self, x_BSD: Tensor, targets_BS: Tensor) -> Tensor:
        """Return losses (B, S - 1) of what the last block hands on."""
        return token_losses(self.head, in_fp32(self.final_norm, x_BSD), targets_BS, self.scores_at_once)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return (B, S - 1) losses in nats per token; 0 where no text of the same document follows."""
        return {"text": self.losses(self.stream(batch), targets(batch))}

    @staticmethod
    def predicted(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return (B,) how many tokens of each sequence are predicted."""
        return {"text": (targets(batch) >= 0).sum(1)}


def targets(batch: Mapping[str, Tensor]) -> Tensor:
    """Return (B, S - 1) the token that follows each place in its document, IGNORED where there is none."""
    same = batch["document"][:, 1:] == batch["document"][:, :-1]
    return batch["tokens"][:, 1:].where(same, IGNORED)
