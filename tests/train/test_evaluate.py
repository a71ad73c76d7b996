"""The summary of held-out losses: means over all tokens, and standard errors over sequences."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.errors import ConfigError
from train.evaluate import summaries, summary

numbers = st.floats(0.0, 10.0)


@given(losses=st.lists(numbers, min_size=2, max_size=20), n_tokens=st.integers(1, 50))
def test_equal_sequences_give_the_plain_mean_and_its_standard_error(losses: list[float], n_tokens: int) -> None:
    values = torch.tensor([[loss * n_tokens, n_tokens] for loss in losses], dtype=torch.float64)
    found = summary({"text": values}, {"text": 1.0})
    means = torch.tensor(losses, dtype=torch.float64)
    assert found["loss"] == pytest.approx(float(means.mean()), abs=1e-9)
    assert found["loss_se"] == pytest.approx(float(means.std()) / math.sqrt(len(losses)), abs=1e-6)
    assert found["n_eval_tokens"] == n_tokens * len(losses)


def test_every_token_counts_the_same_whatever_its_sequence() -> None:
    values = torch.tensor([[10.0, 10.0], [90.0, 30.0]], dtype=torch.float64)
    assert summary({"text": values}, {"text": 1.0})["loss"] == 100 / 40


def test_the_standard_error_is_that_of_repeated_evaluations() -> None:
    generator = torch.Generator().manual_seed(0)
    found, stated = [], []
    for _ in range(400):
        n = torch.randint(5, 40, (60,), generator=generator).double()
        image = torch.randn(60, dtype=torch.float64, generator=generator) * 0.3 + 2
        text = image + torch.randn(60, dtype=torch.float64, generator=generator) * 0.5
        sums = {"image": torch.stack([image * 9, torch.full_like(n, 9)], 1), "text": torch.stack([text * n, n], 1)}
        row = summary(sums, {"image": 0.4, "text": 1.0})
        found.append(row["loss"])
        stated.append(row["loss_se"])
    assert torch.tensor(found).std().item() == pytest.approx(sum(stated) / len(stated), rel=0.1)


def test_kinds_are_told_apart_and_summed_as_they_are_trained() -> None:
    sums = {"d": {"image": torch.tensor([[4.0, 2.0]]), "text": torch.tensor([[9.0, 3.0]])}}
    losses = summaries(sums, {"image": 0.4, "text": 1.0})
    assert {name: row["loss"] for name, row in losses.items()} == {
        "d": pytest.approx(0.4 * 2 + 3), "d-image": 2.0, "d-text": 3.0,
    }  # fmt: skip
    assert list(summaries({"d": {"text": sums["d"]["text"]}}, {"text": 1.0})) == ["d"]


def test_a_domain_with_nothing_to_predict_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="'d': its evaluation sequences hold no text to predict"):
        summaries({"d": {"text": torch.tensor([[0.0, 0.0]])}}, {"text": 1.0})
