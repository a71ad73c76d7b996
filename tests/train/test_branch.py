"""A cool-down that begins with another run's checkpoint ends with the bytes of one that trained from the start."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mixlaw.errors import ConfigError
from mixlaw.runs.load import load_runs
from tests.marks import slow
from tests.train.test_resume import folder_of, rows
from train.loop import run
from train.plan import Plan

Plans = Callable[..., Plan]
COOLED = ["schedule.n_tokens=640", "schedule.cooldown=0.4"]  # 10 steps; the rate falls from the eighth on


def weights(plan: Plan) -> dict[str, bytes]:
    last = folder_of(plan) / "checkpoints" / f"step-{plan.n_steps:08d}"
    return {path.name: path.read_bytes() for path in last.glob("*.safetensors")}


@pytest.fixture
def trunk(plan: Plans) -> Plan:
    """Return a run of 12 steps at a constant rate that kept what it was after 384 tokens."""
    this = plan("checkpoint.permanent=[384]", "checkpoint.keep=1")
    assert run(this) == "finished"
    names = sorted(p.name for p in (folder_of(this) / "checkpoints").iterdir())
    assert names == ["step-00000006", "step-00000012"]  # the one that was asked for outlives its successors
    return this


@pytest.mark.parametrize("average", [slow([]), ["evaluation.average=0.3"]], ids=["raw", "averaged"])
def test_a_branch_ends_where_a_run_of_its_own_would(average: list[str], plan: Plans, tmp_path: Path) -> None:
    trunk = plan("checkpoint.permanent=[384]", "study_name=trunk", *average)
    run(trunk)
    whole = plan(*COOLED, *average, f"machine.runs={tmp_path / 'whole'}")
    branch = plan(*COOLED, *average, f"checkpoint.branch_from={folder_of(trunk)}")
    assert branch.run_id == whole.run_id != trunk.run_id
    assert run(whole) == run(branch) == "finished"
    assert weights(branch) == weights(whole)
    ends = [r for r in rows(whole) if r["step"] > 6]
    assert rows(branch) == ends  # its log begins where it leaves the trunk
    assert [r["lr_state"] for r in ends if r["kind"] == "eval"] == ["cooled"] * 5
    assert {r["step"] for r in ends if r["kind"] == "eval"} == {10}  # never while the rate falls


def test_the_rate_is_the_trunks_until_the_cooldown_begins(plan: Plans, trunk: Plan) -> None:
    cooled = plan(*COOLED)
    run(cooled)
    there, here = ({r["step"]: r for r in rows(p) if r["kind"] == "train"} for p in (trunk, cooled))
    assert cooled.cooldown_step() == 7
    assert all(here[step] == there[step] for step in (2, 4, 6))
    assert here[10]["lr"] < here[8]["lr"] < there[8]["lr"]


def test_a_branch_that_is_cut_off_goes_on_from_its_own_checkpoint(plan: Plans, trunk: Plan, tmp_path: Path) -> None:
    whole = plan(*COOLED, f"machine.runs={tmp_path / 'whole'}")
    run(whole)
    branch = plan(*COOLED, f"checkpoint.branch_from={folder_of(trunk)}", "checkpoint.every_steps=1")

    class Killed(BaseException):
        pass

    def die(n_tokens: int, loss: float) -> None:
        if n_tokens == 9 * 64:
            raise Killed

    with pytest.raises(Killed):
        run(branch, die)
    assert run(branch) == "finished"
    assert weights(branch) == weights(whole)


def test_rows_of_cooled_weights_say_so(plan: Plans, trunk: Plan, tmp_path: Path) -> None:
    run(plan(*COOLED))
    table = load_runs(tmp_path / "runs").table
    assert table.groupby("run_id")["lr_state"].first().value_counts().to_dict() == {"constant": 1, "cooled": 1}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("seed=1", "seed"),
        slow("optim.lr=1e-3", "optim"),
        ("mixture=uniform", "mixture"),
        slow("model.width=24", "model"),
    ],
)
def test_a_trunk_that_trains_anything_else_is_refused(change: str, named: str, plan: Plans, trunk: Plan) -> None:
    with pytest.raises(ConfigError, match=rf"^checkpoint\.branch_from: .* differs in {named} \("):
        run(plan(*COOLED, change, f"checkpoint.branch_from={folder_of(trunk)}"))


def test_a_trunk_that_is_none_is_refused(plan: Plans, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no run directory"):
        run(plan(*COOLED, f"checkpoint.branch_from={tmp_path}"))


def test_a_trunk_without_an_early_checkpoint_lends_nothing(plan: Plans, tmp_path: Path) -> None:
    trunk = plan("study_name=late", "checkpoint.keep=1")
    run(trunk)
    branch, whole = plan(*COOLED, f"checkpoint.branch_from={folder_of(trunk)}"), plan(*COOLED, "machine.runs=x")
    assert run(branch) == "finished"
    assert min(r["step"] for r in rows(branch)) == 2  # from the start
    assert branch.run_id == whole.run_id
