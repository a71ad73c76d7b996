"""Who attends to whom: causally, or causally within the own document of a packed sequence.

The mask of documents is a block mask of FlexAttention on a GPU, which skips blocks that it empties, and a mask of
booleans elsewhere; both mean the same.

Shapes: B sequences, S positions, H heads, K head_dim.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

Mask = Tensor | BlockMask | None  # None: causal


def document_mask(tokens_BS: Tensor, end_id: int) -> Mask:
    """Return who may attend to whom where a document ends with `end_id`: to earlier places of the own document."""
    ends = (tokens_BS == end_id).int()
    documents_BS = ends.cumsum(1) - ends  # an end token belongs to the document that it ends
    if tokens_BS.is_cuda:
        return block_mask(documents_BS)
    same = documents_BS[:, None, :, None] == documents_BS[:, None, None, :]
    return same.tril()


def block_mask(documents_BS: Tensor) -> BlockMask:
    """Return the mask for FlexAttention."""

    def allowed(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (documents_BS[b, query] == documents_BS[b, key]) & (query >= key)

    B, S = documents_BS.shape
    return create_block_mask(allowed, B, None, S, S, device=documents_BS.device)


def attend(q_BHSK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, mask: Mask) -> Tensor:
    """Return the values that each position attends to, (B, H, S, K)."""
    if isinstance(mask, BlockMask):
        same_type = (x.to(v_BHSK.dtype) for x in (q_BHSK, k_BHSK))  # autocast does not know flex_attention
        return _flex(v_BHSK.is_cuda)(*same_type, v_BHSK, block_mask=mask)
    return F.scaled_dot_product_attention(q_BHSK, k_BHSK, v_BHSK, attn_mask=mask, is_causal=mask is None)


@cache
def _flex(compiled: bool) -> Any:
    """Return flex_attention; only compiled it is fast, only uncompiled it runs on any CPU."""
    return torch.compile(flex_attention, dynamic=False) if compiled else flex_attention
