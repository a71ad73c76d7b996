"""The average is the mean it says it is, is what evaluations measure, and changes nothing that is trained."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

from mixlaw.runs.load import load_runs
from train.average import WeightAverage, newest_weight
from train.checkpoint import newest_checkpoint
from train.distributed import join_world
from train.evaluate import Evaluator
from train.loop import run
from train.models.build import build_model
from train.plan import Plan

Plans = Callable[..., Plan]


def model_of(value: float) -> nn.Linear:
    model = nn.Linear(2, 1)
    nn.init.constant_(model.weight, value)
    nn.init.constant_(model.bias, -value)
    return model


def averaged(values: list[float], share: float) -> tuple[float, float]:
    """Return weight and bias of the average over models whose weights are `values`, their biases the negatives."""
    average = WeightAverage(model_of(99.0), share)  # what was there before the first step counts for nothing
    for step, value in enumerate(values, 1):
        average.update(model_of(value), step)
    return float(average.model.weight[0, 0]), float(average.model.bias)


def shares_of_steps(share: float, n: int) -> Tensor:
    """Return by how much each of `n` steps counts in the mean after the last one."""
    newest = torch.tensor([newest_weight(share, step) for step in range(1, n + 1)], dtype=torch.float64)
    kept = torch.cat([torch.cumprod((1 - newest[1:]).flip(0), 0).flip(0), torch.ones(1, dtype=torch.float64)])
    return newest * kept


@given(values=st.lists(st.floats(-10, 10), min_size=1, max_size=30), share=st.floats(0.01, 1))
def test_an_average_lies_among_the_weights_it_is_of(values: list[float], share: float) -> None:
    weight, bias = averaged(values, share)
    assert min(values) - 1e-5 <= weight <= max(values) + 1e-5
    assert bias == pytest.approx(-weight, abs=1e-6)


def test_at_share_one_it_is_the_plain_mean_and_near_zero_the_newest() -> None:
    values = [3.0, -1.0, 4.0, 1.0, -5.0]
    assert averaged(values, 1.0)[0] == pytest.approx(sum(values) / 5)
    assert averaged(values, 1e-9)[0] == pytest.approx(values[-1], abs=1e-6)
    assert averaged(values[:1], 0.1) == (3.0, -3.0)  # exactly: the initial weights are gone


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("n", [300, 3000])
def test_it_is_as_old_as_the_plain_mean_of_the_last_share_however_long_the_run(share: float, n: int) -> None:
    counts = shares_of_steps(share, n)
    ages = torch.arange(n - 1, -1, -1)
    assert float(counts.sum()) == pytest.approx(1)
    assert float((counts * ages).sum()) == pytest.approx((share * n - 1) / 2, abs=1)
    power = torch.log(counts[-1] / counts[n // 2 - 1]) / torch.log(torch.tensor(n / (n // 2)))
    assert float(power) == pytest.approx(2 / share - 2, rel=0.1, abs=1e-9)


def rows(plan: Plan) -> list[dict[str, Any]]:
    folder = Path(plan.config.machine.runs) / plan.folder_name
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_evaluations_are_of_the_average_and_training_is_what_it_was(plan: Plans) -> None:
    raw, this = plan(), plan("evaluation.average=0.5")
    run(raw)
    run(this)
    plain, averaged = ([r for r in rows(p) if r["kind"] == "eval"] for p in (raw, this))
    assert [r for r in rows(raw) if r["kind"] == "train"] == [r for r in rows(this) if r["kind"] == "train"]
    assert {r["lr_state"] for r in plain} == {"constant"}
    assert {r["lr_state"] for r in averaged} == {"averaged"}
    assert all(a["loss"] != b["loss"] for a, b in zip(plain, averaged, strict=True))


def test_what_is_logged_is_the_loss_of_the_saved_average(plan: Plans) -> None:
    this = plan("evaluation.average=0.5")
    run(this)
    config = this.config
    newest = newest_checkpoint(Path(config.machine.runs) / this.folder_name / "checkpoints")
    assert newest is not None
    model = build_model(config.model, 256, config.layout(), config.seed)
    model.load_state_dict(load_file(newest / "average.safetensors"))
    evaluator = Evaluator(this.manifest, config.evaluation, config.layout(), config.stream.batch_size)
    measured = evaluator.measure(model, join_world("cpu"), config.precision)
    logged = {r["domain"]: r["loss"] for r in rows(this) if r["kind"] == "eval" and r["step"] == this.n_steps}
    assert logged == {domain: losses["loss"] for domain, losses in measured.items()}


def test_an_average_of_nothing_changes_no_name(plan: Plans) -> None:
    """Runs of the time before there were averages are found again."""
    assert plan("evaluation.average=0").run_id == plan().run_id


def test_the_two_kinds_stay_apart_in_a_table_of_runs(plan: Plans, tmp_path: Path) -> None:
    run(plan())
    run(plan("evaluation.average=0.5"))
    table = load_runs(tmp_path / "runs").table
    assert table.groupby("run_id")["lr_state"].nunique().tolist() == [1, 1]
    assert set(table["lr_state"]) == {"constant", "averaged"}
