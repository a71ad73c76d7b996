"""A sweep is its runs: each sealed once, skipped when done, resumed when cut off, and never left alone."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data.store.verified import NOTE
from mixlaw.errors import ConfigError, DataError
from mixlaw.runs.ledger import read_attempts
from mixlaw.runs.log import read_status
from mixlaw.runs.study_status import run_states
from sweeps.jobs import plan_jobs
from sweeps.local import run_study
from tests.commands import call, start
from train.checkpoint import newest_checkpoint
from train.loop import run
from train.plan import Plan

Tiny = Callable[..., list[str]]
Plans = Callable[..., Plan]
SWEEP = ["model.width=16,32", "mixture=uniform,natural", "hydra.launcher.n_jobs=2", "study_name=s"]
JOBS = [[f"model.width={w}", f"mixture={m}", "study_name=s"] for w in (16, 32) for m in ("uniform", "natural")]
LONG = ["schedule.n_tokens=12800", "checkpoint.every_steps=1000"]  # 200 steps


def folders(plan: Plans, *more: str) -> list[Path]:
    plans = [plan(*job, *more) for job in JOBS]
    return [Path(p.config.machine.runs) / p.folder_name for p in plans]


def tree(folder: Path) -> dict[str, bytes]:
    names = ("metrics.jsonl", "checkpoints/*/*.safetensors")
    return {str(p.relative_to(folder)): p.read_bytes() for name in names for p in folder.glob(name)}


def wait_until(condition: Callable[[], Any], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def is_gone(group: int) -> bool:
    """Return whether no process of a group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.slow
def test_a_sweep_runs_every_combination_once_each_as_it_would_run_alone(
    tiny: Tiny, plan: Plans, tmp_path: Path
) -> None:
    code, out, err = call("-m", "train", "-m", *tiny(*SWEEP))
    assert (code, err) == (0, "")
    assert out.startswith("study s: 4 runs, 0 done before, 0 to resume, 4 new\n")
    assert out.count(": finished\n") == 4
    assert [read_status(folder) for folder in folders(plan)] == ["finished"] * 4
    alone = f"machine.runs={tmp_path / 'alone'}"
    assert run(plan(*JOBS[2], alone)) == "finished"
    assert tree(folders(plan)[2]) == tree(folders(plan, alone)[2])


def test_a_sweep_started_again_does_only_what_is_missing(
    tiny: Tiny, plan: Plans, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs, runs = [tiny(*job) for job in JOBS[:3]], folders(plan)[:3]
    returned = run_study(jobs, 2, 10)
    assert [job.return_value["index"] for job in returned] == [10, 11, 12]
    before = [tree(run) for run in runs]
    (runs[0] / "done.json").unlink()
    shutil.rmtree(runs[0] / "checkpoints" / "step-00000012")
    shutil.rmtree(runs[1])
    run_study(jobs, 2, 0)
    assert "study s: 3 runs, 1 done before, 1 to resume, 1 new\n" in capsys.readouterr().out
    assert [tree(run) for run in runs] == before
    run_study(jobs, 2, 0)
    assert capsys.readouterr().out == "study s: 3 runs, 3 done before, 0 to resume, 0 new\n"


def test_the_same_run_twice_is_one_run_and_another_study_is_another(tiny: Tiny) -> None:
    same = ["mixture=uniform", "mixture.weights={code:0.25,docs:0.25,dict:0.25,dialogue:0.25}"]
    assert len(plan_jobs([tiny(m) for m in same])) == 1
    assert len(plan_jobs([tiny(f"study_name={name}") for name in ("a", "b")])) == 2


def test_a_mistake_in_the_last_run_costs_no_training(tiny: Tiny, tmp_path: Path) -> None:
    jobs = [tiny(*JOBS[0]), tiny("mixture.weights={cod:1}")]
    with pytest.raises(ConfigError, match="unknown domain 'cod'; did you mean 'code'"):
        run_study(jobs, 2, 0)
    assert not (tmp_path / "runs").exists()
    code, out, err = call("-m", "train", "-m", *tiny("model.width=16,20", "study_name=s"))
    assert (code, out) == (2, "")
    assert err.startswith("error: model.width 20 must be a multiple")
    assert err.count("\n") == 1
    assert not list((tmp_path / "runs").glob("*/*/run.json"))


@pytest.mark.slow
def test_data_are_verified_once_before_any_run_starts(data_root: Path, tiny: Tiny, plan: Plans, tmp_path: Path) -> None:
    root = Path(shutil.copytree(data_root, tmp_path / "data", ignore=shutil.ignore_patterns(".verified*")))
    jobs = [tiny(*job, f"data.root={root}") for job in JOBS]
    path = min(plan(f"data.root={root}").manifest.folder.rglob("*.tokens"))
    raw = path.read_bytes()
    path.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
    with pytest.raises(DataError, match=f"{path.name} is missing or differs"):
        run_study(jobs, 2, 0)
    assert not list((tmp_path / "runs").rglob("run.json"))
    path.write_bytes(raw)
    run_study(jobs, 2, 0)
    noted = [line for line in (path.parents[1] / NOTE).read_bytes().splitlines() if line]
    assert len(noted) == len(list(path.parents[1].rglob("*-0*")))  # by the study, and by no run again


def test_a_run_that_fails_is_named_with_its_last_words_and_the_others_finish(
    tiny: Tiny, plan: Plans, capsys: pytest.CaptureFixture[str]
) -> None:
    failing, diverging, fine = JOBS[0], [*JOBS[2], "optim.lr=1e30", "schedule.warmup_tokens=0"], JOBS[1]
    in_the_way = folders(plan)[0] / "checkpoints"
    in_the_way.parent.mkdir(parents=True)
    in_the_way.touch()
    jobs = [tiny(*job) for job in (failing, diverging, fine)]
    with pytest.raises(SystemExit) as left:
        run_study(jobs, 2, 0)
    assert left.value.code == 1
    out = capsys.readouterr().out
    assert "failed (exit 4)" in out
    assert f"log.txt ends: error: cannot save {in_the_way}" in out
    assert out.count(": diverged\n") == out.count(": finished\n") == 1
    in_the_way.unlink()
    run_study(jobs, 2, 0)  # a diverged run is over: it is not tried again
    assert "3 runs, 2 done before, 1 to resume, 0 new" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("send", "code"),
    [
        (lambda pid: os.killpg(pid, signal.SIGINT), 75),  # Ctrl-C reaches every process of the group
        (lambda pid: os.kill(pid, signal.SIGTERM), 75),  # Slurm may tell the first process only
        (lambda pid: os.kill(pid, signal.SIGKILL), -signal.SIGKILL),
    ],
    ids=["ctrl-c", "term", "kill"],
)
def test_a_sweep_that_is_stopped_saves_its_runs_and_leaves_no_process(
    send: Callable[[int], None], code: int, tiny: Tiny, plan: Plans, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = folders(plan, *LONG)
    with start("-m", "train", "-m", *tiny(*SWEEP, *LONG)) as process:
        wait_until(lambda: sum((run / "run.json").exists() for run in runs) == 2 or process.poll() is not None)
        send(process.pid)
        out, err = process.communicate(timeout=60)
        wait_until(lambda: is_gone(process.pid))
    assert (process.returncode, err) == (code, "")
    left = [run for run in runs if read_status(run) == "unfinished"]
    assert len(left) in (1, 2)
    assert all(newest_checkpoint(run / "checkpoints") for run in left)
    assert sum(read_status(run) == "planned" for run in runs) >= 2  # no other run was begun
    if code == 75:
        assert out.endswith(" of 4 runs are not over; the same command continues with them\n")
    else:
        run_study([tiny(*job, *LONG) for job in JOBS], 2, 0)
        assert f" {len(left)} to resume, " in capsys.readouterr().out
        assert [read_status(run) for run in runs] == ["finished"] * 4


@pytest.mark.slow
def test_a_run_that_is_killed_is_told_from_one_that_was_stopped(tiny: Tiny, plan: Plans, tmp_path: Path) -> None:
    (run,) = folders(plan, *LONG)[:1]
    with start("-m", "train", "-m", *tiny(*JOBS[0], *LONG)) as process:
        wait_until(lambda: (run / "run.json").exists() or process.poll() is not None)
        os.kill(int((run / ".lock").read_text().split()[1]), signal.SIGKILL)
        process.communicate(timeout=60)
    assert process.returncode == 1
    (state,) = run_states(tmp_path / "runs/s")
    assert (state.state, state.reason, state.attempts) == ("failed", "killed by signal 9 (SIGKILL)", 1)
    run_study([tiny(*JOBS[0], *LONG)], 1, 0)
    assert [attempt.code for attempt in read_attempts(run)] == [-9, 0]


@pytest.mark.slow
@pytest.mark.parametrize("left_to_us", [["4", "5"], ["GPU-8932f937", "GPU-1a2b3c4d"]], ids=["numbers", "UUIDs"])
def test_runs_take_turns_on_the_gpus_that_are_visible_and_on_no_others(
    left_to_us: list[str], tiny: Tiny, plan: Plans, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(left_to_us))
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)  # of this process; there are none
    on_gpus = "machine.device=auto"
    run_study([tiny(*job, on_gpus) for job in JOBS[:3]], 0, 0)
    places = [read_attempts(folder)[0].where for folder in folders(plan, on_gpus)[:3]]
    assert {place.partition(", GPU ")[2] for place in places} == set(left_to_us)


@pytest.mark.slow
def test_runs_on_cpus_leave_gpus_alone(tiny: Tiny, plan: Plans, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    run_study([tiny(*JOBS[0])], 1, 0)
    assert "GPU" not in read_attempts(folders(plan)[0])[0].where
