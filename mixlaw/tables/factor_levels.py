"""Factor levels of N and D: values within 5 % of each other count as one level.

Runs whose N or D differ by a few per cent cannot identify an exponent, because the noise of single runs is as large as
the effect. Counting sizes, holding out the largest size and choosing the form of a law therefore use levels; laws are
fitted to the exact values.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.laws.jacobian import Array

SAME = 0.05  # relative width of a level, above its lowest value
MOST_SPANS = 3  # levels shown in a note
COUNTED = {"n_params": "model size", "n_tokens": "number of tokens"}


def levels(values: Array | pd.Series, within: float = SAME) -> NDArray[np.int64]:
    """Return the level (n,) of each value, 0 for the lowest.

    A level starts at the lowest value not yet assigned and ends `within` above it, so that levels stay narrow even if
    values are dense.

    Parameters
    ----------
    values : (n,) positive
    within : relative width of a level

    Examples
    --------
    >>> levels(np.array([2e9, 2.0002e9, 4e10, 1.99e9])).tolist()
    [0, 0, 1, 0]
    """
    known, found = np.unique(np.asarray(values, float), return_inverse=True)
    level, start = np.zeros(len(known), np.int64), 0
    while (stop := int(np.searchsorted(known, known[start] * (1 + within), side="right"))) < len(known):
        level[stop:] += 1
        start = stop
    return level[found]


def count_levels(frame: pd.DataFrame, column: str) -> int:
    """Return how many levels n_params or n_tokens has.

    Checkpoints of one run are counted as different even if they are close, unless there is only one level.
    """
    if frame.empty:
        return 0
    count = int(levels(frame[column]).max()) + 1
    return count if count == 1 else max(count, int(frame.groupby("run_id")[column].nunique().max()))


def level_notes(frame: pd.DataFrame) -> list[str]:
    """Return a note for N and for D, if several of their values are one level."""
    notes = []
    for column, what in COUNTED.items():
        count, n_values = count_levels(frame, column), frame[column].nunique()
        if count < n_values:
            ends = frame[column].groupby(levels(frame[column])).agg(["min", "max"])
            ends = ends[ends["min"] < ends["max"]]
            spans = [f"{low:.6g} to {high:.6g}" for low, high in ends.head(MOST_SPANS).to_numpy()]
            more = f" and {len(ends) - MOST_SPANS} more" if len(ends) > MOST_SPANS else ""
            notes.append(
                f"{column}: {n_values} values count as {count} {_plural(what, count)}, because values within "
                f"{100 * SAME:g} % of each other count as one: {', '.join(spans)}{more}. Laws are fitted to the "
                "exact values"
            )
    return notes


def _plural(what: str, count: int) -> str:
    if count == 1:
        return what
    return what.replace("number", "numbers") if "number" in what else f"{what}s"
