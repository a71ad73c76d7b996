"""Scores of the next token and their losses, without more of the scores in memory at a time than is wanted.

Shapes: B sequences, S positions, N places, D width, V vocabulary, W vocabulary with the rows that align it.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data.stream.items import IGNORED
from train.precision import as_stream

ALIGNED = 128  # rows of a head of which a GPU's matrix product is fast: 50,277 is odd, 50,304 is not


def scores(head: nn.Linear, x_BSD: Tensor, rows: int = 0) -> Tensor:
    """Return (B, S, V) scores of all symbols. On a GPU they are computed with a number of rows that it likes, and what
    that adds is cut off: no parameter and no loss is another, N stays what it is.

    Parameters
    ----------
    rows : the number of rows is rounded up to a multiple of this; 0: 128 on a GPU, 1 elsewhere
    """
    weight_WD = aligned(head.weight, rows or (ALIGNED if x_BSD.is_cuda else 1))
    return F.linear(x_BSD, weight_WD)[..., : len(head.weight)]


def aligned(weight_VD: Tensor, rows: int) -> Tensor:
    """Return the rows of a head, and zeros below them up to a multiple of `rows`."""
    missing = -len(weight_VD) % rows
    return F.pad(weight_VD, (0, 0, 0, missing)) if missing else weight_VD


def token_losses(head: nn.Linear, x_BSD: Tensor, targets_BS: Tensor, scores_at_once: int = 0, rows: int = 0) -> Tensor:
    """Return (B, S) the loss of each place in nats, 0 where the target is IGNORED; of places behind the targets none.

    Parameters
    ----------
    scores_at_once : how many places have their scores in memory at a time; 0: all
    rows : see `scores`
    """
    S = targets_BS.shape[1]
    if not scores_at_once:
        return _losses(scores(head, x_BSD, rows)[:, :S].flatten(0, 1), targets_BS.flatten()).view(targets_BS.shape)
    weight_WD = aligned(as_stream(head.weight), rows or (ALIGNED if x_BSD.is_cuda else 1))
    x_ND = as_stream(x_BSD[:, :S]).flatten(0, 1)
    losses_N: Tensor = InParts.apply(x_ND, weight_WD, targets_BS.flatten(), len(head.weight), scores_at_once)
    return losses_N.view(targets_BS.shape)


def _losses(scores_NV: Tensor, targets_N: Tensor) -> Tensor:
    return F.cross_entropy(scores_NV.float(), targets_N, reduction="none", ignore_index=IGNORED)


class InParts(torch.autograd.Function):
    """Losses of places, some at a time: scores are computed again on the way back, and never all of them exist.

    Each part's gradient of the weights is what a matrix product of the given type returns; their sum is fp32.
    """

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, weight_WD: Tensor, targets_N: Tensor, n_symbols: int, n: int) -> Tensor:
        """Return (N,) losses, n places at a time."""
        ctx.save_for_backward(x_ND, weight_WD, targets_N)
        ctx.n_symbols, ctx.n = n_symbols, n
        parts = zip(x_ND.split(n), targets_N.split(n), strict=True)
        return torch.cat([_losses((x @ weight_WD.T)[:, :n_symbols], targets) for x, targets in parts])

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """Return the gradients of x and of the weights."""
        x_ND, weight_WD, targets_N = ctx.saved_tensors
        of_weight_WD = torch.zeros_like(weight_WD, dtype=torch.float32)
        of_x = []
        for x, targets, outer_n in zip(x_ND.split(ctx.n), targets_N.split(ctx.n), outer[0].split(ctx.n), strict=True):
            shares_nV = (x @ weight_WD.T)[:, : ctx.n_symbols].float().softmax(1)
            shares_nV.scatter_add_(1, targets.clamp(min=0)[:, None], torch.full_like(outer_n, -1.0)[:, None])
            shares_nV *= outer_n.where(targets != IGNORED, 0.0)[:, None]
            of_scores_nW = F.pad(shares_nV.to(x.dtype), (0, len(weight_WD) - ctx.n_symbols))
            of_x.append(of_scores_nW @ weight_WD)
            of_weight_WD += of_scores_nW.T @ x
        return torch.cat(of_x), of_weight_WD.to(weight_WD.dtype), None, None, None
