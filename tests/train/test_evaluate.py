"""The summary of held-out losses: means over all tokens, and standard errors over documents."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data.store.tokens import SPLITS, Manifest, open_manifest, token_dtype, write_manifest, write_split
from data.stream.items import Layout
from mixlaw.errors import ConfigError
from tests.train.ranks import on_ranks
from train.compose import compose_config, plan_run
from train.config import EvaluationConfig, MachineConfig, ModelConfig
from train.distributed import ALONE, join_world, leave_world
from train.evaluate import Evaluator, summaries, summary
from train.models.build import build_model, shape_model
from train.models.initial import initialise
from train.parallel import place
from train.plan import Plan

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
        "d": pytest.approx(0.4 * 2 + 3),
        "d-image": 2.0,
        "d-text": 3.0,
    }
    assert list(summaries({"d": {"text": sums["d"]["text"]}}, {"text": 1.0})) == ["d"]


def corpus(folder: Path, target: list[int]) -> Manifest:
    """Write a domain, and a target of documents of some lengths that are all in its eval split."""
    domains = {}
    for name, role in (("web", "train"), ("held", "target")):
        rng, splits = np.random.default_rng(len(name)), {}
        for split in SPLITS:
            lengths = [40] * 50 if name == "web" else target if split == "eval" else []
            documents = [rng.integers(1, 200, n) % rng.integers(2, 200) for n in lengths]
            splits[split] = write_split(folder / name, split, documents, token_dtype(256), 300)
        domains[name] = {"role": role, "splits": splits}
    tokenizer = {"kind": "bytes", "vocab_size": 256, "end_id": 0, "sha256": "0" * 64}
    write_manifest(folder, {"tokenizer": tokenizer, "domains": domains})
    return open_manifest(folder)


@pytest.mark.parametrize("split", ["eval", "test"])
def test_a_target_is_measured_on_all_its_documents_with_the_error_over_them(tmp_path: Path, split: str) -> None:
    lengths = [100, 37, 250, 12, 8, 90, 140, 61, 5, 170]
    manifest = corpus(tmp_path, lengths)
    config = EvaluationConfig(n_sequences=1000, split=split)
    layout = Layout(16)
    evaluator = Evaluator(manifest, config, layout, 8)
    model = build_model(ModelConfig(width=16, depth=1, head_dim=8), 256, layout, 0)
    world = join_world("cpu")
    row = evaluator.measure(model, world, "fp32")["held"]
    n = (sum(lengths) - 1) // 16
    assert row["n_eval_tokens"] == 16 * n
    values = evaluator.by_sequence(model, world, "fp32")["held"]["text"].numpy()
    mean = values[:, 0].sum() / (16 * n)
    assert row["loss"] == pytest.approx(mean)
    ends = np.cumsum(lengths)
    of_token = np.searchsorted(ends, np.arange(1, 16 * n + 1), side="right").reshape(n, 16)
    share = np.array([[a != b and bool(set(of_token[a]) & set(of_token[b])) for a in range(n)] for b in range(n)])
    residuals = (values[:, 0] - 16 * mean) / (16 * n)
    plain = float((residuals**2).sum())
    pairs = share + np.eye(n)
    centred = np.eye(n) - np.ones((n, n)) / n
    factor = pairs.sum() / np.trace(pairs @ centred @ pairs @ centred)
    over_documents = factor * (plain + float(residuals @ share @ residuals))
    assert row["loss_se"] == pytest.approx(max(over_documents, plain * n / (n - 1)) ** 0.5)


def test_a_domain_with_nothing_to_predict_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="'d': its evaluation sequences hold no text to predict"):
        summaries({"d": {"text": torch.tensor([[0.0, 0.0]])}}, {"text": 1.0})


def test_micro_batches_change_no_loss(plan: Callable[..., Plan]) -> None:
    this = plan("evaluation.n_sequences=7")
    config = this.config
    model = build_model(config.model, 256, config.layout(), seed=0)
    found = [
        Evaluator(this.manifest, config.evaluation, config.layout(), n).measure(model, ALONE, "fp32") for n in (1, 3, 9)
    ]
    for losses in found[1:]:
        for name, row in found[0].items():
            assert losses[name] == {key: pytest.approx(value, rel=1e-6) for key, value in row.items()}


def passes_of_ranks(rank: int, overrides: list[str], parallel: str) -> dict[str, Any]:
    """Return how often a rank ran its model in one evaluation, and the losses."""
    this, world = plan_run(compose_config(overrides)), join_world("cpu")
    config, machine = this.config, MachineConfig(parallel=parallel)
    model = place(shape_model(config.model, 256, config.layout()), machine, "fp32", world)
    initialise(model, config.model, 0)
    calls: list[int] = []
    model.register_forward_pre_hook(lambda *_: calls.append(1))
    losses = Evaluator(this.manifest, config.evaluation, config.layout(), 3).measure(model, world, "fp32")
    leave_world()
    return {"passes": len(calls), "losses": losses}


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_ranks_share_the_passes_of_an_evaluation(parallel: str, tiny: Callable[..., list[str]]) -> None:
    """5 domains of 7 sequences in passes of 3 are 15 passes; a sharded model runs on all ranks, or on none."""
    overrides = tiny("evaluation.n_sequences=7")
    [alone] = on_ranks(1, passes_of_ranks, overrides, parallel)
    answers = on_ranks(4, passes_of_ranks, overrides, parallel)
    assert alone["passes"] == 15
    assert [answer["passes"] for answer in answers] == ([4, 4, 4, 3] if parallel == "ddp" else [4, 4, 4, 4])
    for answer in answers:
        for name, row in alone["losses"].items():
            assert answer["losses"][name] == {key: pytest.approx(value, rel=1e-6) for key, value in row.items()}
