"""What a job makes of the end of its run: srun's words and code are Slurm's, in `srun`'s place stands who says them."""

import os
import subprocess
from pathlib import Path

import pytest

from mixlaw.runs.ledger import read_attempts
from train.compose import ROOT

ENDING = "srun: launch/slurm: _step_signal: Terminating StepId=1.0\n"
FAILED = "srun: error: node1: task {}: Exited with exit code {}\n".format
TERMINATED, KILLED = "srun: error: node1: task 0: Terminated\n", "srun: error: node1: task 0: Killed\n"
CASES = {
    "done": ("", 0, 0, ""),
    "saved": (FAILED(0, 75) + ENDING, 75, 75, "saved after a signal; put back"),
    "a rank saved, another was told to leave in its start": (TERMINATED + ENDING + FAILED(1, 75), 143, 75, "put back"),
    "told to leave in its start": (TERMINATED + ENDING, 143, 75, "put back"),
    "killed": (KILLED + ENDING, 137, 137, "killed by signal 9; put back"),
    "killed, the others told to leave": (KILLED + ENDING + TERMINATED, 143, 137, "killed by signal 9; put back"),
    "a rank's own error": (FAILED(1, 4) + ENDING + TERMINATED, 143, 4, "failed with exit code 4"),
    "a crash, the others told to leave": (
        FAILED(1, 1) + ENDING + TERMINATED,
        143,
        143,
        "killed by signal 15; put back",
    ),
    "a crash": (FAILED(0, 1) + ENDING, 1, 1, "failed with exit code 1"),
}


def end(folder: Path, words: str, code: int) -> tuple[int, str]:
    """Run a job whose srun says `words` and ends with `code`; return the job's code and log."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "words").write_text(words)
    for name, line in {"srun": f"cat {folder}/words >&2; exit {code}", "scontrol": "echo JobState=RUNNING"}.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / "bin" / name).chmod(0o755)
    known = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "MIXLAW_"))}
    env = {
        **known,
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "node1",
    }
    script = f"source scripts/slurm/launch.sh; train_run {folder}/attempts.jsonl seed=0"
    with (folder / "log").open("a") as log:
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=ROOT, env=env, stdout=log, stderr=log)
    return done.returncode, (folder / "log").read_text()


@pytest.mark.parametrize("case", CASES)
def test_the_first_thing_that_went_wrong_is_the_end(case: str, tmp_path: Path) -> None:
    words, srun, code, notice = CASES[case]
    assert end(tmp_path, words, srun)[0] == code
    assert [a.code for a in read_attempts(tmp_path)] == [code]
    log = (tmp_path / "log").read_text()
    assert notice in log
    assert log.count(" job 7 on node1: ") == (code != 0)


def test_whoever_is_killed_too_often_has_failed_and_whoever_is_told_to_leave_has_not(tmp_path: Path) -> None:
    for _ in range(4):
        assert end(tmp_path, TERMINATED + ENDING, 143)[0] == 75
    assert [end(tmp_path, KILLED + ENDING, 137)[1].count("put back") for _ in range(4)] == [5, 6, 6, 6]
    assert (tmp_path / "log").read_text().count("failed with exit code 137") == 2


@pytest.mark.parametrize(("status", "code"), [("finished", 0), ("diverged", 76)])
def test_a_crash_on_the_way_out_of_a_sealed_run_is_no_failure(status: str, code: int, tmp_path: Path) -> None:
    (tmp_path / "done.json").write_text(f'{{"status": "{status}"}}')
    for srun in (1, 134):
        got, log = end(tmp_path, "", srun)
        assert got == code
        assert f"crashed with {srun} when the run was over already" in log
