"""Checkpoints that are written while training goes on are those that the loop would have waited for."""

import errno
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import train.checkpoint
import train.saving
from mixlaw.errors import CheckpointError
from tests.train.ranks import run_ranks
from tests.train.test_distributed import PARALLEL, stop_after_ten_steps
from tests.train.test_resume import folder_of, stop_at
from train.checkpoint import newest_checkpoint, save_checkpoint
from train.loop import run
from train.plan import Plan

Plans = Callable[..., Plan]
Tiny = Callable[..., list[str]]
BEHIND = "machine.background_saves=true"
KEEP = "checkpoint.keep=9"
PER_STEP = 64  # tokens


def files_of(plan: Plan) -> dict[str, bytes]:
    """Return the log and everything in all checkpoints."""
    folder = folder_of(plan)
    kept = [folder / "metrics.jsonl", *folder.glob("checkpoints/*/*")]
    return {str(path.relative_to(folder)): path.read_bytes() for path in kept}


def test_they_hold_what_the_weights_were_then_while_training_went_on(
    plan: Plans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first save, of step 5, is held up until step 8 is over; the second, of step 10, waits for nothing."""
    plain, behind = plan(KEEP, f"machine.runs={tmp_path / 'plain'}"), plan(KEEP, BEHIND)
    run(plain)
    beyond, met = threading.Event(), []

    def save(**wanted: Any) -> Path:
        met.append(beyond.wait(60))
        return save_checkpoint(**wanted)

    monkeypatch.setattr(train.saving, "save_checkpoint", save)
    assert run(behind, lambda n, loss: beyond.set() if n >= 8 * PER_STEP else None) == "finished"
    assert met == [True] * 3
    assert files_of(behind) == files_of(plain)


def test_a_run_that_is_told_to_stop_leaves_with_its_checkpoint_written(plan: Plans) -> None:
    this = plan(BEHIND)
    assert run(this, stop_at(3)) == "again"
    newest = newest_checkpoint(folder_of(this) / "checkpoints")
    assert newest is not None
    assert newest.name == "step-00000003"
    assert run(this) == "finished"


def refuse(*_: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.slow  # hundreds of steps
def test_a_save_that_fails_ends_the_run_before_the_next_one(plan: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    reached, this = [], plan(BEHIND, "schedule.n_tokens=64000", "checkpoint.every_steps=400")
    plain = this
    with monkeypatch.context() as patch:
        patch.setattr(train.checkpoint, "save_file", refuse)
        with pytest.raises(CheckpointError, match=r"cannot save .*step-00000400: .*free some space"):
            run(plain, lambda n, loss: reached.append(n // PER_STEP))
    assert 400 <= reached[-1] < 800
    assert not list(folder_of(this).glob("checkpoints/*"))


def test_the_last_save_that_fails_leaves_the_run_unsealed(plan: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    this = plan(BEHIND, "checkpoint.every_steps=1000")
    with monkeypatch.context() as patch:
        patch.setattr(train.checkpoint, "save_file", refuse)
        with pytest.raises(CheckpointError, match=r"cannot save .*step-00000012"):
            run(this)
    assert not (folder_of(this) / "done.json").exists()
    assert run(this) == "finished"


@pytest.mark.slow
@pytest.mark.parametrize(("n", "parallel"), [(2, "ddp"), (2, "fsdp"), (4, "hsdp")])
def test_ranks_resume_what_they_saved_behind_their_training(
    n: int, parallel: str, plan: Plans, tiny: Tiny, tmp_path: Path
) -> None:
    more = ["evaluation.average=0.5", "checkpoint.every_steps=2", *PARALLEL[parallel]]
    plain, behind = [*more, f"machine.runs={tmp_path / 'plain'}"], [*more, BEHIND]
    assert run_ranks(n, tiny(*plain)) == ["finished"] * n
    assert run_ranks(n, tiny(*behind), prepare=stop_after_ten_steps) == ["again"] * n
    assert run_ranks(n, tiny(*behind)) == ["finished"] * n
    logs = [(folder_of(plan(*which)) / "metrics.jsonl").read_bytes() for which in (plain, behind)]
    assert logs[0] == logs[1]
    assert json.loads(logs[0].splitlines()[-1])["step"] == 12


def refuse_on_rank_1(rank: int) -> None:
    """Let the second rank have no disk for the hashes of its shards."""
    if rank == 1:
        train.checkpoint._seal_files = refuse


def test_a_rank_that_cannot_save_ends_all(tiny: Tiny) -> None:
    first, second = run_ranks(2, tiny(BEHIND, "machine.parallel=fsdp"), prepare=refuse_on_rank_1)
    assert first == "stopped, because another rank of this run failed: see what it says"
    assert second.startswith("cannot save ")


def die_on_rank_1(rank: int) -> None:
    """Let the second rank die while it writes; the first gives it half a second after its own training has failed."""
    train.saving.LAST_WAIT_S = 0.5
    if rank == 1:
        train.checkpoint._seal_files = lambda *_: os._exit(9)


@pytest.mark.slow
def test_nobody_waits_for_the_checkpoint_of_a_rank_that_died(tiny: Tiny) -> None:
    answers = run_ranks(2, tiny(BEHIND, "machine.parallel=fsdp"), prepare=die_on_rank_1)
    assert answers[1] == "died, exit 9"
    assert not answers[0].startswith(("finished", "no answer"))
