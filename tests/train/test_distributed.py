"""Two processes train what one process trains: the same mixture, the same losses, one run directory."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from mixlaw.runlog import read_status
from tests.train.tiny import call, start
from train.config import Plan
from train.distributed import join_world, leave_world
from train.loop import run

TWO = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "train"]
LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"}


def rows(runs: Path) -> list[dict[str, Any]]:
    [log] = runs.glob("*/*/metrics.jsonl")  # one run directory, whatever the number of processes
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_two_processes_train_the_same_run_as_one(
    plan: Callable[..., Plan], tiny: Callable[..., list[str]], tmp_path: Path
) -> None:
    one, two, average = tmp_path / "one", tmp_path / "two", "evaluation.average=0.5"
    run(plan(f"machine.runs={one}", average))
    code, _, err = call(*TWO, *tiny(f"machine.runs={two}", "machine.micro_batch=1", average), **LOOPBACK)
    assert code == 0, err
    assert len(list(two.glob("*/*/done.json"))) == 1
    for a, b in zip(rows(one), rows(two), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
        assert {k: b[k] for k in ("kind", "step", "n_tokens")} == {k: a[k] for k in ("kind", "step", "n_tokens")}
        assert b.get("tokens_by_domain") == a.get("tokens_by_domain")
        assert b.get("grad_norm", 0) == pytest.approx(a.get("grad_norm", 0), rel=1e-3)


def test_two_processes_stopped_by_one_signal_save_and_one_process_goes_on(
    plan: Callable[..., Plan], tiny: Callable[..., list[str]], tmp_path: Path
) -> None:
    """The signal reaches one rank only; both must leave after the same step."""
    long = ["schedule.n_tokens=12800", "checkpoint.every_steps=1000"]
    one, this = plan(*long, f"machine.runs={tmp_path / 'one'}"), plan(*long)
    folder = tmp_path / "runs" / this.folder_name
    with start(*TWO, *tiny(*long), **LOOPBACK) as agent:
        while agent.poll() is None and not (folder / "run.json").exists():
            time.sleep(0.002)
        first_rank = int((folder / ".lock").read_text().split()[1])
        os.kill(first_rank, signal.SIGUSR1)
        agent.communicate(timeout=120)
    assert agent.returncode != 0
    assert read_status(folder) == "unfinished"
    assert len(list(folder.glob("checkpoints/step-*"))) == 1
    assert run(this) == "finished"
    run(one)
    for a, b in zip(rows(tmp_path / "one"), rows(tmp_path / "runs"), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-3)


def test_a_world_of_one_needs_no_process_group() -> None:
    world = join_world("cpu")
    assert (world.rank, world.size, world.is_first) == (0, 1, True)
    assert not dist.is_initialized()
    assert world.maximum(3) == 3
    assert world.mean(torch.tensor(2.0)).item() == 2.0
    assert world.total(torch.tensor(2.0)).item() == 2.0
    leave_world()
