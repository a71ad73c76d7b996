"""Numbers of steps that are read late: log, checkpoints and the end of a diverged run are those of reading at once."""

import gc
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode

from tests.marks import slow
from tests.train.ranks import on_ranks, run_ranks
from tests.train.test_distributed import poison_rank_1_at_step_3
from tests.train.test_resume import Artefacts, artefacts, folder_of, stop_at
from train.checkpoint import newest_checkpoint
from train.compose import compose_config, plan_run
from train.loop import run
from train.plan import Plan
from train.process import let_segments_grow, no_garbage_collection
from train.readings import STEPS_LATE, Reading

Plans = Callable[..., Plan]
Tiny = Callable[..., list[str]]


@pytest.fixture
def untouched(trained: Plans) -> Artefacts:
    """Return what a run leaves that reads at once and is never stopped; before `late` in the arguments of a test."""
    return artefacts(trained())


@pytest.fixture(params=[1, 3])
def late(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Read on the CPU as late as on a GPU, and later."""
    monkeypatch.setitem(STEPS_LATE, "cpu", request.param)
    return request.param


def test_late_reading_leaves_the_same_bytes(plan: Plans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ["evaluation.average=0.3", "logging.every_steps=1"]
    at_once = plan(*settings, f"machine.runs={tmp_path / 'at once'}")
    assert run(at_once) == "finished"
    for n in (1, 3, 100):
        monkeypatch.setitem(STEPS_LATE, "cpu", n)
        this = plan(*settings, f"machine.runs={tmp_path / str(n)}")
        shown: list[tuple[int, float]] = []
        assert run(this, lambda *seen, shown=shown: shown.append(seen)) == "finished"
        assert artefacts(this) == artefacts(at_once)
        assert [n_tokens for n_tokens, _ in shown] == [64 * step for step in range(1, 13)]


@pytest.mark.parametrize("step", [slow(1), 5, slow(8), 11])
def test_a_stopped_run_that_reads_late_goes_on_to_the_same_bytes(
    step: int, untouched: Artefacts, late: int, plan: Plans
) -> None:
    this = plan()
    first = run(this, stop_at(step))
    if first == "again":
        assert run(this) == "finished"
    assert artefacts(this) == untouched


def test_a_diverged_run_that_reads_late_ends_before_the_same_step(late: int, plan: Plans) -> None:
    this = plan("schedule.warmup_tokens=0", "optim.lr=1e15")
    assert run(this) == "diverged"
    seal = json.loads((folder_of(this) / "done.json").read_text())
    assert (seal["status"], seal["step"]) == ("diverged", 1)
    assert newest_checkpoint(folder_of(this) / "checkpoints") is None


def poison_and_read_late(rank: int) -> None:
    STEPS_LATE["cpu"] = 1
    poison_rank_1_at_step_3(rank)


@pytest.mark.slow
@pytest.mark.parametrize("every", [1, 100], ids=["saved after each step", "never saved"])
def test_ranks_that_read_late_stop_before_the_same_step(every: int, plan: Plans, tiny: Tiny, tmp_path: Path) -> None:
    this = plan()
    overrides = tiny(f"checkpoint.every_steps={every}", "logging.every_steps=1")
    assert run_ranks(2, overrides, poison_and_read_late) == ["diverged"] * 2
    folder = tmp_path / "runs" / this.folder_name
    seal = json.loads((folder / "done.json").read_text())
    assert (seal["status"], seal["step"]) == ("diverged", 2)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2]


class HostReads(TorchDispatchMode):
    """Counts the operations that wait for a number of the device."""

    n = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.n += func.overloadpacket.__name__ in ("_local_scalar_dense", "is_nonzero", "nonzero", "equal")
        return func(*args, **(kwargs or {}))


def test_steps_wait_for_no_number_but_the_reading(plan: Plans, tmp_path: Path) -> None:
    """12 steps more cost no read more; what there is belongs to evaluation and saving, of which each has one."""
    counts = []
    for n_steps in (12, 24):
        once = ["evaluation.n_points=1", "checkpoint.every_steps=1000", f"machine.runs={tmp_path / str(n_steps)}"]
        with HostReads() as reads:
            run(plan(*once, f"schedule.n_tokens={64 * n_steps}", "logging.every_steps=1"))
        counts.append(reads.n)
    assert counts[0] == counts[1]


def collectives(rank: int, overrides: list[str]) -> int:
    """Return how many small all-reduces of our own a rank calls in a whole run."""
    plain, calls = dist.all_reduce, []

    def counting(*arguments: Any, **more: Any) -> Any:
        calls.append(1)
        return plain(*arguments, **more)

    dist.all_reduce = counting
    run(plan_run(compose_config(overrides)))
    return len(calls)


@pytest.mark.slow
def test_a_step_of_several_ranks_has_two_small_collectives(tiny: Tiny, tmp_path: Path) -> None:
    """How many tokens carry loss, and then loss and signals together."""
    once = ["evaluation.n_points=1", "checkpoint.every_steps=1000", "optim.clip=1e9"]
    runs = [tiny(*once, f"schedule.n_tokens={64 * n}", f"machine.runs={tmp_path / str(n)}") for n in (12, 24)]
    short, long = (on_ranks(2, collectives, overrides) for overrides in runs)
    assert [b - a for a, b in zip(short, long, strict=True)] == [2 * 12, 2 * 12]


def test_a_reading_gives_what_it_was_made_of() -> None:
    assert Reading(3, 192, 0.5, torch.tensor([2.5, 0.0, 1.25])).read() == (2.5, False, 1.25)
    assert Reading(3, 192, 0.5, torch.tensor([2.5, 2.0, 1.25])).read()[1] is True


def test_garbage_is_looked_for_between_steps_only() -> None:
    assert gc.isenabled()
    with no_garbage_collection():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0
    gc.disable()
    try:
        with no_garbage_collection():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_the_allocators_setting_gives_way_to_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(names[1], "max_split_size_mb:64")
    let_segments_grow()
    assert names[0] not in os.environ
    monkeypatch.delenv(names[1])
    monkeypatch.setenv(names[0], "")  # so that it is taken back
    monkeypatch.delenv(names[0])
    let_segments_grow()
    assert os.environ[names[0]] == "expandable_segments:True"
