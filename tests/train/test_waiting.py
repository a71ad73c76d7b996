"""Ranks wait for each other outside of collectives, however long one works, and never for one that has left."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import train.loop
from mixlaw.errors import ConfigError, DataError
from tests.train.ranks import in_world, on_ranks, run_ranks
from train.checkpoint import newest_checkpoint
from train.compose import compose_config
from train.distributed import World
from train.plan import Plan

Plans = Callable[..., Plan]
Tiny = Callable[..., list[str]]
SHORT, LONG_S = 1 / 30, 3  # minutes after which a collective fails; seconds that one rank takes
WAIT_S = 0.5


def work_long_then_agree(world: World) -> int:
    with world.together():
        time.sleep(LONG_S * world.is_first)
    return world.maximum(world.rank)


@pytest.mark.slow
def test_a_rank_may_work_longer_than_a_collective_waits() -> None:
    assert on_ranks(2, in_world, work_long_then_agree, {"timeout_minutes": SHORT}) == [1, 1]


def fail_on_the_second(world: World) -> None:
    with world.together():
        if not world.is_first:
            raise DataError("its own words")


def test_an_error_of_one_rank_stops_all() -> None:
    assert on_ranks(2, in_world, fail_on_the_second, {}) == [
        "stopped, because another rank of this run failed: see what it says",
        "its own words",
    ]


def leave_on_the_second(world: World) -> None:
    if world.is_first:
        world.meet("here")


def test_nobody_waits_for_a_rank_that_has_left() -> None:
    assert (
        on_ranks(2, in_world, leave_on_the_second, {})[0]
        == "stopped, because another rank of this run has left: see what it says"
    )


def meet_late(world: World) -> None:
    if world.is_first:
        world.meet("hashing")
    else:
        time.sleep(4 * WAIT_S)


@pytest.mark.slow  # waits 2 s
def test_waiting_has_a_limit_that_is_a_setting() -> None:
    said = on_ranks(2, in_world, meet_late, {"wait_minutes": WAIT_S / 60})[0]
    assert said.startswith("hashing: 1 of 2 ranks are not done after ")
    assert said.endswith("see what they say, or raise machine.wait_minutes")
    with pytest.raises(ConfigError, match=r"machine\.wait_minutes 0; both must be above 0"):
        compose_config(["machine.wait_minutes=0"])


def gather_twice(world: World) -> list[list[str]]:
    return [world.gather("names", f"{turn} of rank {world.rank}") for turn in range(2)]


def test_the_first_rank_hears_what_each_says_in_their_order() -> None:
    said = [[f"{turn} of rank {rank}" for rank in range(3)] for turn in range(2)]
    assert on_ranks(3, in_world, gather_twice, {}) == [said, [[], []], [[], []]]
    assert World(0, 1, "cpu").gather("names", "alone") == ["alone"]  # type: ignore[arg-type]


def verify_slowly(rank: int) -> None:
    """Let the first rank take longer to verify the data than a collective waits."""
    plain = train.loop.verify_touched

    def verify_touched(*arguments: Any) -> bool:
        time.sleep(LONG_S)
        return plain(*arguments)

    train.loop.verify_touched = verify_touched


@pytest.mark.slow  # waits 3 s
def test_data_may_take_longer_to_verify_than_a_collective_waits(tiny: Tiny) -> None:
    overrides = tiny(f"machine.timeout_minutes={SHORT}", "study_name=slow")
    assert run_ranks(2, overrides, verify_slowly) == ["finished"] * 2


def test_a_signal_while_data_are_verified_leaves_and_the_same_command_goes_on(
    data_root: Path, plan: Plans, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = shutil.copytree(data_root, tmp_path / "data", ignore=shutil.ignore_patterns(".verified*"))
    this, plain = plan(f"data.root={root}"), train.loop.verify_touched

    def warned(*arguments: Any) -> bool:
        os.kill(os.getpid(), signal.SIGUSR2)
        return plain(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(train.loop, "verify_touched", warned)
        assert train.loop.run(this) == "again"
    assert not list((tmp_path / "runs").rglob("run.json"))
    assert train.loop.run(this) == "finished"


@pytest.mark.slow
def test_ranks_share_the_hashing_of_a_checkpoint_and_pass_over_what_one_finds_damaged(
    tiny: Tiny, plan: Plans, tmp_path: Path
) -> None:
    sharded = ("machine.parallel=fsdp", "study_name=shared")
    assert run_ranks(2, tiny(*sharded)) == ["finished"] * 2
    folder = tmp_path / "runs" / plan(*sharded).folder_name
    log, newest = (folder / "metrics.jsonl").read_bytes(), newest_checkpoint(folder / "checkpoints")
    assert newest is not None
    for name in sorted(p.relative_to(newest) for p in newest.rglob("*.safetensors")):  # either rank's
        (folder / "done.json").unlink()
        raw = bytearray((newest / name).read_bytes())
        raw[-1] ^= 1
        (newest / name).write_bytes(raw)
        assert run_ranks(2, tiny(*sharded)) == ["finished"] * 2
        assert (folder / "metrics.jsonl").read_bytes() == log  # from the older one
        assert newest_checkpoint(folder / "checkpoints") == newest
