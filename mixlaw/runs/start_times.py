"""When runs began: the time that their directories state, and the age of their files."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

from mixlaw.errors import RunLogError
from mixlaw.runs.ledger import read_attempts
from mixlaw.runs.load import find_runs
from mixlaw.runs.log import read_facts

WRITTEN = ("run.json", "metrics.jsonl", "done.json")  # by a run


def start_times(folders: Iterable[Path], before: float) -> dict[str, float]:
    """Return run id -> when the run began, in seconds since 1970, for the runs that show it.

    run.json or the first attempt states it. The files of a run may be copies, younger than the run; if one is older
    than `before`, the run began before that.

    Raises
    ------
    RunLogError
        If a path is not a folder.
    """
    found = {}
    for folder in find_runs(folders):
        try:
            run_id = str(read_facts(folder)["run_id"])
        except RunLogError:  # which reading the table reports
            continue
        aged = [(folder / name).stat().st_mtime for name in WRITTEN if (folder / name).exists()]
        traces = [*_stated(folder), *(written for written in aged if written < before)]
        if traces:
            found[run_id] = min(traces)
    return found


def _stated(folder: Path) -> list[float]:
    """Return the start times that run.json and the attempts at a run state; run.json of old versions states none."""
    began = read_facts(folder).get("began")
    return [attempt.start for attempt in read_attempts(folder)] + ([_seconds(began, folder)] if began else [])


def _seconds(began: object, folder: Path) -> float:
    try:
        return datetime.fromisoformat(str(began)).timestamp()
    except ValueError:
        raise RunLogError(
            f"{folder}/run.json: 'began' is {began!r:.60}, expected a time such as 2026-11-29T12:00:00Z"
        ) from None
