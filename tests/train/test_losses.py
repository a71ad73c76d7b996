"""Losses of tokens are the same however many scores are computed at a time, and however a GPU's kernels are aligned."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from data.stream.items import IGNORED
from train.models.losses import aligned, scores, token_losses


def case(seed: int, n: int, length: int, width: int, n_symbols: int) -> tuple[nn.Linear, Tensor, Tensor]:
    """Return a head, what it reads at `length` + 1 places, and targets of which some are ignored."""
    torch.manual_seed(seed)
    head = nn.Linear(width, n_symbols, bias=False)
    targets = torch.randint(0, n_symbols, (n, length))
    targets[torch.rand(targets.shape) < 0.3] = IGNORED
    return head, torch.randn(n, length + 1, width, requires_grad=True), targets


def found(head: nn.Linear, x: Tensor, targets: Tensor, *how: int) -> list[Tensor]:
    """Return losses, and the gradients of their weighted sum."""
    head.weight.grad = x.grad = None
    losses = token_losses(head, x, targets, *how)
    (losses * torch.arange(losses.numel()).view(losses.shape)).sum().backward()
    assert head.weight.grad is not None
    assert x.grad is not None
    return [losses.detach(), head.weight.grad.clone(), x.grad.clone()]


@given(
    seed=st.integers(0, 999),
    n=st.integers(1, 3),
    length=st.integers(1, 6),
    n_symbols=st.integers(2, 140),
    at_once=st.integers(0, 20),
    rows=st.sampled_from([1, 8, 128]),
)
@settings(max_examples=30)
def test_parts_and_alignment_change_no_loss_and_no_gradient(
    seed: int, n: int, length: int, n_symbols: int, at_once: int, rows: int
) -> None:
    head, x, targets = case(seed, n, length, 5, n_symbols)
    plain = found(head, x, targets, 0, 1)
    for one, other in zip(plain, found(head, x, targets, at_once, rows), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5)
    assert plain[0][targets == IGNORED].abs().sum() == 0


def test_parts_are_about_as_exact_in_bf16_as_the_whole() -> None:
    head, x, targets = case(0, 4, 20, 16, 50)
    exact = found(head, x, targets)
    errors = []
    for at_once in (0, 16):
        head.weight.grad = x.grad = None
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses = token_losses(head, x, targets, at_once)
        assert losses.dtype == torch.float32
        (losses * torch.arange(losses.numel()).view(losses.shape)).sum().backward()
        assert head.weight.grad is not None
        assert x.grad is not None
        result = (losses.detach(), head.weight.grad, x.grad)
        errors.append([float((a - b).norm() / b.norm()) for a, b in zip(result, exact, strict=True)])
    assert max(errors[0]) < 0.01
    assert all(parts < 1.5 * whole for whole, parts in zip(*errors, strict=True))


class Largest(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that an operation returns."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def test_no_more_scores_exist_at_a_time_than_wanted() -> None:
    n_symbols, places = 1000, 4 * 32
    head, x, targets = case(0, 4, 32, 4, n_symbols)
    for at_once, most in ((0, places), (16, 16)):
        with Largest() as seen:
            found(head, x, targets, at_once)
        assert most * n_symbols <= seen.numbers <= 1.1 * most * n_symbols  # whole: of all places, the last included


@pytest.mark.parametrize(("n_symbols", "rows"), [(50_277, 50_304), (50_432, 50_432), (256, 256), (1, 128)])
def test_rows_of_a_head_are_rounded_up_and_scores_are_not(n_symbols: int, rows: int) -> None:
    with torch.device("meta"):
        head = nn.Linear(4, n_symbols, bias=False)
        assert len(aligned(head.weight, 128)) == rows
        assert scores(head, torch.empty(2, 3, 4), 128).shape == (2, 3, n_symbols)
