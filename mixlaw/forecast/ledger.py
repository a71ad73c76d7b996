"""The ledger of forecasts: one line of JSON per scored forecast, appended and never changed."""

import fcntl
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mixlaw.errors import RunLogError
from mixlaw.fileio import append_line, read_lines, refuse_folder, sync_path
from mixlaw.forecast.scoring import Score, key_of

NAME = "forecasts.jsonl"  # default, beside the forecasts


@dataclass(frozen=True)
class Ledger:
    """The record of forecasts.

    Attributes
    ----------
    scores : the last score of every forecast, in the order in which they were first scored
    """

    scores: list[Score]

    @classmethod
    def load(cls, path: str | Path) -> "Ledger":
        """Read a ledger, or that of a folder.

        Raises
        ------
        RunLogError
            If there is no file, or a line is damaged; names it.
        """
        path = Path(path) / NAME if Path(path).is_dir() else Path(path)
        if not path.is_file():
            raise RunLogError(f"{path} does not exist: `mixlaw forecast score` writes it")
        last = {line["seal"]: line for line in _lines(path)}
        return cls([Score.from_json(line) for line in last.values()])

    @property
    def sealed_first(self) -> list[Score]:
        """The scores that count: of forecasts of which no run is known to have begun before the seal."""
        return [score for score in self.scores if not score.early]


def record(path: str | Path, score: Score) -> bool:
    """Append a score to a ledger, under a lock; return False if it holds the same forecast with the same runs.

    Raises
    ------
    RunLogError
        If a line of the ledger is damaged; names it.
    """
    path = Path(path)
    refuse_folder(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if score.key in {line["key"] for line in _lines(path)}:
            return False
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        append_line(path, score.to_json() | {"key": score.key, "scored": now})
        sync_path(path)
    return True


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a ledger; each has the key of its contents, so that edits are noticed."""
    for i, line in enumerate(read_lines(path), 1):
        contents = {name: value for name, value in (line or {}).items() if name not in ("key", "scored")}
        if not line or line.get("key") != key_of(contents):
            raise RunLogError(f"{path} line {i} is damaged: delete this line and score its forecast again")
        yield line
