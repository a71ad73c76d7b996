"""The ledger of a study: its planned runs, its Slurm jobs, and the attempts at every run.

    runs/<study>/
      plan.jsonl                 one line per planned run: its command, size, mixture, tokens, FLOPs
      jobs.jsonl                 one line per job array submitted to Slurm: its id, and its runs in array order
      <run_id>/attempts.jsonl    one line when a process starts the run, one when it ends, with its exit code
      <run_id>/log.txt           output of all these processes

The local and the Slurm launcher write it; the status command reads it. Whether a run is finished is stated by its own
directory (`log.py`), not by the ledger.
"""

import json
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mixlaw.errors import RunLogError
from mixlaw.fileio import append_line, read_lines, write_atomically

_NUMBER = (int, float)
_TYPES = {"str": str, "int": int, "float": _NUMBER, "list": list, "dict": dict, "bool": bool}  # of the fields below


@dataclass(frozen=True)
class PlannedRun:
    """One line of plan.jsonl.

    Attributes
    ----------
    plan : the study file (`study=NAME`) that planned it, or ''
    overrides : the command line of `python -m train`
    n_params : N, all parameters
    n_tokens : D, rounded up to whole steps
    flops : 6 N times the tokens that it trains itself
    mixture : domain -> requested weight
    former : whether it was started by a former version of the study file, which no longer describes it; such a run is
        neither counted, launched again nor fitted
    n_taken : tokens of D that its trunk trains, from whose checkpoint it starts
    trunk : the run id of this trunk if it is in the same folder, or ''
    """

    run_id: str
    plan: str = ""
    overrides: list[str] = field(default_factory=list)
    n_params: int = 0
    n_tokens: int = 0
    flops: float = 0.0
    mixture: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    former: bool = False
    n_taken: int = 0
    trunk: str = ""


@dataclass(frozen=True)
class Attempt:
    """One process or Slurm job that started a run; times in seconds since 1970, `code` is None until it ends."""

    start: float
    where: str = ""
    job: str = ""
    end: float | None = None
    code: int | None = None


@dataclass(frozen=True)
class Job:
    """One Slurm job array: run i of `runs` is task `<job>_<i>`.

    Attributes
    ----------
    options : arguments of sbatch that the user chose
    max_running : limit of runs of this launch that run at a time; 0: no limit
    """

    job: str
    time: float
    runs: list[str]
    options: list[str] = field(default_factory=list)
    max_running: int = 0


def write_plan(
    folder: Path, runs: Iterable[PlannedRun], queued: Collection[str] = (), still: Collection[str] = ()
) -> None:
    """Merge runs into the plan of a study; a new line replaces the old one of the same run.

    Parameters
    ----------
    runs : all runs of one launch. Runs that an earlier launch of the same study file planned, but not this one, are
        removed if they never started, and marked as `former` if they did
    queued : run ids in the queue of Slurm, which are never removed
    still : run ids that the study file still describes, although this launch selects only a part of it
    """
    new = {run.run_id: run for run in runs}
    again = {run.plan for run in new.values()} - {""}
    known = read_plan(folder)
    kept = {}
    for name, run in known.items():
        if run.plan not in again:
            kept[name] = run
        elif name in queued or _began(folder / name):
            kept[name] = replace(run, former=name not in still)
    if (merged := kept | new) != known:
        folder.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(_line(run), separators=(",", ":")) + "\n" for run in merged.values())
        write_atomically(folder / "plan.jsonl", text)


def _line(run: PlannedRun) -> dict[str, Any]:
    """Return a run as a line of the plan; `former`, `n_taken` and `trunk` are written only where they are set."""
    return {k: v for k, v in asdict(run).items() if v or k not in ("former", "n_taken", "trunk")}


def read_plan(folder: Path) -> dict[str, PlannedRun]:
    """Return run id -> planned run, in the order of the plan; empty if there is no plan.

    Raises
    ------
    RunLogError
        Naming an invalid line.
    """
    lines = _read_lines(folder / "plan.jsonl", strict=True)
    runs = [_read(PlannedRun, line, folder / "plan.jsonl") for line in lines]
    for run in runs:
        if not re.fullmatch(r"\w[\w.-]*", str(run.run_id)):
            raise RunLogError(f"{folder}/plan.jsonl: {run.run_id!r:.60} is not a run id")
    return {run.run_id: run for run in runs}


def record_job(folder: Path, job: str, runs: Sequence[str], options: Sequence[str] = (), max_running: int = 0) -> None:
    """Record that these runs were submitted to Slurm as tasks 0, 1, ... of an array."""
    folder.mkdir(parents=True, exist_ok=True)
    append_line(folder / "jobs.jsonl", asdict(Job(job, round(time.time(), 3), list(runs), list(options), max_running)))


def read_jobs(folder: Path) -> list[Job]:
    """Return the job arrays submitted to Slurm, oldest first."""
    path = folder / "jobs.jsonl"
    return [_read(Job, line, path) for line in _read_lines(path)]


def begin_attempt(run_folder: Path, where: str, job: str = "") -> None:
    """Record that a process starts a run; `where` is a text such as 'process 77 on gpu03'."""
    run_folder.mkdir(parents=True, exist_ok=True)
    line = {"event": "start", "time": round(time.time(), 3), "where": where, "job": job}
    append_line(run_folder / "attempts.jsonl", line)


def end_attempt(run_folder: Path, code: int) -> None:
    """Record the exit code of the last started process; negative: the signal that killed it."""
    append_line(run_folder / "attempts.jsonl", {"event": "end", "time": round(time.time(), 3), "code": code})


def read_attempts(run_folder: Path) -> list[Attempt]:
    """Return all attempts at a run, oldest first; one without an end is running or was killed."""
    found: list[Attempt] = []
    for line in _read_lines(run_folder / "attempts.jsonl"):
        moment, code = line.get("time"), line.get("code")
        if not isinstance(moment, int | float):
            continue
        if line.get("event") == "start":
            found.append(Attempt(moment, str(line.get("where", "")), str(line.get("job", ""))))
        elif line.get("event") == "end" and isinstance(code, int) and found and found[-1].code is None:
            found[-1] = replace(found[-1], end=moment, code=code)
    return found


def _began(run_folder: Path) -> bool:
    return (run_folder / "attempts.jsonl").exists() or (run_folder / "run.json").exists()


def _read_lines(path: Path, strict: bool = False) -> list[dict[str, Any]]:
    """Return the objects of a JSON lines file; truncated lines are skipped, or an error if `strict`."""
    found = []
    for i, value in enumerate(read_lines(path), 1):
        if value is not None:
            found.append(value)
        elif strict:
            raise RunLogError(f"{path} line {i} is not valid: delete the file and launch again")
    return found


def _read(kind: type[PlannedRun] | type[Job], line: Mapping[str, Any], path: Path) -> Any:
    """Return a line as a PlannedRun or Job; values must have the types of the fields."""
    try:
        read = kind(**line)
        for f in fields(kind):
            known: Any = _TYPES[getattr(f.type, "__name__", "")]  # of list[str]: list
            value = getattr(read, f.name)
            inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
            numbers = isinstance(value, dict)
            if not isinstance(value, known) or not all(isinstance(v, _NUMBER if numbers else str) for v in inside):
                raise TypeError(f.name)
        return read
    except TypeError:
        raise RunLogError(f"{path}: {str(dict(line))[:80]} is not a line that this version of mixlaw reads") from None
