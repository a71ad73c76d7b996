"""What tests do with a Slurm: hurry it on, look into it, and be bad luck."""

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mixlaw.runs.study_status import RunState, counts
from sweeps.status import look

OVER = {"done", "failed", "diverged", "planned"}


def ask(*command: str) -> str:
    """Run one of Slurm's commands."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@dataclass
class Cluster:
    """A Slurm that was started for the tests."""

    folder: Path
    seen: dict[str, float] = field(default_factory=dict)

    def hurry(self) -> None:
        """Let jobs that were put back begin soon: Slurm waits for two minutes, and at once a node refuses them."""
        lines = ask("squeue", "-h", "-r", "-t", "PENDING", "-o", "%i|%r").splitlines()
        waiting = {line.split("|")[0] for line in lines if line.endswith("|BeginTime")}
        now = time.monotonic()
        self.seen = {job: self.seen.get(job, now) for job in waiting}
        for job in (job for job, since in self.seen.items() if now - since > 2):
            subprocess.run(["scontrol", "update", f"JobId={job}", "StartTime=now"], check=False, timeout=60)

    def wait(self, study: Path, condition: Callable[[dict[str, RunState]], Any], seconds: float = 180) -> None:
        """Wait for something to be true of a study's runs."""
        end = time.monotonic() + seconds
        while not condition(states := {s.run.run_id: s for s in look(study)}):
            logs = "\n".join(path.read_text() for path in study.glob("slurm/*.log"))
            assert time.monotonic() < end, f"{counts(states.values())}\n{ask('squeue', '-r', '-t', 'all')}\n{logs}"
            self.hurry()
            time.sleep(0.3)

    def wait_until_over(self, study: Path) -> dict[str, RunState]:
        """Wait until Slurm has none of a study's runs."""
        found: dict[str, RunState] = {}

        def over(states: dict[str, RunState]) -> bool:
            found.update(states)
            return {s.state for s in states.values()} <= OVER and not self.queue()

        self.wait(study, over)
        return found

    def job(self, task: str) -> dict[str, str]:
        """Return what Slurm says of a job."""
        return dict(re.findall(r"(\w+)=(\S*)", ask("scontrol", "show", "job", task)))

    def queue(self) -> list[str]:
        """Return the tasks that Slurm is not done with."""
        return ask("squeue", "-h", "-r", "-o", "%i").split()


def kill(state: RunState) -> None:
    """Kill the process that trains a run; the nodes are all on this machine."""
    os.kill(int((state.folder / ".lock").read_text().split()[1]), signal.SIGKILL)


def requeue(state: RunState) -> None:
    """Do what an administrator may do."""
    ask("scontrol", "requeue", state.task)


def warn(state: RunState) -> None:
    """Do what Slurm does near the end of a job's time.

    The signal arrives at once; but scancel is told that an array with tasks in the queue cannot have it, and would send
    it again from 5 s later on, for a minute and a half.
    """
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(["scancel", "--batch", "--signal=USR2", state.task], check=True, timeout=4)


def preempt(state: RunState) -> None:
    """Submit something more urgent that needs the whole node."""
    node = state.reason.split()[-1]
    wish = ["--partition=high", f"--nodelist={node}", "--exclusive", "--output=/dev/null"]
    ask("sbatch", *wish, "--wrap=sleep 3")
