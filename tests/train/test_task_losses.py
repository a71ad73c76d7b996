"""Benchmark tasks are measured as an independent evaluation of the exported model does: bits per byte, and accuracy."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from data.config import DataConfig
from data.prepare import prepare
from data.store.questions import Choices
from mixlaw.errors import DataError
from mixlaw.tables.read import read_table
from tests.data.preparation.test_tasks import BPE, quiet, with_tasks, write_task
from tests.marks import slow
from tests.train.ranks import on_ranks
from tests.train.tiny import TINY
from train.compose import compose_config, plan_run
from train.config import MachineConfig, TrainConfig
from train.distributed import ALONE, join_world, leave_world
from train.dry_run import describe_plan
from train.evaluate import Evaluator
from train.export import export
from train.loop import run
from train.models.build import build_model, shape_model
from train.models.initial import initialise
from train.parallel import place
from train.task_losses import group_row, task_row

SEQ_LEN = 24
ANIMALS = ["tree", "stone", "river", "bird", "number"]
CHOSEN = [  # contexts of up to 100 bytes: some are cut
    {
        "context": " ".join(["The tree number beside the stone is a"] * (1 + i % 3)),
        "choices": [f"{animal} {i}" for animal in ANIMALS[: 2 + i % 4]],
        "answer": i % 2,
    }
    for i in range(20)
]
WRITTEN = [{"context": f"def stone_{i}():\n", "answer": f"    return {i * i}"} for i in range(12)]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    """Return prepared data with two tasks, one with choices, and a group of both."""
    root = tmp_path_factory.mktemp("tasks")
    tasks = {
        name: write_task(root / f"{name}.jsonl", rows) for name, rows in (("chosen", CHOSEN), ("written", WRITTEN))
    }
    config = replace(with_tasks(root, BPE, **tasks), task_groups={"both": {"chosen": 1, "written": 3}})
    prepare(config, quiet)
    return config


@pytest.fixture(scope="module")
def config(data: DataConfig, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """Return a tiny run on these data."""
    settings = [f"stream.seq_len={SEQ_LEN}", "evaluation.max_questions=15", "mixture=uniform"]
    composed = compose_config([*TINY, *settings, f"machine.runs={tmp_path_factory.mktemp('runs')}"])
    return replace(composed, data=data)


@pytest.fixture(scope="module")
def folder(config: TrainConfig) -> Path:
    """Return the run directory of the finished run."""
    plan = plan_run(config)
    assert run(plan) == "finished"
    return plan.folder


def last_rows(folder: Path) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {row["domain"]: row for row in rows if row["kind"] == "eval"}


def spaced(rows: list[dict[str, Any]], n: int) -> list[dict[str, Any]]:
    return [rows[i * len(rows) // n] for i in range(n)]


@torch.no_grad()
def bits_per_byte(model: Any, tokenizer: Any, context: str, answer: str) -> float:
    """Return what transformers says of an answer, by the rule of lm-evaluation-harness."""
    whole, asked = (tokenizer(text)["input_ids"] for text in (context + answer, context))
    n = len(whole) - len(asked)
    ids = torch.tensor([tokenizer.eos_token_id, *whole])[-(SEQ_LEN + 1) :]
    scores = model(ids[None, :-1]).logits[0].log_softmax(-1)
    nats = -scores.gather(1, ids[1:, None])[-n:].sum()
    return float(nats) / math.log(2) / len(answer.encode())


def test_the_run_log_has_what_transformers_finds_for_the_exported_model(folder: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    out = export(folder, tmp_path / "out")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    found = {}
    chosen = spaced(CHOSEN, 15)
    losses = [[bits_per_byte(model, tokenizer, q["context"], f" {choice}") for choice in q["choices"]] for q in chosen]
    found["chosen"] = [of[q["answer"]] for of, q in zip(losses, chosen, strict=True)]
    hits = [float(np.argmin(of) == q["answer"]) for of, q in zip(losses, chosen, strict=True)]
    found["written"] = [bits_per_byte(model, tokenizer, q["context"], q["answer"]) for q in spaced(WRITTEN, 12)]
    rows = last_rows(folder)
    for name, values in found.items():
        assert rows[name]["loss"] == pytest.approx(np.mean(values), rel=1e-5)
        assert rows[name]["loss_se"] == pytest.approx(np.std(values, ddof=1) / len(values) ** 0.5, rel=1e-4)
        assert rows[name]["n_questions"] == len(values)
    assert rows["chosen"]["score"] == pytest.approx(np.mean(hits))
    assert rows["chosen"]["score_se"] == pytest.approx(np.std(hits, ddof=1) / len(hits) ** 0.5)
    assert "score" not in rows["written"]
    assert f"| chosen [bits/byte] | {rows['chosen']['loss']:.4f} ±" in (out / "README.md").read_text()


def test_a_group_is_the_weighted_mean_of_its_tasks(folder: Path) -> None:
    rows = last_rows(folder)
    one, other, both = (rows[name] for name in ("chosen", "written", "both"))
    assert both["loss"] == pytest.approx(0.25 * one["loss"] + 0.75 * other["loss"])
    assert both["loss_se"] == pytest.approx(math.hypot(0.25 * one["loss_se"], 0.75 * other["loss_se"]))
    assert both["n_questions"] == 27
    assert "score" not in both


def test_run_directories_state_units_and_what_evaluations_take(folder: Path, config: TrainConfig) -> None:
    facts = json.loads((folder / "run.json").read_text())
    assert facts["units"] == dict.fromkeys(("chosen", "written", "both"), "bits/byte")
    costs = facts["evaluation"]
    assert costs["n_evaluations"] == 3
    assert costs["tasks"]["chosen"]["n_questions"] == 15
    assert costs["tasks"]["chosen"]["n_contexts_cut"] > 0
    once = 2 * 8 * SEQ_LEN + sum(task["n_tokens"] for task in costs["tasks"].values())
    assert costs["n_tokens"] == 3 * once
    said = describe_plan(plan_run(config), [])
    assert f"evaluation: 3 x {once:,} tokens, " in said
    assert "task sequences are cut from the left" in said


def test_tables_of_runs_have_bits_per_byte_and_scores(folder: Path) -> None:
    table = read_table([folder])
    assert table.units["both"] == table.units["chosen"] == "bits/byte"
    assert table.units["trees"] == "nats/token"
    assert table.frame["score_chosen"].between(0, 1).all()
    assert "score_written" not in table.frame
    assert set(table.targets) == {"trees", "stones", "chosen", "written", "both"}


def test_questions_groups_and_tasks_are_part_of_the_run_id(config: TrainConfig) -> None:
    ids = {plan_run(config).run_id}
    other = replace(config.data, task_groups={"both": {"chosen": 2, "written": 3}})
    ids.add(plan_run(replace(config, data=other)).run_id)
    ids.add(plan_run(replace(config, evaluation=replace(config.evaluation, max_questions=0))).run_id)
    assert len(ids) == 3


def measured_on_a_rank(rank: int, config: TrainConfig, parallel: str, precision: str = "fp32") -> Any:
    plan, world = plan_run(config), join_world("cpu")
    model = place(
        shape_model(config.model, plan.manifest.vocab_size, config.layout()),
        MachineConfig(parallel=parallel),
        precision,
        world,
    )
    initialise(model, config.model, 0)
    evaluator = Evaluator(plan.manifest, config.evaluation, config.layout(), 3, config.data.task_groups)
    losses = evaluator.measure(model, world, precision)
    leave_world()
    return losses


@pytest.mark.parametrize("parallel", [slow("ddp"), "fsdp"])
def test_several_ranks_find_the_same(config: TrainConfig, parallel: str) -> None:
    alone = measured_on_a_rank(0, config, "ddp")
    for found in on_ranks(2, measured_on_a_rank, config, parallel):
        for name, row in alone.items():
            assert found[name] == {key: pytest.approx(value, rel=1e-6) for key, value in row.items()}


@pytest.mark.parametrize("document_mask", [False, True])
def test_batches_change_no_loss(config: TrainConfig, document_mask: bool) -> None:
    plan, layout = plan_run(config), config.layout()
    shape = replace(config.model, document_mask=document_mask)
    model = build_model(shape, plan.manifest.vocab_size, layout, 0, plan.manifest.facts["tokenizer"]["end_id"])
    one, many = (Evaluator(plan.manifest, config.evaluation, layout, n).measure(model, ALONE, "fp32") for n in (1, 64))
    for name, row in one.items():
        assert many[name] == {key: pytest.approx(value, rel=1e-6) for key, value in row.items()}


def test_answers_that_do_not_fit_are_refused_before_training(config: TrainConfig) -> None:
    short = replace(config, stream=replace(config.stream, seq_len=4))
    with pytest.raises(DataError, match=r"\.jsonl line \d+: an answer has \d+ tokens, and a sequence 4"):
        plan_run(short)


def choices_of(question: list[int], n_bytes: list[int], right: list[int]) -> Choices:
    n = np.zeros(len(question), np.int64)
    return Choices("t", np.array(question), n, n, n + 1, np.array(n_bytes), np.array(right), n, n)


def test_a_question_is_answered_by_the_lowest_loss_per_byte() -> None:
    choices = choices_of([0, 1, 0, 1, 2, 2], [1, 4, 2, 1, 3, 3], [1, 1, 0, 0, 0, 1])
    nats = np.array([1.0, 2.0, 3.0, 1.0, 1.0, 1.0]) * math.log(2)  # bits per byte: 1, 0.5, 1.5, 1, 1/3, 1/3 (a tie)
    row = task_row(nats, choices)
    assert row["loss"] == pytest.approx((1 + 0.5 + 1 / 3) / 3)
    assert (row["score"], row["score_se"]) == (1.0, 0.0)
    row = task_row(nats[[2, 1, 0, 3, 4, 5]], choices)
    assert row["score"] == pytest.approx(2 / 3)
    assert row["score_se"] == pytest.approx((2 / 9 / 2) ** 0.5)


def test_a_single_question_has_no_error() -> None:
    row = task_row(np.array([2.0]), choices_of([0], [2], [1]))
    assert (row["loss"], row["loss_se"]) == (pytest.approx(1 / math.log(2)), 0.0)
    assert "score" not in row


def test_a_group_has_a_score_if_all_its_tasks_have_one() -> None:
    row = {"loss": 1.0, "loss_se": 0.3, "n_eval_tokens": 7, "n_questions": 4, "score": 0.5, "score_se": 0.2}
    group = group_row({"a": row, "b": row | {"score": 1.0, "score_se": 0.0}}, {"a": 3, "b": 1})
    assert (group["score"], group["score_se"]) == (pytest.approx(0.625), pytest.approx(0.15))
    assert group["n_questions"] == 8
