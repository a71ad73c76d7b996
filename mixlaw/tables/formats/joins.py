"""Files that are parts of one table, put beside each other by an id."""

from pathlib import Path

import numpy as np
import pandas as pd

from mixlaw.errors import ConfigError, RunLogError
from mixlaw.tables.columns import WEIGHT, is_standard, unknown_column
from mixlaw.tables.formats.raw_table import Part
from mixlaw.tables.notes import listed, note_rows
from mixlaw.tables.number_parsing import parse_numbers


def joined(parts: list[Part], key: str) -> Part:
    """Return the rows of all files that belong together by the value of `key`, whatever their order.

    A file has every id once, except that one, not that of the mixtures, may have several rows of a run.

    Raises
    ------
    RunLogError
        If a file lacks the column, two have several rows of an id, or no id is in all files.
    """
    notes = [note for part in parts for note in part.notes]
    ids = [ids_of(part, key, notes) for part in parts]
    first = _carrier(parts, ids, key)
    common = set.intersection(*(set(values) for values in ids))
    if not common:
        examples = "; ".join(f"{p.where} has {listed(list(v[:3]))}" for p, v in zip(parts, ids, strict=True))
        raise RunLogError(f"no {key} is in all the files: {examples}")
    left_out = dict(parts[first].left_out)
    for part, values in zip(parts, ids, strict=True):
        others = ("all of " if len(parts) > 2 else "") + " and ".join(p.where for p in parts if p is not part)
        text = lambda i, v=values, o=others: f"{key} {v.iloc[i]} is not in {o}; left out"  # noqa: E731
        missing = ~values.isin(list(common))
        note_rows(notes, missing, part.where, values.index, text, f"their {key} is not in {others}; left out")
        if part is parts[first]:
            left_out |= {f"{key} that not all files have": int(missing.sum())} if missing.any() else {}
    rows = ids[first][ids[first].isin(list(common))]
    frame, where = parts[first].frame.loc[rows.index].assign(**{key: rows}), parts[first].where
    for part, values in zip(parts, ids, strict=True):
        if part is not parts[first]:
            other = part.frame.drop(columns=key).loc[values.index].set_axis(values.to_numpy())
            frame = _beside(frame, other.loc[rows.to_numpy()].set_axis(rows.index), where, part.where, notes)
    names = [Path(part.where).name for part in parts if part is not parts[first]]
    renamed = {k: v for part in parts for k, v in part.renamed.items()}
    decimal = parts[first].decimal
    return Part(
        " + ".join([where, *names]), frame, parts[first].n_rows, notes, decimal, renamed, left_out, parts[first].layout
    )


def _carrier(parts: list[Part], ids: list[pd.Series], key: str) -> int:
    """Return which file's rows are those of the joined table: that which repeats ids, or else that of the mixtures."""
    weights = [any(str(c).startswith(WEIGHT) for c in part.frame) for part in parts]
    mixtures = weights.index(True) if any(weights) else 0
    repeated = [i for i, values in enumerate(ids) if values.duplicated().any()]
    if mixtures in repeated or len(repeated) > 1:
        wrong = mixtures if mixtures in repeated else repeated[1]
        twice = ids[wrong][ids[wrong].duplicated()].unique().tolist()
        raise RunLogError(f"{parts[wrong].where}: {key} names a run twice: {listed(twice)}. Which of its rows counts?")
    return repeated[0] if repeated else mixtures


def ids_of(part: Part, key: str, notes: list[str]) -> pd.Series:
    """Return the ids of a file as text, without the rows that have none; 7 and 7.0 are one id."""
    if key not in part.frame:
        known = unknown_column(key, list(part.frame.columns))
        raise ConfigError(f"{part.where} cannot be joined by {key} (--join): {known}")
    text = part.frame[key].astype(str).str.strip().str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)
    empty = (part.frame[key].isna() | (text == "")).to_numpy(bool)
    note_rows(notes, empty, part.where, part.frame.index, lambda _: f"{key} is empty; left out")
    return text[~empty]


def _beside(frame: pd.DataFrame, other: pd.DataFrame, where: str, there: str, notes: list[str]) -> pd.DataFrame:
    """Put the columns of another file beside; a column that both have must say the same."""
    for column in other.columns.intersection(frame.columns):
        one, two = frame[column], other[column]
        differ = (one.astype(str) != two.astype(str)) & (parse_numbers(one)[0] != parse_numbers(two)[0])
        if differ.any() and is_standard(column):
            row = int(np.flatnonzero(differ)[0])
            here = f"{where} row {frame.index[row]}: {column} is {one.iloc[row]}"
            raise RunLogError(f"{here}, but {two.iloc[row]} in {there}")
        if differ.any():
            notes.append(f"{there}: {column} differs from that in {where}; it is left out")
    return frame.join(other[other.columns.difference(frame.columns, sort=False)])
