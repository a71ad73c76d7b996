"""The decoder trunk that the families share: RMSNorm, rotary positions, SwiGLU, optional QK-norm.

Shapes: B sequences, S positions, D width, H heads, K head_dim, F feed-forward width.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.config import ModelConfig
from train.models.attention import Mask, attend


def ffn_width(config: ModelConfig) -> int:
    """Return F: 8/3 of the width, rounded up, so that SwiGLU has the parameters of a plain 4x layer (Shazeer 2020)."""
    multiple = config.ffn_multiple_of
    return -(-8 * config.width // (3 * multiple)) * multiple


def n_symbols(config: ModelConfig, vocab_size: int) -> int:
    """Return V: the tokenizer's vocabulary and what pads it, as 50,432 rows for the 50,277 symbols of GPT-NeoX."""
    return -(-vocab_size // config.vocab_multiple_of) * config.vocab_multiple_of


def rotary_table(seq_len: int, head_dim: int, base: float) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (S, K/2) of rotary position embedding (Su et al. 2021)."""
    rates = base ** (-torch.arange(0, head_dim, 2, dtype=torch.float32) / head_dim)
    angles = torch.arange(seq_len, dtype=torch.float32)[:, None] * rates
    return angles.cos(), angles.sin()


class Positions(nn.Module):
    """The rotary table of a model: made from its configuration, never saved."""

    def __init__(self, config: ModelConfig, seq_len: int) -> None:
        super().__init__()
        self._shape = seq_len, config.head_dim, config.rope_base
        cos, sin = rotary_table(*self._shape)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def fill(self) -> None:
        """Compute the table anew, after the model was given memory; always on the CPU, so that all devices agree."""
        with torch.device("cpu"):
            cos, sin = rotary_table(*self._shape)
        self.cos.copy_(cos)
        self.sin.copy_(sin)

    def forward(self, n_places: int) -> tuple[Tensor, Tensor]:
        """Return cosines and sines (S, K/2) of the first places."""
        return self.cos[:n_places], self.sin[:n_places]


def rotate(x_BHSK: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the two halves of each head by the angle of its position."""
    first, second = x_BHSK.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def patches_of(images: Tensor, size: int) -> Tensor:
    """Return the patches of images (B, M, height, width, 3) of 8 bits, row by row: (B, M, P, 3 size^2), in [-1, 1]."""
    B, M, height, width, _ = images.shape
    cut = images.view(B, M, height // size, size, width // size, size, 3).transpose(3, 4)
    return cut.reshape(B, M, -1, 3 * size * size).float() / 127.5 - 1


def in_fp32(norm: nn.Module, x: Tensor) -> Tensor:
    """Apply a norm in fp32, by the fused kernel, to what may be bf16; its weights are rounded as all weights are."""
    if isinstance(norm, nn.RMSNorm):
        return F.rms_norm(x.float(), norm.normalized_shape, norm.weight.to(x.dtype).float(), norm.eps)
    return x.float()


class Attention(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.out = nn.Linear(config.width, config.width, bias=False)
        self.q_norm = nn.RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm = nn.RMSNorm(config.head_dim, config.norm_eps) if config.qk_norm else nn.Identity()

    def forward(self, x_BSD: Tensor, cos: Tensor, sin: Tensor, mask: Mask) -> Tensor:
        B, S, D = x_BSD.shape
        q, k, v = self.qkv(x_BSD).view(B, S, 3, -1, self.head_dim).permute(2, 0, 3, 1, 4)
        q, k = in_fp32(self.q_norm, q), in_fp32(self.k_norm, k)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        return self.out(attend(q, k, v, mask).transpose(1, 2).reshape(B, S, D))


class SwiGLU(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.width, 2 * ffn_width(config), bias=False)
        self.down = nn.Linear(ffn_width(config), config.width, bias=False)

    def forward(self, x_BSD: Tensor) -> Tensor:
        gate_BSF, up_BSF = self.gate_up(x_BSD).chunk(2, dim=-1)
        return self.down(F.silu(gate_BSF) * up_BSF)


class Block(nn.Module):
    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.width, config.norm_eps)
        self.attention = Attention(config)
        self.ffn_norm = nn.RMSNorm(config.width, config.norm_eps)
        self.ffn = SwiGLU(config)

    def forward(self, x_BSD: Tensor, cos: Tensor, sin: Tensor, mask: Mask = None) -> Tensor:
        x_BSD = x_BSD + self.attention(in_fp32(self.attention_norm, x_BSD), cos, sin, mask)
        return x_BSD + self.ffn(in_fp32(self.ffn_norm, x_BSD))
