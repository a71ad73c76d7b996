"""The ledger of a study: which runs are planned, and who tried them.

    runs/<study>/
      plan.jsonl                 one line per planned run: its command, size, mixture, tokens, FLOPs
      jobs.jsonl                 one line per array that was handed to Slurm: its id, and its runs in array order
      <run_id>/attempts.jsonl    one line when a process begins the run, one when it ends, with its exit code
      <run_id>/log.txt           what all of these processes said

Launchers write it, on this machine and on Slurm, and anybody reads it. Whether a run is over is known from its own
directory alone (`log.py`); the ledger tells of the others.
"""

import json
import os
import re
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mixlaw.errors import RunLogError
from mixlaw.fileio import write_atomically

_NUMBER = (int, float)
_TYPES = {"str": str, "int": int, "float": _NUMBER, "list": list, "dict": dict, "bool": bool}  # of the fields below


@dataclass(frozen=True)
class PlannedRun:
    """One line of plan.jsonl.

    Attributes
    ----------
    plan : the name of the `study=` choice that asked for it, or ''
    overrides : the command line of `python -m train`
    n_params : N, all parameters
    n_tokens : D, rounded up to whole steps
    flops : 6 N D
    mixture : domain -> requested weight
    former : begun by a version of the `study=` file that the file no longer is; such a run is neither counted, nor
        launched again, nor fitted
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


@dataclass(frozen=True)
class Attempt:
    """One process, or one Slurm job, that began a run; times are in seconds since 1970, code is None until it ends."""

    start: float
    where: str = ""
    job: str = ""
    end: float | None = None
    code: int | None = None


@dataclass(frozen=True)
class Job:
    """One array of Slurm: run number i of `runs` is its task `<job>_<i>`.

    Attributes
    ----------
    options : the arguments of sbatch that a person chose
    max_running : how many runs of all arrays of that launch may run at a time, 0: as many as Slurm lets
    """

    job: str
    time: float
    runs: list[str]
    options: list[str] = field(default_factory=list)
    max_running: int = 0


def write_plan(
    folder: Path, runs: Iterable[PlannedRun], queued: Collection[str] = (), still: Collection[str] = ()
) -> None:
    """Merge runs into the plan of a study; a newer line replaces that of the same run.

    Parameters
    ----------
    runs : all runs of one launch. Runs that an earlier launch of the same `study=` file planned and that this one does
        not plan any more are forgotten if they never began, and marked as runs of a former version if they did
    queued : run ids that Slurm still has, which are never forgotten
    still : run ids that the `study=` file still describes, though this launch asked for a part of it only
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
    """Return a run as its line of the plan, which says so only if it is of a former version."""
    facts = asdict(run)
    return facts if run.former else {k: v for k, v in facts.items() if k != "former"}


def read_plan(folder: Path) -> dict[str, PlannedRun]:
    """Return run id -> what is planned, in the order of the plan; empty where no plan was written.

    Raises
    ------
    RunLogError
        Naming a line that no launcher wrote.
    """
    lines = _read_lines(folder / "plan.jsonl", strict=True)
    runs = [_read(PlannedRun, line, folder / "plan.jsonl") for line in lines]
    for run in runs:
        if not re.fullmatch(r"\w[\w.-]*", str(run.run_id)):
            raise RunLogError(f"{folder}/plan.jsonl: {run.run_id!r:.60} is no run id")
    return {run.run_id: run for run in runs}


def record_job(folder: Path, job: str, runs: Sequence[str], options: Sequence[str] = (), max_running: int = 0) -> None:
    """Write down that Slurm took these runs as tasks 0, 1, ... of an array."""
    folder.mkdir(parents=True, exist_ok=True)
    _append(folder / "jobs.jsonl", asdict(Job(job, round(time.time(), 3), list(runs), list(options), max_running)))


def read_jobs(folder: Path) -> list[Job]:
    """Return what was handed to Slurm, oldest first."""
    path = folder / "jobs.jsonl"
    return [_read(Job, line, path) for line in _read_lines(path)]


def begin_attempt(run_folder: Path, where: str, job: str = "") -> None:
    """Write down that a process begins a run; `where` is for people, e.g. 'process 77 on gpu03'."""
    run_folder.mkdir(parents=True, exist_ok=True)
    line = {"event": "start", "time": round(time.time(), 3), "where": where, "job": job}
    _append(run_folder / "attempts.jsonl", line)


def end_attempt(run_folder: Path, code: int) -> None:
    """Write down the exit code of the process that began last; negative: the signal that killed it."""
    _append(run_folder / "attempts.jsonl", {"event": "end", "time": round(time.time(), 3), "code": code})


def read_attempts(run_folder: Path) -> list[Attempt]:
    """Return all attempts at a run, oldest first; a start without an end was killed, or is running."""
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


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with path.open("a+b") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
        cut = file.read(1) not in (b"", b"\n")  # by a crash: this line must not be lost with that one
        file.write(b"\n" * cut + json.dumps(line, separators=(",", ":")).encode() + b"\n")


def _read_lines(path: Path, strict: bool = False) -> list[dict[str, Any]]:
    """Return the objects of a file of lines; one that a crash cut is skipped, or refused where all lines count."""
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for i, line in enumerate(raw.splitlines(), 1):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            found.append(value)
        elif strict:
            raise RunLogError(f"{path} line {i} is not one that a launcher wrote: delete the file and launch again")
    return found


def _read(kind: type[PlannedRun] | type[Job], line: Mapping[str, Any], path: Path) -> Any:
    """Return a line as what it should be, every value of the type that its field has by default."""
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
        raise RunLogError(f"{path}: {str(dict(line))[:80]} is not a line of this mixlaw's") from None
