"""The vision family: an image encoder and a multimodal decoder that predict patches and captions, as in AIMv2.

(El-Nouby et al. 2024, arXiv:2411.14402.) The encoder sees a prefix of the patches at once and the others causally, so
that it can be trained autoregressively and used bidirectionally. The decoder reads the encoder's patches, then the
caption, causally; each place predicts the next: a patch, as its normalised pixels, or a token.

Shapes: B samples, P patches, T caption tokens, C numbers of a patch, D width, V vocabulary.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from data.stream.items import Layout
from train.config import ModelConfig
from train.models.attention import prefix_mask
from train.models.layers import Block, Positions, in_fp32, n_symbols, patches_of
from train.models.losses import scores, token_losses
from train.precision import as_stream

EPS = 1e-6  # of a patch's variance: an empty patch has none


class VisionModel(nn.Module):
    """Autoregression over the patches of an image and the tokens of its caption.

    Parameters
    ----------
    config : width, depths, heads, patches, and the weights of the two losses; text_loss_weight 0 reads no captions
    vocab_size : of the tokenizer; V is this or more
    layout : P + T
    end_id : unused: captions are apart already
    """

    scores_at_once = 0  # tokens whose scores are in memory at a time; 0: of all

    def __init__(self, config: ModelConfig, vocab_size: int, layout: Layout, end_id: int = 0) -> None:
        super().__init__()
        weights = {"image": config.image_loss_weight, "text": config.text_loss_weight}
        self.loss_weights = {kind: weight for kind, weight in weights.items() if weight > 0}
        self.inputs = ("images", "prefix") + ("tokens",) * ("text" in self.loss_weights)
        self._patch_size, self._head_dim = layout.patch_size, config.head_dim
        self.patches = nn.Linear(3 * layout.patch_size**2, config.width, bias=False)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth + config.decoder_depth))
        self._depth = config.depth
        self.encoder_norm = nn.RMSNorm(config.width, config.norm_eps)
        self.final_norm = nn.RMSNorm(config.width, config.norm_eps)
        if "image" in self.loss_weights:
            self.image_head = nn.Linear(config.width, 3 * layout.patch_size**2, bias=False)
        if "text" in self.loss_weights:
            self.embedding = nn.Embedding(n_symbols(config, vocab_size), config.width)
            self.head = nn.Linear(config.width, n_symbols(config, vocab_size), bias=False)
        self.positions = Positions(config, layout.seq_len)

    def encode(self, images: Tensor, prefix_B: Tensor) -> Tensor:
        """Return (B, P, D) features of the patches; with prefix_B = P every patch sees all others."""
        x_BPD = as_stream(self.patches(patches_of(images[:, None], self._patch_size)[:, 0]))
        P = x_BPD.shape[1]
        mask = prefix_mask(prefix_B, P, self._head_dim)
        for block in self.blocks[: self._depth]:
            x_BPD = block(x_BPD, *self.positions(P), mask)
        return as_stream(in_fp32(self.encoder_norm, x_BPD))

    def decode(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return (B, P [+ T - 1], D): what each place knows of the next."""
        x_BSD = self.encode(batch["images"], batch["prefix"])
        if "text" in self.loss_weights:
            x_BSD = torch.cat((x_BSD, as_stream(self.embedding(batch["tokens"][:, :-1].clamp(min=0)))), 1)
        S = x_BSD.shape[1]
        for block in self.blocks[self._depth :]:
            x_BSD = block(x_BSD, *self.positions(S))
        return in_fp32(self.final_norm, x_BSD)

    def logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Return (B, P + T - 1, V) scores of the token that follows each place; of patches only the last has one."""
        return scores(self.head, self.decode(batch))

    def losses(self, x_BSD: Tensor, targets_BT: Tensor) -> Tensor:
        """Return losses (B, T) of what the decoder knows of each token."""
        return token_losses(self.head, x_BSD, targets_BT, self.scores_at_once)

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return image (B, P - 1): mean squared error of each predicted patch that lies behind the prefix, in units of
        its own variance; and text (B, T): nats per token. 0 where nothing is predicted."""
        x_BSD = self.decode(batch)
        wanted_BPC = normalised(patches_of(batch["images"][:, None], self._patch_size)[:, 0])
        P = wanted_BPC.shape[1]
        found = {}
        if "image" in self.loss_weights:
            errors_BP = (self.image_head(x_BSD[:, : P - 1]).float() - wanted_BPC[:, 1:]).square().mean(-1)
            found["image"] = errors_BP.where(behind(batch["prefix"], P), 0.0)
        if "text" in self.loss_weights:
            found["text"] = self.losses(x_BSD[:, P - 1 :], batch["tokens"])
        return found

    def predicted(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return (B,) how many patches and tokens of each sample are predicted."""
        counts = {"text": (batch["tokens"] >= 0).sum(1)} if "text" in self.loss_weights else {}
        if "image" in self.loss_weights:
            size = batch["images"].shape[1] // self._patch_size
            counts["image"] = behind(batch["prefix"], size * size).sum(1)
        return {kind: counts[kind] for kind in self.loss_weights}


def behind(prefix_B: Tensor, n_patches: int) -> Tensor:
    """Return (B, P - 1) whether patch 1, 2, ... lies behind the prefix: what the encoder has seen is not predicted."""
    return torch.arange(1, n_patches, device=prefix_B.device) >= prefix_B[:, None]


def normalised(patches_BPC: Tensor) -> Tensor:
    """Return patches with mean 0 and variance 1 each, as they are predicted."""
    mean = patches_BPC.mean(-1, keepdim=True)
    variance = patches_BPC.var(-1, keepdim=True, unbiased=False)
    return (patches_BPC - mean) / (variance + EPS).sqrt()
