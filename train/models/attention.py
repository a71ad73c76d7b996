"""Who attends to whom: causally, or causally within the own document of a packed sequence; images as a whole.

Masks are block masks of FlexAttention on a GPU, which skips blocks that they empty, and masks of booleans where it
does not work: on CPUs, for narrow heads, for sequences of one block. Both are made from the same rule, so they mean
the same.

Shapes: B sequences, S positions, H heads, K head_dim.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

Mask = Tensor | BlockMask | None  # None: causal
_LEAST_HEAD_DIM = 16  # of FlexAttention's kernels
_MASK_BLOCK = 128  # places; its kernels fail to compile for sequences that are not longer
_HOPPER = 9  # the first number of its compute capability


def document_mask(tokens_BS: Tensor, end_id: int, head_dim: int, flex: bool = False) -> Mask:
    """Return who may attend to whom where a document ends with `end_id`: to earlier places of the own document.

    Parameters
    ----------
    flex : make a block mask, wherever the tensors are and whatever their shapes
    """
    ends = (tokens_BS == end_id).int()
    documents_BS = ends.cumsum(1) - ends  # an end token belongs to the document that it ends

    def allowed(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (documents_BS[b, query] == documents_BS[b, key]) & (query >= key)

    return mask_of(allowed, documents_BS, flex or suits_flex(documents_BS, head_dim))


def image_mask(documents_BS: Tensor, images_BS: Tensor, head_dim: int, flex: bool = False) -> Mask:
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

    return mask_of(allowed, documents_BS, flex or suits_flex(documents_BS, head_dim))


def prefix_mask(prefix_B: Tensor, n_places: int, head_dim: int, flex: bool = False) -> Mask:
    """Return who may attend to whom where the first `prefix` places are seen at once: to these and to earlier ones."""

    def allowed(b: Tensor, h: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) | (key < prefix_B[b])

    like_BS = prefix_B[:, None].expand(-1, n_places)
    return mask_of(allowed, like_BS, flex or suits_flex(like_BS, head_dim))


def suits_flex(like_BS: Tensor, head_dim: int) -> bool:
    """Return whether FlexAttention takes sequences of this shape and device, and heads of this width."""
    return like_BS.is_cuda and head_dim >= _LEAST_HEAD_DIM and like_BS.shape[1] > _MASK_BLOCK


def mask_of(allowed: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], like_BS: Tensor, flex: bool) -> Mask:
    """Return the mask of a rule for sequences of the shape and device of `like_BS`: for FlexAttention, or booleans."""
    B, S = like_BS.shape
    if flex:
        make = _compiled(create_block_mask) if like_BS.is_cuda else create_block_mask
        return make(allowed, B, None, S, S, device=like_BS.device)
    batch = torch.arange(B, device=like_BS.device)[:, None, None, None]
    places = torch.arange(S, device=like_BS.device)
    return allowed(batch, batch, places[:, None], places)  # (B, 1, S, S)


def attend(q_BHSK: Tensor, k_BHSK: Tensor, v_BHSK: Tensor, mask: Mask) -> Tensor:
    """Return the values that each position attends to, (B, H, S, K)."""
    q_BHSK, k_BHSK = q_BHSK.to(v_BHSK.dtype), k_BHSK.to(v_BHSK.dtype)  # they were turned in fp32
    if isinstance(mask, BlockMask):
        flex = _compiled(flex_attention) if v_BHSK.is_cuda else flex_attention  # uncompiled it runs on any CPU
        return flex(q_BHSK, k_BHSK, v_BHSK, block_mask=mask)
    return F.scaled_dot_product_attention(q_BHSK, k_BHSK, v_BHSK, attn_mask=mask, is_causal=mask is None)


@cache
def _compiled(function: Any) -> Any:
    """Return one of FlexAttention's functions compiled: only then it is fast, and no mask of all places is made."""
    return torch.compile(function, dynamic=False)


def kernels_for(device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which attention without a mask takes the fastest kernel: on Hopper cuDNN's, where it can.

    The others follow in torch's own order.
    """
    if device.type != "cuda" or torch.cuda.get_device_capability(device)[0] != _HOPPER:
        return nullcontext()
    return prefer_cudnn()


def prefer_cudnn() -> AbstractContextManager[None]:
    """Return the context in which attention tries cuDNN first."""
    order = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    context: AbstractContextManager[None] = sdpa_kernel(order, set_priority=True)
    return context
