"""Status of the runs of a study, from its ledger and its run directories; needs neither torch nor Slurm.

The states of Slurm jobs may be passed as a mapping; without it, runs submitted to Slurm count as queued.
"""

import json
import os
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mixlaw.console import AGAIN, DIVERGED, INTERRUPTED
from mixlaw.counts import flops
from mixlaw.errors import RunLogError
from mixlaw.fileio import read_json
from mixlaw.runs.ledger import Attempt, PlannedRun, read_attempts, read_jobs, read_plan
from mixlaw.runs.log import final_tokens, read_status

STATES = ("planned", "queued", "running", "preempted", "failed", "diverged", "done")
FRESH_S = 900.0  # a run on another machine counts as running if it wrote its log within this time
TAIL_BYTES = 1 << 16
Queue = Mapping[str, tuple[str, str]]  # task '123_4' -> state and reason, as Slurm names them

_WAITING = {
    *("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT", "SUSPENDED", "STOPPED")
}
_RUNNING = {"RUNNING", "CONFIGURING", "SIGNALING", "STAGE_OUT", "RESIZING"}
LIVE = _WAITING | _RUNNING | {"COMPLETING"}  # states of jobs that are not over
_EXIT_WORDS = {
    0: "finished",
    1: "crashed",
    2: "a setting is wrong",
    3: "data or run directory cannot be used",
    4: "a checkpoint cannot be written or read",
    AGAIN: "saved after a signal",
    DIVERGED: "diverged",
    INTERRUPTED: "interrupted",
}


@dataclass(frozen=True)
class RunState:
    """Status of one run.

    Attributes
    ----------
    state : planned (not launched), queued (in Slurm's queue), running, preempted (saved or killed; resumes by itself if
        in_queue, else by the same command), failed (needs attention), diverged, done
    reason : why it is failed, preempted or queued; for running ones, where it runs
    progress : share that is done of the tokens that it trains itself, 0 to 1
    attempts : number of attempts
    seconds : run time of all attempts
    in_queue : whether Slurm runs it or will run it
    task : its newest Slurm task, '123_4', or ''
    """

    run: PlannedRun
    folder: Path
    state: str
    reason: str = ""
    progress: float = 0.0
    attempts: int = 0
    seconds: float = 0.0
    in_queue: bool = False
    task: str = ""


def run_states(folder: Path, queue: Queue | None = None, planned: Iterable[PlannedRun] | None = None) -> list[RunState]:
    """Return the status of every run of a study: planned runs, then other runs in its folder.

    Runs of a former version of the study are left out, unless they are running or queued; see `former_runs`.

    Parameters
    ----------
    folder : runs/<study>
    queue : task -> state and reason, of every task that Slurm still knows; None: Slurm was not asked
    planned : the plan, instead of plan.jsonl

    Raises
    ------
    RunLogError
        If the plan is invalid.
    """
    plan = read_plan(folder) if planned is None else {run.run_id: run for run in planned}
    tasks: dict[str, list[str]] = {}
    for job in read_jobs(folder):
        for i, name in enumerate(job.runs):
            tasks.setdefault(name, []).append(f"{job.job}_{i}")
    present = {entry.name for entry in os.scandir(folder) if entry.is_dir()} if folder.is_dir() else set()
    states = [_state(run, folder, name in present, tasks.get(name, []), queue) for name, run in plan.items()]
    states = [s for s in states if not s.run.former or s.in_queue or s.state in ("running", "queued")]
    if planned is None:
        strangers = (name for name in sorted(present - set(plan)) if (folder / name / "run.json").exists())
        states += [_state(_unplanned(folder / name), folder, True, tasks.get(name, []), queue) for name in strangers]
    return states


def former_runs(folder: Path) -> list[str]:
    """Return the runs in a study's folder that only a former version of its study file planned.

    Raises
    ------
    RunLogError
        If the plan is invalid.
    """
    return [name for name, run in read_plan(folder).items() if run.former and (folder / name).is_dir()]


def former_sentence(folder: Path, names: Sequence[str]) -> str:
    """Return a sentence about runs of a former version of the study, or '' if there are none."""
    if not names:
        return ""
    some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    are = "run is" if len(names) == 1 else "runs are"
    return f"{len(names)} {are} of a former version of the study, which was edited since: {some} in {folder}"


def counts(states: Iterable[RunState]) -> dict[str, int]:
    """Return state -> number of runs, for the states that occur, in the order of STATES."""
    found = Counter(state.state for state in states)
    return {name: found[name] for name in STATES if found[name]}


def progress(states: Sequence[RunState]) -> float:
    """Return the share of the study's FLOPs that is done, 0 to 1; diverged runs count as done."""
    total = sum(s.run.flops for s in states)
    left = sum(s.run.flops * (1 - s.progress) for s in states if s.state != "diverged")
    return 1 - left / total if total else 1.0


def eta_s(states: Sequence[RunState]) -> float | None:
    """Return the estimated seconds until all runs are over, at the measured speed and present number of running ones.

    None if no run is running or no speed was measured. Failed runs are not counted.
    """
    running = [s for s in states if s.state == "running"]
    seconds = sum(s.seconds for s in states)
    done = sum(s.run.flops * s.progress for s in states if s.seconds)
    if not running or not seconds or not done:
        return None
    speed = done / seconds  # of one run
    left = [s.run.flops * (1 - s.progress) for s in states if s.state in ("planned", "queued", "running", "preempted")]
    return max(sum(left) / len(running), max(left, default=0.0)) / speed


def exit_sentence(code: int) -> str:
    """Return the meaning of an exit code of a run; 137 and -9 both mean signal 9."""
    number = -code if code < 0 else code - 128
    if code != INTERRUPTED and 0 < number < 65:
        name = signal.Signals(number).name if number in set(signal.Signals) else ""
        return f"killed by signal {number}" + f" ({name})" * bool(name)
    return f"{_EXIT_WORDS.get(code, 'failed')} (exit {code})"


def _state(run: PlannedRun, study: Path, present: bool, tasks: list[str], queue: Queue | None) -> RunState:
    """Return the status of one run; its directory is read only if present."""
    folder = study / run.run_id
    attempts = read_attempts(folder) if present else []
    now = time.time()
    seconds = sum((a.end or max(now, a.start)) - a.start for a in attempts)
    facts: dict[str, Any] = {"attempts": len(attempts), "task": tasks[-1] if tasks else ""}
    try:
        status = read_status(folder) if present else "planned"
    except RunLogError as error:
        return RunState(run, folder, "failed", f"{error}; delete it and run again", seconds=seconds, **facts)
    if status in ("finished", "diverged"):
        share = 1.0 if status == "finished" else _progress(folder, run)
        return RunState(run, folder, "done" if status == "finished" else status, "", share, seconds=seconds, **facts)
    share = _progress(folder, run) if status != "planned" else 0.0
    state, reason, in_queue = _unfinished_state(folder, status, attempts, tasks, queue)
    if state != "running" and attempts and attempts[-1].end is None:  # its end was not recorded
        seconds -= max(now, attempts[-1].start) - max(attempts[-1].start, _last_write(folder))
    return RunState(run, folder, state, reason, share, seconds=seconds, in_queue=in_queue, **facts)


def _unfinished_state(
    folder: Path, status: str, attempts: list[Attempt], tasks: list[str], queue: Queue | None
) -> tuple[str, str, bool]:
    """Return state, reason and `in_queue` of a run that is not over."""
    last = attempts[-1] if attempts else None
    for task in reversed(tasks):
        word, reason = (queue or {}).get(task, ("", ""))
        if word in _RUNNING:
            return "running", last.where if last else f"job {task}", True
        ended = last.code if last and last.job == task else None
        if word in _WAITING or (word == "COMPLETING" and _comes_back(ended)):
            if last is None:
                return "queued", reason, True
            why = f" ({reason})" * (reason not in ("", "None"))
            return "preempted", f"{_end_text(folder, last)}; waits in the queue{why}", True
    if last is None:
        return _without_attempt(folder, status, tasks, queue)
    if last.code is None:
        if _is_alive(folder, last, queue):
            return "running", last.where, False
        told = _slurm_text(last.job, queue)
        return "failed", f"{last.where} is gone without an end: killed, or its machine stopped{told}", False
    if last.code in (AGAIN, INTERRUPTED):
        return "preempted", f"{exit_sentence(last.code)}; the same command resumes it", False
    if last.code == 0:
        return "failed", "finished, but done.json is not there any more; the same command runs it again", False
    return "failed", _end_text(folder, last) + _slurm_text(last.job, queue), False


def _without_attempt(folder: Path, status: str, tasks: list[str], queue: Queue | None) -> tuple[str, str, bool]:
    """Return state, reason and `in_queue` of a run without attempts: queued, started by hand, or planned."""
    if status != "planned":
        holder = _text_of(folder / ".lock")
        if holder and _process_is_alive(holder):
            return "running", holder, False
        return "preempted", "began, but is not over; the same command resumes it", False
    if tasks and queue is None:
        return "queued", f"job {tasks[-1]}", True
    return "planned", f"job {tasks[-1]} left the queue before it began" if tasks else "", False


def _end_text(folder: Path, attempt: Attempt) -> str:
    if attempt.code is None:
        return "stopped by Slurm"
    if attempt.code == AGAIN:
        return exit_sentence(AGAIN)
    said = last_log_line(folder, error=1 < attempt.code < AGAIN)
    return exit_sentence(attempt.code) + (f": {said}" if said and attempt.code > 0 else "")


def _comes_back(code: int | None) -> bool:
    """Return whether Slurm requeues a job that is completing with this exit code."""
    return code is None or code == AGAIN or code > 128


def _slurm_text(task: str, queue: Queue | None) -> str:
    word, reason = (queue or {}).get(task, ("", ""))
    return f" (Slurm: {word}{f', {reason}' if reason not in ('', 'None') else ''})" if word else ""


def _is_alive(folder: Path, attempt: Attempt, queue: Queue | None) -> bool:
    """Return whether an attempt without a recorded end still runs, as far as this machine can tell."""
    if attempt.job and queue is not None:
        return queue.get(attempt.job, ("", ""))[0] in _RUNNING | {"COMPLETING"}
    if not attempt.job and attempt.where.endswith(f" on {socket.gethostname()}"):
        return _process_is_alive(attempt.where)
    return time.time() - max(attempt.start, _last_write(folder)) < FRESH_S


def _process_is_alive(where: str) -> bool:
    """Return whether the process in 'process 77 on gpu03' exists, if gpu03 is this machine."""
    parts = where.split()
    if len(parts) != 4 or not re.fullmatch(r"[0-9]{1,9}", parts[1]) or parts[3] != socket.gethostname():
        return False
    try:
        os.kill(int(parts[1]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # of another user
    return True


def last_log_line(run_folder: Path, error: bool = False) -> str:
    """Return the last line of a run's log that Slurm did not write, shortened; if `error`, the last error message."""
    lines = _tail(run_folder / "log.txt").decode(errors="replace").splitlines()
    own = [line.strip() for line in lines if line.strip() and not line.startswith(("srun:", "slurmstepd"))]
    errors = [line for line in own if error and line.startswith("error: ")]
    return (errors or own or [""])[-1][:300]


def _progress(folder: Path, run: PlannedRun) -> float:
    """Return the share that is done of the tokens that a run trains itself, by the last complete line of its log."""
    for line in reversed(_tail(folder / "metrics.jsonl").split(b"\n")[:-1]):
        try:
            return share_done(json.loads(line)["n_tokens"], run.n_tokens, run.n_taken)
        except (ValueError, KeyError, TypeError):
            continue
    return 0.0


def share_done(n_tokens: float, of: float, n_taken: float) -> float:
    """Return the share that is done of the tokens that a run trains itself, 0 to 1.

    Parameters
    ----------
    n_tokens : tokens so far, those of its trunk included
    of : D
    n_taken : tokens of its trunk
    """
    return min(max((n_tokens - n_taken) / max(of - n_taken, 1), 0.0), 1.0)


def _tail(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(max(file.seek(0, os.SEEK_END) - TAIL_BYTES, 0))
            return file.read()
    except OSError:
        return b""


def _text_of(path: Path) -> str:
    return _tail(path).decode(errors="replace").strip()


def _last_write(folder: Path) -> float:
    """Return the time of the last write to a run's logs, in seconds since 1970."""
    times = [p.stat().st_mtime for p in (folder / "metrics.jsonl", folder / "log.txt") if p.exists()]
    return max(times, default=0.0)


def _unplanned(run_folder: Path) -> PlannedRun:
    """Return a run that is not in the plan, by its run.json."""
    try:
        facts = read_json(run_folder / "run.json")
        n_params, n_tokens = int(facts["n_params"]["total"]), final_tokens(facts)
        return PlannedRun(
            run_id=run_folder.name,
            n_params=n_params,
            n_tokens=n_tokens,
            flops=flops(n_params, n_tokens),
            mixture=facts["mixture"],
            seed=int(facts["config"].get("seed", 0)),
        )
    except (RunLogError, KeyError, TypeError, ValueError, AttributeError):
        return PlannedRun(run_folder.name)
