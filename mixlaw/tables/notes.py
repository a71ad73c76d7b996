"""Notes about rows: one line for each kind, with the rows that it is about."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

MAX_NAMES = 20  # in one sentence
MAX_SPANS, FIRST_SPANS = 6, 3  # more ranges of rows than the former are cut to the latter


def note_rows(
    notes: list[str], bad: Any, where: str, rows: Any, text: Callable[[int], str], rest: str | None = None
) -> None:
    """Add one line that names all bad rows, or nothing where there are none.

    Parameters
    ----------
    bad : (n,) which rows
    rows : (n,) their numbers
    text : position -> what is wrong there and what was done
    rest : the same where several rows are bad; that of their first by default
    """
    hits, rows = np.flatnonzero(bad), np.asarray(rows)
    if len(hits):
        sentence = rest if rest and len(hits) > 1 else text(int(hits[0]))
        notes.append(f"{rows_in(where, rows[hits])}: {sentence}")


def rows_in(where: str, rows: Iterable[int]) -> str:
    """Return a table's name and rows of it: 'runs.csv rows 3-6, 9'."""
    numbers = sorted({int(row) for row in rows})
    return f"{where} row{'s' if len(numbers) > 1 else ''} {ranges(numbers)}"


def ranges(rows: Sequence[int]) -> str:
    """Return row numbers in few words.

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
    """Return names with commas between, the first ones and how many more."""
    more = f", and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
