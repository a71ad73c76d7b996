"""Files that are parts of one table are joined by an id."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mixlaw.errors import ConfigError, RunLogError
from mixlaw.tables.columns import WEIGHT, is_standard, unknown_column
from mixlaw.tables.formats.raw_table import RawTable
from mixlaw.tables.notes import listed, note_rows
from mixlaw.tables.number_parsing import parse_numbers


def joined(tables: list[RawTable], key: str) -> RawTable:
    """Return the inner join of all files on the column `key`; the order of rows and files does not matter.

    Ids are unique in every file, except that one file without mixtures may have several rows per id (its checkpoints).

    Raises
    ------
    RunLogError
        If a file lacks the column, two files have several rows per id, or no id is in all files.
    """
    notes = [note for table in tables for note in table.notes]
    ids = [ids_of(table, key, notes) for table in tables]
    common = _common_ids(tables, ids, key)
    left = _left_side(tables, ids, key)
    missing = [_note_missing(tables, i, ids[i], common, key, notes) for i in range(len(tables))]
    rows = ids[left][ids[left].isin(common)]
    base = tables[left]
    frame = base.frame.loc[rows.index].assign(**{key: rows})
    others = [(table, values) for i, (table, values) in enumerate(zip(tables, ids, strict=True)) if i != left]
    for table, values in others:
        other = table.frame.drop(columns=key).loc[values.index].set_axis(values.to_numpy())
        frame = _with_columns(frame, other.loc[rows.to_numpy()].set_axis(rows.index), (base.where, table.where), notes)
    reason = {f"{key} that not all files have": missing[left]} if missing[left] else {}
    return RawTable(
        " + ".join([base.where, *(Path(table.where).name for table, _ in others)]),
        frame,
        base.n_rows,
        notes=notes,
        decimal=base.decimal,
        renamed={theirs: name for table in tables for theirs, name in table.renamed.items()},
        left_out=base.left_out | reason,
        layout=base.layout,
    )


def ids_of(table: RawTable, key: str, notes: list[str]) -> pd.Series:
    """Return the ids of a file as text, without empty ones; 7 and 7.0 are the same id.

    Raises
    ------
    ConfigError
        If the file has no such column.
    """
    if key not in table.frame:
        known = unknown_column(key, list(table.frame.columns))
        raise ConfigError(f"{table.where} cannot be joined by {key} (--join): {known}")
    text = table.frame[key].astype(str).str.strip().str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)
    empty = (table.frame[key].isna() | (text == "")).to_numpy(bool)
    note_rows(notes, empty, table.where, table.frame.index, lambda _: f"{key} is empty; left out")
    return text[~empty]


def _common_ids(tables: list[RawTable], ids: list[pd.Series], key: str) -> list[str]:
    common = set.intersection(*(set(values) for values in ids))
    if not common:
        examples = "; ".join(f"{t.where} has {listed(list(v[:3]))}" for t, v in zip(tables, ids, strict=True))
        raise RunLogError(f"no {key} is in all the files: {examples}")
    return list(common)


def _left_side(tables: list[RawTable], ids: list[pd.Series], key: str) -> int:
    """Return the index of the file whose rows the join keeps: that with repeated ids, or else that of the mixtures."""
    weights = [any(str(c).startswith(WEIGHT) for c in table.frame) for table in tables]
    mixtures = weights.index(True) if any(weights) else 0
    repeated = [i for i, values in enumerate(ids) if values.duplicated().any()]
    if mixtures in repeated or len(repeated) > 1:
        wrong = mixtures if mixtures in repeated else repeated[1]
        twice = ids[wrong][ids[wrong].duplicated()].unique().tolist()
        raise RunLogError(f"{tables[wrong].where}: {key} names a run twice: {listed(twice)}. Which of its rows counts?")
    return repeated[0] if repeated else mixtures


def _note_missing(
    tables: Sequence[RawTable], i: int, ids: pd.Series, common: list[str], key: str, notes: list[str]
) -> int:
    """Note the rows of file i whose id is not in all files; return how many there are."""
    others = ("all of " if len(tables) > 2 else "") + " and ".join(t.where for j, t in enumerate(tables) if j != i)
    missing = ~ids.isin(common)
    one = lambda row: f"{key} {ids.iloc[row]} is not in {others}; left out"  # noqa: E731
    note_rows(notes, missing, tables[i].where, ids.index, one, f"their {key} is not in {others}; left out")
    return int(missing.sum())


def _with_columns(frame: pd.DataFrame, other: pd.DataFrame, names: tuple[str, str], notes: list[str]) -> pd.DataFrame:
    """Add the columns of another file with the same index; standard columns that both have must agree.

    Parameters
    ----------
    names : of the two files, for messages
    """
    for column in other.columns.intersection(frame.columns):
        one, two = frame[column], other[column]
        differ = (one.astype(str) != two.astype(str)) & (parse_numbers(one)[0] != parse_numbers(two)[0])
        if differ.any() and is_standard(column):
            row = int(np.flatnonzero(differ)[0])
            here = f"{names[0]} row {frame.index[row]}: {column} is {one.iloc[row]}"
            raise RunLogError(f"{here}, but {two.iloc[row]} in {names[1]}")
        if differ.any():
            notes.append(f"{names[1]}: {column} differs from that in {names[0]}; it is left out")
    return frame.join(other[other.columns.difference(frame.columns, sort=False)])
