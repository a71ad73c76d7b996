"""What files show about a forecast: when the runs began, and whether the laws changed since the seal."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from mixlaw.fileio import file_sha256
from mixlaw.forecast.sealed import Forecast
from mixlaw.runs.start_times import start_times


def beginnings(paths: Iterable[str | Path], runs: Iterable[str], before: float) -> dict[str, float]:
    """Return run id -> when the run began, or a later time before the seal, for all runs whose files show it.

    Run directories state it. The age of a table or of files without a statement only shows that runs began before it.

    Parameters
    ----------
    paths : what the runs were read from
    runs : their ids
    before : time of the seal; all times in seconds since 1970
    """
    places = [Path(path) for path in paths]
    written = max((path.stat().st_mtime for path in places if path.is_file()), default=np.inf)
    known = start_times([path for path in places if path.is_dir()], before)
    return (dict.fromkeys(map(str, runs), written) if written < before else {}) | known


def changed_laws(forecast: Forecast, folder: Path) -> str:
    """Return a warning if laws.json is no longer the file that the forecast was made from; else empty.

    Parameters
    ----------
    folder : of the forecast
    """
    laws = forecast.hashes["laws"]
    path = folder / laws["file"]
    if not path.is_file() or file_sha256(path) == laws["sha256"]:
        return ""
    return f"{path} changed after the forecast was sealed (its sha256 differs): the sealed predictions count"
