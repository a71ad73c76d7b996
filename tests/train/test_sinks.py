"""Weights & Biases is a mirror: it gets what the run log gets, and whatever it does, the run log stays the same."""

import logging
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import train.sinks
from tests.train.tiny import call
from train.config import Plan
from train.loop import run
from train.sinks import WandbMirror

PATIENT = """
import sys, train.sinks
from train.__main__ import main
train.sinks.DEADLINE_S = 100.0  # a loaded machine is not a dead mirror
sys.exit(main())
"""
STUBS = {
    "raises on import": "raise ImportError('no wandb here')",
    "hangs on import": "import time; time.sleep(1000)",
    "hangs at init": "import time\nSettings = dict\ndef init(**more): time.sleep(1000)",
    "raises at init": "Settings = dict\ndef init(**more): raise OSError('no network')",
}


def log_of(plan: Plan) -> bytes:
    return (Path(plan.config.machine.runs) / plan.folder_name / "metrics.jsonl").read_bytes()


@pytest.fixture
def unmirrored(plan: Callable[..., Plan], tmp_path: Path) -> bytes:
    this = plan(f"machine.runs={tmp_path / 'unmirrored'}")
    assert run(this) == "finished"
    return log_of(this)


def test_wandb_offline_gets_a_run_with_our_id_and_the_log_stays_the_same(
    plan: Callable[..., Plan], tiny: Callable[..., list[str]], unmirrored: bytes, tmp_path: Path
) -> None:
    this = plan("study_name=mirrored")
    private = {"HOME": str(tmp_path), "WANDB_MODE": "offline", "WANDB_CACHE_DIR": str(tmp_path / "cache")}
    code, _, err = call(
        "-c", PATIENT, *tiny("study_name=mirrored", "logging=wandb", "logging.every_steps=2"), **private
    )
    assert code == 0, err
    assert "left behind" not in err
    assert log_of(this) == unmirrored
    folder = tmp_path / "runs" / "mirrored" / this.run_id
    [record] = folder.glob(f"wandb/offline-run-*-{this.run_id}/run-{this.run_id}.wandb")
    raw = record.read_bytes()
    for text in ("mirrored", this.run_id, "loss/reviews", "weight/code", "train/grad_norm"):
        assert text.encode() in raw


@pytest.mark.parametrize("name", ["raises on import", "hangs at init"])
def test_a_dead_mirror_costs_one_warning_and_changes_no_log(
    name: str, plan: Callable[..., Plan], tiny: Callable[..., list[str]], unmirrored: bytes, tmp_path: Path
) -> None:
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub" / "wandb.py").write_text(STUBS[name])
    here = {"PYTHONPATH": str(tmp_path / "stub")}
    code, out, err = call("-m", "train", *tiny("logging=wandb", "logging.every_steps=2"), **here)
    assert code == 0, err
    assert out.endswith(" finished\n")
    assert err.count("\n") == err.count("WARNING W&B is left behind") == 1
    assert log_of(plan()) == unmirrored


class FakeRun:
    """What wandb.init returns, keeping what it is given."""

    def __init__(self, fail_at: int = -1) -> None:
        self.rows: list[dict[str, Any]] = []
        self.finished, self._fail_at = False, fail_at

    def define_metric(self, name: str, step_metric: str) -> None:
        assert step_metric == "n_tokens"

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        if len(self.rows) == self._fail_at:
            raise ConnectionError("gone")

    def finish(self) -> None:
        self.finished = True


FACTS = {"study": "s", "run_id": "0123456789ab", "run_name": "n"}
ROW = {"kind": "eval", "n_tokens": 64, "domain": "code", "loss": 2.5, "loss_se": 0.1}


def with_wandb(monkeypatch: pytest.MonkeyPatch, init: Callable[..., Any]) -> None:
    stub = types.SimpleNamespace(init=init, Settings=dict)
    monkeypatch.setitem(sys.modules, "wandb", stub)


def test_rows_arrive_in_order_under_dashboard_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake, asked = FakeRun(), {}
    with_wandb(monkeypatch, lambda **more: asked.update(more) or fake)
    mirror = WandbMirror(tmp_path, FACTS | {"hardware": {"host": "secret"}}, "project")
    mirror.write(ROW)
    mirror.write(
        {
            "kind": "train",
            "n_tokens": 128,
            "loss": 2.0,
            "grad_norm": 1.0,
            "lr": 0.1,
            "tokens_by_domain": {"a": 3, "b": 1},
        }
    )
    mirror.close()
    assert fake.rows == [
        {"n_tokens": 64, "loss/code": 2.5, "loss_se/code": 0.1},
        {
            "n_tokens": 128,
            "train/loss": 2.0,
            "train/grad_norm": 1.0,
            "train/lr": 0.1,
            "weight/a": 0.75,
            "weight/b": 0.25,
        },
    ]
    assert fake.finished
    assert (asked["id"], asked["group"], asked["resume"], asked["dir"]) == (
        FACTS["run_id"],
        "s",
        "allow",
        str(tmp_path),
    )
    assert asked["config"] == FACTS  # where it ran is nobody else's business


def test_a_mirror_that_fails_in_the_middle_warns_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake = FakeRun(fail_at=7)
    with_wandb(monkeypatch, lambda **more: fake)
    mirror = WandbMirror(tmp_path, FACTS, "project")
    for _ in range(20):
        mirror.write(ROW)
    mirror.close()
    mirror.close()
    assert len(fake.rows) == 7
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "ConnectionError: gone" in caplog.text


@pytest.mark.parametrize("n_rows", [10_000, 10_001])
def test_a_mirror_that_hangs_with_a_full_queue_never_blocks(
    n_rows: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()
    with_wandb(monkeypatch, lambda **more: release.wait(100))
    monkeypatch.setattr(train.sinks, "DEADLINE_S", 0.05)
    mirror = WandbMirror(tmp_path, FACTS, "project")
    for _ in range(n_rows):
        mirror.write(ROW)
    mirror.close()
    assert caplog.text.count("left behind") == 1
    release.set()
