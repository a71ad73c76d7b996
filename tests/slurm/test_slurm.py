"""A study on a Slurm of two nodes: whatever happens to its jobs, its runs end as if nothing had happened."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mixlaw.runs.ledger import read_attempts, read_jobs, read_plan
from mixlaw.runs.log import read_rows, read_status
from mixlaw.runs.study_status import RunState, counts
from sweeps.local import run_study
from sweeps.status import look, main
from tests.commands import call
from tests.slurm.cluster import Cluster, ask, kill, preempt, requeue, warn
from tests.train.tiny import TINY

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
Tiny = Callable[..., list[str]]
SLURM = ["hydra/launcher=slurm", "hydra.launcher.cpus_per_task=2", "hydra.launcher.time=10"]
ONE = [*SLURM, "hydra.launcher.gpus_per_node=1"]
SHORT = ["schedule.n_tokens=12800", "checkpoint.every_steps=20", "optim.lr=0.001", "study_name=s"]  # rounding grows
LONG = ["schedule.n_tokens=76800", "checkpoint.every_steps=50", "study_name=s"]  # 1,200 steps


def submit(*overrides: str) -> str:
    code, out, err = call("-m", "train", "-m", *overrides)
    assert (code, err) == (0, ""), out
    return out


def losses(run: Path) -> list[tuple[int, str, float]]:
    return [(row["step"], row.get("domain", "train"), row["loss"]) for row in read_rows(run)]


def trained(state: RunState) -> bool:
    """Return whether a run has something to lose."""
    return state.state == "running" and state.progress > 0.1


def fresh(state: RunState) -> bool:
    """Return whether a run has something to lose for the first time, and is not about to end."""
    return trained(state) and state.progress < 0.7 and state.attempts == 1


def ended(run: Path, bad_luck: Callable[[RunState], None]) -> bool:
    """Return whether bad luck ended a run's first attempt; later ones may be in the way of something more urgent.

    Who requeues or preempts may not let it end by itself.
    """
    first, *between, last = [a.code for a in read_attempts(run)]
    saved = {75, None}
    return first in ({137} if bad_luck is kill else saved) and saved.issuperset(between) and last == 0


def test_a_disturbed_study_ends_as_if_nothing_had_happened(
    cluster: Cluster, tiny: Tiny, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study, jobs = runs / "s", ["seed=0,1,2,3", "model.width=16,32", *LONG]
    out = submit(*ONE, "hydra.launcher.max_running=3", "--dry-run", *tiny(*jobs))
    assert "8 runs: 8 planned; 8 to submit" in out
    assert "MaxArraySize is 6: 8 runs become 2 arrays" in out
    assert "sbatch --parsable --array=0-3%2 --time=10" in out
    assert not study.exists()

    names = [line.split()[0] for line in out.splitlines() if " planned " in line]
    failing = names[-1]
    (study / failing).mkdir(parents=True)
    (study / failing / "checkpoints").touch()
    out = submit(*ONE, "hydra.launcher.max_running=3", *tiny(*jobs))
    assert "8 to submit\n" in out
    assert "4 runs, 2 at a time" in out
    assert "4 runs, 1 at a time" in out
    assert [len(job.runs) for job in read_jobs(study)] == [4, 4]
    assert "0 to submit" in submit(*ONE, *tiny(*jobs))  # twice is once
    assert len(read_jobs(study)) == 2

    unlucky: dict[str, Callable[[RunState], None]] = {}
    for bad_luck in (kill, requeue, warn, preempt):
        cluster.wait(study, lambda states: any(fresh(s) for s in states.values()))
        state = next(s for s in look(study) if fresh(s))
        unlucky[state.run.run_id] = bad_luck
        bad_luck(state)
        cluster.wait(study, lambda states, state=state: states[state.run.run_id].state == "preempted")
        main([str(study)])
    states = cluster.wait_until_over(study)
    assert counts(states.values()) == {"failed": 1, "done": 7}
    for name, bad_luck in unlucky.items():
        assert ended(study / name, bad_luck), bad_luck
    assert states[failing].reason.startswith("a checkpoint cannot be written or read (exit 4): error: cannot save")
    told = cluster.job(states[failing].task)
    assert (told["JobState"], told["ExitCode"]) == ("FAILED", "4:0")

    (study / failing / "checkpoints").unlink()
    assert main(["retry", str(study)]) == 0
    printed = capsys.readouterr().out
    assert "1 of 8 runs again\n" in printed
    print(printed)
    assert counts(cluster.wait_until_over(study).values()) == {"done": 8}
    assert "0 to submit" in submit(*ONE, *tiny(*jobs))

    alone = runs.with_name("alone")
    plan = read_plan(study)
    run_study([[*plan[name].overrides, f"machine.runs={alone}"] for name in (failing, *unlucky)], 2, 0)
    for name in (failing, *unlucky):
        assert (study / name / "metrics.jsonl").read_bytes() == (alone / "s" / name / "metrics.jsonl").read_bytes()


@pytest.fixture(scope="module")
def of_one_process(data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str, float]]:
    """Return the losses that one process gives."""
    folder = tmp_path_factory.mktemp("alone")
    assert call("-m", "train", *TINY, f"data.root={data_root}", f"machine.runs={folder}", *SHORT)[0] == 0
    (run,) = folder.glob("s/*/run.json")
    return losses(run.parent)


@pytest.mark.parametrize(("tasks", "parallel", "bad_luck"), [(2, "fsdp", requeue), (2, "ddp", kill), (1, "fsdp", warn)])
def test_two_nodes_give_the_losses_of_one_process(
    tasks: int,
    parallel: str,
    bad_luck: Callable[[RunState], None],
    cluster: Cluster,
    tiny: Tiny,
    runs: Path,
    of_one_process: list[tuple[int, str, float]],
) -> None:
    """With one task a node, torchrun starts two processes there."""
    study = runs / "s"
    two = [f"hydra.launcher.{o}" for o in ("nodes=2", f"tasks_per_node={tasks}", "gpus_per_node=2")]
    submit(*SLURM, *two, f"machine.parallel={parallel}", *tiny(*SHORT))
    (name,) = read_plan(study)
    cluster.wait(study, lambda states: trained(states[name]))
    bad_luck(look(study)[0])
    cluster.wait(study, lambda states: states[name].state == "preempted")
    assert cluster.wait_until_over(study)[name].state == "done"
    assert ended(study / name, bad_luck)
    assert json.loads((study / name / "run.json").read_text())["world_size"] == 4
    ours = losses(study / name)
    assert [row[:2] for row in ours] == [row[:2] for row in of_one_process]
    assert [row[2] for row in ours] == pytest.approx([row[2] for row in of_one_process], rel=1e-6)


def test_a_cancelled_study_saves_and_is_not_put_back(
    cluster: Cluster, tiny: Tiny, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = runs / "s"
    submit(*ONE, "hydra.launcher.max_running=1", *tiny(*LONG, "seed=0,1,2,3,4,5"))
    cluster.wait(study, lambda states: any(trained(s) for s in states.values()))
    assert main(["cancel", str(study)]) == 0
    assert "6 runs cancelled" in capsys.readouterr().out
    cluster.wait(study, lambda states: not any(s.in_queue for s in states.values()))
    assert counts(look(study)) == {"planned": 5, "preempted": 1}
    assert (
        next(s for s in look(study) if s.attempts).reason
        == "saved after a signal (exit 75); the same command resumes it"
    )
    time.sleep(3)
    assert not cluster.queue()
    assert "6 to submit" in submit(*ONE, "--dry-run", *tiny(*LONG, "seed=0,1,2,3,4,5"))


def test_a_run_that_is_killed_too_often_fails(
    cluster: Cluster, tiny: Tiny, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = runs / "s"
    monkeypatch.setenv("MIXLAW_TRIES", "0")
    submit(*ONE, *tiny(*LONG))
    (name,) = read_plan(study)
    cluster.wait(study, lambda states: trained(states[name]))
    kill(look(study)[0])
    state = cluster.wait_until_over(study)[name]
    assert (state.state, state.attempts) == ("failed", 1)
    assert state.reason.startswith("killed by signal 9 (SIGKILL)")
    told = cluster.job(state.task)
    assert (told["JobState"], told["ExitCode"]) == ("FAILED", "137:0")


def test_one_run_of_its_own_is_put_back_by_train_sbatch(
    cluster: Cluster, tiny: Tiny, runs: Path, tmp_path: Path
) -> None:
    log = tmp_path / "slurm.log"
    options = ["--gpus-per-node=1", "--cpus-per-task=2", "--time=10", f"--output={log}"]
    job = ask("sbatch", "--parsable", *options, "scripts/slurm/train.sbatch", *tiny(*LONG)).strip()

    def status() -> str:
        cluster.hurry()
        time.sleep(0.2)
        return " ".join(read_status(run.parent) for run in runs.glob("s/*/metrics.jsonl"))

    end = time.monotonic() + 180
    while not any(run.read_bytes().count(b"\n") > 99 for run in runs.glob("s/*/metrics.jsonl")):
        assert time.monotonic() < end
        time.sleep(0.1)
    ask("scancel", "--batch", "--signal=USR2", job)
    while status() != "finished":
        assert time.monotonic() < end, log.read_text()
    assert "saved after a signal; put back into the queue" in log.read_text()
    assert log.read_text().count("finished\n") == 1


def test_what_sbatch_refuses_is_a_sentence(cluster: Cluster, tiny: Tiny, runs: Path) -> None:
    code, _, err = call("-m", "train", "-m", *ONE, "hydra.launcher.partition=nowhere", *tiny(*LONG))
    assert code == 2
    assert err.startswith("error: sbatch refused: ")
    assert "invalid partition specified: nowhere" in err
    assert err.count("\n") == 1
    assert not read_jobs(runs / "s")
