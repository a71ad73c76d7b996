"""Every token that carries loss counts the same, wherever a batch is cut into micro-batches."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from data.stream.items import IGNORED, Layout
from train.config import MachineConfig, ModelConfig, TrainConfig
from train.distributed import ALONE
from train.loop import backward
from train.models.build import build_model

Gradients = list[torch.Tensor]


def gradients(model: nn.Module, tokens: torch.Tensor, micro_batch: int) -> tuple[float, Gradients]:
    model.zero_grad()
    config = TrainConfig(machine=MachineConfig(device="cpu", micro_batch=micro_batch))
    loss = backward(model, {"tokens": tokens}, config, ALONE)
    return float(loss), [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return build_model(ModelConfig(width=16, depth=1, head_dim=8), 32, Layout(12), seed=0)


@given(lengths=st.lists(st.integers(1, 12), min_size=6, max_size=6), micro_batch=st.integers(1, 6))
@settings(max_examples=25)
def test_accumulated_gradients_are_those_of_one_big_batch(
    model: nn.Module, lengths: list[int], micro_batch: int
) -> None:
    """Also where micro-batches hold unequal numbers of tokens: a mean of their means would be another loss."""
    generator = torch.Generator().manual_seed(sum(lengths))
    tokens = torch.randint(0, 32, (6, 13), generator=generator)
    for row, length in enumerate(lengths):
        tokens[row, length + 1 :] = IGNORED
    loss, whole = gradients(model, tokens, 0)
    part_loss, parts = gradients(model, tokens, micro_batch)
    assert part_loss == pytest.approx(loss, rel=1e-5)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-6)
    alone = [model({"tokens": tokens[i : i + 1, : n + 1]})["text"][0] for i, n in enumerate(lengths)]
    assert loss == pytest.approx(float(torch.cat(alone).mean().detach()), rel=1e-5)
