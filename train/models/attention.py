"""Who attends to whom: causally, or causally within the own document of a packed sequence; images as a whole.

Masks are block masks of FlexAttention on a GPU, which skips blocks that they empty, and masks of booleans elsewhere;
both are made from the same rule, so they mean the same.

Shapes: B sequences, S positions, H heads, K head_dim.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

Mask = Tensor | BlockMask | None  # None: causal


def document_mask(tokens_BS: Tensor, end_id: int, flex: bool = False) -> Mask:
    """Return who may attend to whom where a document ends with `end_id`: to earlier places of the own document."""
    ends = (tokens_BS == end_id).int()
    documents_BS = ends.cumsum(1) - ends  # an end token belongs to the document that it ends

    def allowed(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (documents_BS[b, query] == documents_BS[b, key]) & (query >= key)

    return mask_of(allowed, documents_BS, flex)


def image_mask(documents_BS: Tensor, images_BS: Tensor, flex: bool = False) -> Mask:
    """Return who may attend to whom in documents with images: to earlier places of the own document, and of the own
    image to all.

    Parameters
    ----------
    documents_BS : number of the document at each place
    images_BS : number of the image at each place, negative where there is none
    """

    def allowed(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same_image = (images_BS[b, query] == images_BS[b, key]) & (images_BS[b, query] >= 0)
        return (documents_BS[b, query] == documents_BS[b, key]) & ((query >= key) | same_image)

    return mask_of(allowed, documents_BS, flex)


def prefix_mask(prefix_B: Tensor, n_places: int, flex: bool = False) -> Mask:
    """Return who may attend to whom where the first `prefix` places are seen at once: to these and to earlier ones."""

    def allowed(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) | (key < prefix_B[b])

    return mask_of(allowed, prefix_B[:, None].expand(-1, n_places), flex)


def mask_of(allowed: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], like_BS: Tensor, flex: bool) -> Mask:
    """Return the mask of a rule for sequences of the shape and device of `like_BS`: booleans, or for FlexAttention."""
    B, S = like_BS.shape
    if flex or like_BS.is_cuda:
        return create_block_mask(allowed, B, None, S, S, device=like_BS.device)
    batch = torch.arange(B, device=like_BS.device)[:, None, None, None]
    places = torch.arange(S, device=like_BS.device)
    return allowed(batch, batch, places[:, None], places)  # (B, 1, S, S)


def attend(q_BHSK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, mask: Mask) -> Tensor:
    """Return the values that each position attends to, (B, H, S, K)."""
    q_BHSK, k_BHSK = q_BHSK.to(v_BHSK.dtype), k_BHSK.to(v_BHSK.dtype)  # they were turned in fp32
    if isinstance(mask, BlockMask):
        return _flex(v_BHSK.is_cuda)(q_BHSK, k_BHSK, v_BHSK, block_mask=mask)
    return F.scaled_dot_product_attention(q_BHSK, k_BHSK, v_BHSK, attn_mask=mask, is_causal=mask is None)


@cache
def _flex(compiled: bool) -> Any:
    """Return flex_attention; only compiled it is fast, only uncompiled it runs on any CPU."""
    return torch.compile(flex_attention, dynamic=False) if compiled else flex_attention
