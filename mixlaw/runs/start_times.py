"""When runs began, as far as their files show."""

from collections.abc import Iterable
from pathlib import Path

from mixlaw.errors import RunLogError
from mixlaw.runs.ledger import read_attempts
from mixlaw.runs.load import find_runs
from mixlaw.runs.log import read_facts

WRITTEN = ("run.json", "metrics.jsonl", "done.json")  # by a run, in this order


def start_times(folders: Iterable[Path]) -> dict[str, float]:
    """Return run id -> the earliest trace of a run, in seconds since 1970: its first attempt, or the age of a file.

    A copy may have younger files than the run, so a run began at that time or earlier.

    Raises
    ------
    RunLogError
        If a path is not a folder.
    """
    found = {}
    for folder in find_runs(folders):
        try:
            found[str(read_facts(folder)["run_id"])] = _first_trace(folder)
        except RunLogError:  # which reading the table reports
            continue
    return found


def _first_trace(folder: Path) -> float:
    attempts = [attempt.start for attempt in read_attempts(folder)]
    return min([*attempts, *((folder / name).stat().st_mtime for name in WRITTEN if (folder / name).exists())])
