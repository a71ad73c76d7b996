"""Notes about rows: one line per kind of problem, with the row numbers."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

MAX_NAMES = 20  # in one list
MAX_SPANS, FIRST_SPANS = 6, 3  # lists of more ranges than MAX_SPANS show the first FIRST_SPANS


def note_rows(
    notes: list[str], bad: Any, where: str, rows: Any, text: Callable[[int], str], rest: str | None = None
) -> None:
    """Append one note about all bad rows; append nothing if there are none.

    Parameters
    ----------
    bad : (n,) mask of bad rows
    where : what messages call the table
    rows : (n,) row numbers
    text : position of a row -> what is wrong there and what was done
    rest : the text for several rows; by default that of the first one
    """
    hits, rows = np.flatnonzero(bad), np.asarray(rows)
    if len(hits):
        sentence = rest if rest and len(hits) > 1 else text(int(hits[0]))
        notes.append(f"{rows_in(where, rows[hits])}: {sentence}")


def rows_in(where: str, rows: Iterable[int]) -> str:
    """Return the name of a table and row numbers: 'runs.csv rows 3-6, 9'."""
    numbers = sorted({int(row) for row in rows})
    return f"{where} row{'s' if len(numbers) > 1 else ''} {ranges(numbers)}"


def ranges(rows: Sequence[int]) -> str:
    """Return row numbers as ranges; long lists are cut.

    >>> ranges([6, 3, 4, 5, 9])
    '3-6, 9'
    >>> ranges(range(1, 99, 2))
    '1, 3, 5 and 46 more'
    """
    numbers = np.unique(np.asarray(rows, int))
    groups = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    shown = groups if len(groups) <= MAX_SPANS else groups[:FIRST_SPANS]
    text = ", ".join(str(g[0]) if len(g) == 1 else f"{g[0]}-{g[-1]}" for g in shown)
    more = len(numbers) - sum(map(len, shown))
    return text + (f" and {more} more" if more else "")


def listed(names: Sequence[object], most: int = MAX_NAMES) -> str:
    """Return names separated by commas; lists of more than `most` are cut."""
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
