"""How many different values N and D have: values that differ by a few per cent count as one.

An exponent cannot be fitted from runs whose sizes, or lengths, differ by a few per cent: within such a range the noise
of single runs is as large as the effect. So counting sizes and lengths, holding out the largest size and choosing the
form of a law work on levels. Laws are fitted to the values as they are.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.laws.jacobian import Array

SAME = 0.05  # values of one level differ by at most this, relative to the lowest
MOST_SPANS = 3  # levels that a note names
COUNTED = {"n_params": "model size", "n_tokens": "number of tokens"}


def levels(values: Array | pd.Series, within: float = SAME) -> NDArray[np.int64]:
    """Return (n,) the level of each value, 0 for the lowest.

    A level begins at the lowest value that is left and ends `within` above it, so that levels stay narrow however
    densely values follow each other.

    Parameters
    ----------
    values : (n,) above 0

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
    """Return how many levels n_params or n_tokens has in a table's frame.

    Checkpoints of one run are different lengths however near they are, if not all of them are one level.
    """
    if frame.empty:
        return 0
    count = int(levels(frame[column]).max()) + 1
    return count if count == 1 else max(count, int(frame.groupby("run_id")[column].nunique().max()))


def level_notes(frame: pd.DataFrame) -> list[str]:
    """Return a sentence for N and for D where some of their values count as one."""
    notes = []
    for column, what in COUNTED.items():
        count, n_values = count_levels(frame, column), frame[column].nunique()
        if count < n_values:
            ends = frame[column].groupby(levels(frame[column])).agg(["min", "max"])
            ends = ends[ends["min"] < ends["max"]]
            spans = [f"{low:.6g} to {high:.6g}" for low, high in ends.head(MOST_SPANS).to_numpy()]
            more = f" and {len(ends) - MOST_SPANS} more" if len(ends) > MOST_SPANS else ""
            notes.append(
                f"{column}: {n_values} values count as {count} {_plural(what, count)}, because values that differ by "
                f"at most {100 * SAME:g} % count as one: {', '.join(spans)}{more}. They are fitted as they are"
            )
    return notes


def _plural(what: str, count: int) -> str:
    if count == 1:
        return what
    return what.replace("number", "numbers") if "number" in what else f"{what}s"
