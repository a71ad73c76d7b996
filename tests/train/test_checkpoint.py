"""A checkpoint is whole or not there; what is damaged is passed over; nothing that is loaded can run code."""

import hashlib
import io
import json
import os
import pickle
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import train.checkpoint
from mixlaw.errors import CheckpointError
from tests.commands import call, limit_files
from tests.marks import slow
from train.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint
from train.loop import run
from train.plan import Plan
from train.state import TrainState


class Trained:
    """A small model with the optimizer state of `n` steps."""

    def __init__(self, n: int = 0, width: int = 3) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(width, 4), nn.Linear(4, 2, bias=False))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1, fused=True)
        self.state = TrainState(self.model, self.optimizer)
        for _ in range(n):
            self.step()

    def step(self) -> None:
        self.model(torch.ones(1, self.model[0].in_features)).square().sum().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def save(self, folder: Path, step: int, keep: int = 2) -> Path:
        return save_checkpoint(folder, step, self.state, {"log_bytes": 10 * step}, keep)

    def tensors(self) -> list[torch.Tensor]:
        state = [self.optimizer.state[p] for p in self.model.parameters()]
        return [p.detach() for p in self.model.parameters()] + [s[key] for s in state for key in sorted(s)]


def loaded(path: Path | None) -> tuple[Trained, dict[str, Any]]:
    assert path is not None
    fresh = Trained()
    return fresh, load_checkpoint(path, fresh.state)


def assert_equal(one: Trained, two: Trained) -> None:
    assert len(one.tensors()) == len(two.tensors())
    assert all(map(torch.equal, one.tensors(), two.tensors()))


def flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def steps(folder: Path) -> list[int]:
    return sorted(int(p.name.removeprefix("step-")) for p in folder.iterdir())


def test_weights_optimizer_and_state_come_back_equal(tmp_path: Path) -> None:
    trained = Trained(3)
    back, state = loaded(trained.save(tmp_path, 3))
    assert_equal(back, trained)
    assert state == {"step": 3, "log_bytes": 30}
    trained.step()
    back.step()
    assert_equal(back, trained)  # and both go on alike


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    for step in range(1, 6):
        Trained().save(tmp_path, step, keep=2)
    assert steps(tmp_path) == [4, 5]
    assert newest_checkpoint(tmp_path) == tmp_path / "step-00000005"
    assert newest_checkpoint(tmp_path / "nothing") is None


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("harm", [flip, Path.unlink, lambda p: p.write_bytes(p.read_bytes()[:-9])])
def test_a_damaged_checkpoint_is_passed_over(
    tmp_path: Path, name: str, harm: Callable[[Path], object], caplog: pytest.LogCaptureFixture
) -> None:
    older, newer = Trained(1), Trained(2)
    older.save(tmp_path, 1)
    harm(newer.save(tmp_path, 2) / name)
    back, state = loaded(newest_checkpoint(tmp_path))
    assert_equal(back, older)
    assert state["step"] == 1
    if (tmp_path / "step-00000002" / "manifest.json").exists():  # without one it was never published
        assert "step-00000002 is passed over" in caplog.text


def test_damaged_checkpoints_never_push_out_the_good_ones(tmp_path: Path) -> None:
    """Resumed from 1 because 2 and 3 were damaged, then stopped at once: the new checkpoint must be kept."""
    for step in (1, 2, 3):
        Trained(step).save(tmp_path, step, keep=3)
    flip(tmp_path / "step-00000002" / "model.safetensors")
    flip(tmp_path / "step-00000003" / "model.safetensors")
    assert newest_checkpoint(tmp_path) == tmp_path / "step-00000001"
    replacement = Trained(5)
    replacement.save(tmp_path, 2, keep=1)
    assert steps(tmp_path) == [2]
    assert_equal(loaded(newest_checkpoint(tmp_path))[0], replacement)


class Death(BaseException):
    """The process ends here: nothing catches it."""


class FileOperations:
    """Counts every file operation of a block, and dies before or after the n-th."""

    places = [(os, name) for name in ("mkdir", "open", "fsync", "replace", "unlink", "rmdir")]
    places += [(io, "open"), (train.checkpoint, "save_file")]

    def __init__(self, patch: pytest.MonkeyPatch, die_at: int, when: str) -> None:
        self.count, self._die_at, self._when = 0, die_at, when
        for module, name in self.places:
            patch.setattr(module, name, self._counted(getattr(module, name)))

    def _counted(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.count += 1
            if self.count != self._die_at:
                return operation(*arguments, **named)
            if self._when == "after":
                result = operation(*arguments, **named)
                if isinstance(result, io.IOBase):
                    result.close()
                elif operation is OS_OPEN:
                    os.close(result)
            elif self._when == "halfway" and operation is SAVE_FILE:
                arguments[1].write_bytes(b"half")
            raise Death

        return counted


OS_OPEN, SAVE_FILE = os.open, train.checkpoint.save_file


@pytest.mark.parametrize("when", ["before", "halfway", slow("after")])
@pytest.mark.parametrize("damaged_final", [slow(False), True], ids=["new", "over a damaged one"])
def test_a_crash_at_any_file_operation_of_saving_loses_no_checkpoint(
    tmp_path: Path, when: str, damaged_final: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer, origin = Trained(2), Trained(3), tmp_path / "origin"
    Trained(1).save(origin, 1)
    older.save(origin, 2)
    if damaged_final:
        flip(newer.save(origin, 3, keep=3) / "model.safetensors")
    for n in range(1, 200):
        folder = Path(shutil.copytree(origin, tmp_path / str(n)))
        try:
            with monkeypatch.context() as patch:
                operations = FileOperations(patch, n, when)
                newer.save(folder, 3)
        except Death:
            back, state = loaded(newest_checkpoint(folder))
            assert_equal(back, {2: older, 3: newer}[state["step"]])
            newer.save(folder, 3)  # the next attempt, over whatever the dead one left
        assert steps(folder) == [2, 3]
        assert_equal(loaded(newest_checkpoint(folder))[0], newer)
        if n > operations.count:
            break
    assert 20 < n < 199  # every operation had its turn


def test_a_checkpoint_is_tensors_and_json(tmp_path: Path) -> None:
    names = {p.name for p in Trained(1).save(tmp_path, 1).iterdir()}
    assert names == {"model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"}


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
def test_a_pickle_in_place_of_tensors_is_refused_and_not_run(tmp_path: Path, name: str) -> None:
    canary = tmp_path / "canary"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (canary,))

    path = Trained(1).save(tmp_path / "c", 1)
    (path / name).write_bytes(pickle.dumps(Bomb()))
    manifest = json.loads((path / "manifest.json").read_text())
    manifest[name]["sha256"] = hashlib.sha256((path / name).read_bytes()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))
    assert newest_checkpoint(tmp_path / "c") == path
    with pytest.raises(CheckpointError, match="does not fit this model"):
        loaded(path)
    assert not canary.exists()
    pickle.loads((path / name).read_bytes())
    assert canary.exists()  # it was a live one


def test_a_checkpoint_of_another_model_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = Trained(1, width=5).save(tmp_path, 1)
    with pytest.raises(CheckpointError, match="step-00000001 does not fit this model") as refused:
        loaded(path)
    assert "\n" not in str(refused.value)


def test_a_full_disk_costs_a_sentence_and_no_checkpoint(
    plan: Callable[..., Plan], tiny: Callable[..., list[str]], tmp_path: Path
) -> None:
    tiny_run = ("checkpoint.every_steps=3", "schedule.n_tokens=256")  # 4 steps
    this = plan(*tiny_run)
    checkpoints = tmp_path / "runs" / this.folder_name / "checkpoints"
    checkpoints.mkdir(parents=True)
    (checkpoints / "step-00000004").touch()  # in the way of the last checkpoint
    with pytest.raises(CheckpointError, match=r"cannot save .*step-00000004: .*Not a directory"):
        run(this)
    (checkpoints / "step-00000004").unlink()
    assert steps(checkpoints) == [3]

    code, out, err = call("-m", "train", *tiny(*tiny_run), prepare=partial(limit_files, 20_000))
    assert (code, out) == (CheckpointError.exit_code, "")
    assert err.startswith(f"error: cannot save {checkpoints}/step-00000004")
    assert "free some space and run the same command again" in err
    assert err.count("\n") == 1
    assert steps(checkpoints) == [3]
    assert run(this) == "finished"
