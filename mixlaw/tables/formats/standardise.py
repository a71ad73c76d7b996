"""Give the columns of tables their standard names: by the user's names, a layout, and usual spellings."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from mixlaw.errors import ConfigError, RunLogError
from mixlaw.tables.columns import is_standard, meant, unknown_column
from mixlaw.tables.formats.joins import ids_of, joined
from mixlaw.tables.formats.layouts import Layout, get_layout, recognised
from mixlaw.tables.formats.long_tables import widen
from mixlaw.tables.formats.raw_table import RawTable
from mixlaw.tables.notes import listed, note_rows
from mixlaw.tables.number_parsing import parse_numbers


@dataclass(frozen=True)
class FileOptions:
    """What the user says about the columns of files.

    Attributes
    ----------
    columns : column names, or patterns, in the files -> standard names; they have precedence over the layout's
    layout : a name in `LAYOUTS`; by default recognised by the columns
    join : the column by which the files are joined, and that names runs
    constants : columns that the files lack
    need_losses : whether a table without losses is incomplete
    run_id : columns that name a run; their cells stay text
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    layout: str | None = None
    join: str | None = None
    constants: Mapping[str, float] = field(default_factory=dict)
    need_losses: bool = True
    run_id: tuple[str, ...] = ()


def standardise(tables: list[RawTable], options: FileOptions) -> list[RawTable]:
    """Rename columns, convert long tables to one row per evaluation, and join tables that are parts of one.

    Raises
    ------
    ConfigError, RunLogError
        If a layout, a pattern or a column does not exist, or two columns get the same name.
    """
    _check_patterns(options.columns)
    in_files = [str(c) for table in tables for c in table.frame.columns]
    name, layout = _find_layout(tables, in_files, options)
    key = options.join or layout.join
    key = {**layout.columns, **options.columns}.get(key, key) if key else None
    for table in tables:
        table.layout = name
        _rename(table, options.columns, layout, key)
        _keep_rows(table, layout)
    recognised_layout = name and not options.layout
    present = in_files if recognised_layout else [str(c) for table in tables for c in table.frame]
    _require_matches(options.columns, in_files, present)
    for table in tables:
        widen(table)
    if key and len(tables) > 1:
        tables = [joined(tables, key)]
    elif options.join:
        ids_of(tables[0], str(key), [])
    for table in tables:
        _name_runs(table, key, layout)
        _set_constants(table, options.constants)
    return tables


def _check_patterns(columns: Mapping[str, str]) -> None:
    for theirs, standard in columns.items():
        if "*" in theirs + standard and (theirs.count("*"), standard.count("*")) != (1, 1):
            raise ConfigError(f"--columns {standard}={theirs}: a pattern has exactly one * on each side")


def _find_layout(tables: list[RawTable], columns: Sequence[str], options: FileOptions) -> tuple[str, Layout]:
    """Return the name of the layout, '' if there is none, and the layout; without one, usual spellings are renamed."""
    name = options.layout or recognised(columns, options.columns, options.constants, options.need_losses)
    if not name:
        for table in tables:
            _rename_usual_spellings(table, {*options.columns, *options.columns.values(), *options.constants})
        return "", Layout()
    layout = get_layout(name)
    if not options.layout:
        names = " + ".join([tables[0].where, *(Path(table.where).name for table in tables[1:])])
        note = f"{names}: read in the layout '{name}', recognised by its columns; --layout names another"
        tables[0].notes.append(note)
    return name, layout


def _rename_usual_spellings(table: RawTable, claimed: set[str]) -> None:
    """Rename columns that mean a standard one, such as N or LOSS_web, with a note."""
    names: dict[str, str] = {}
    for column in map(str, table.frame.columns):
        name = meant(column)
        if name and not {column, name} & claimed and name not in {*table.frame.columns, *names.values()}:
            names[column] = name
    if names:
        table.frame = table.frame.rename(columns=names)
        read = [f"{theirs} as {name}" for theirs, name in names.items()]
        table.notes.append(f"{table.where}: columns renamed: {listed(read, 8)}")


def _rename(table: RawTable, columns: Mapping[str, str], layout: Layout, key: str | None) -> None:
    """Give columns their standard names: first the user's, then the layout's, in order of preference."""
    frame = table.frame
    names: dict[str, str] = {}
    taken = {c for c in frame.columns if is_standard(c)}
    own = sorted(columns.items(), key=lambda pair: "*" in pair[0])  # a name has precedence over a pattern
    for theirs, standard in [*own, *_layout_columns(layout, table, {*columns, key}).items()]:
        for column, word in _matched(theirs, list(frame.columns), {*names, key}).items():
            name = standard.replace("*", word) if word else standard
            if theirs in columns or name == column or name not in taken:
                names[column] = name
                taken.add(name)
    table.frame, table.renamed = frame.rename(columns=names), names
    repeated = table.frame.columns[table.frame.columns.duplicated()]
    if len(repeated):
        raise RunLogError(f"{table.where}: column '{repeated[0]}' appears twice")
    for column in layout.scale.keys() & set(names.values()):
        scaled = parse_numbers(table.frame[column], table.decimal)[0] * layout.scale[column]
        table.frame[column] = scaled.where(scaled.notna(), table.frame[column].astype(object))


def _layout_columns(layout: Layout, table: RawTable, claimed: set[str | None]) -> Mapping[str, str]:
    """Return the layout's columns; where the remaining columns of a file sum to one, "*" means weights, not losses."""
    rest = [c for c in table.frame.columns if c not in layout.columns and c not in claimed]
    if not layout.shares or not rest:
        return layout.columns
    numbers = table.frame[rest].apply(lambda column: parse_numbers(column, table.decimal)[0])
    sums_to_one = numbers.sum(axis=1).between(0.9, 1.1) & (numbers >= 0).all(axis=1)
    return {**layout.columns, "*": "weight_*"} if sums_to_one.mean() > 0.5 else layout.columns


def _matched(theirs: str, columns: Sequence[str], claimed: set[str | None]) -> dict[str, str]:
    """Return the columns that a name or pattern matches -> what its * matches; standard columns keep their meaning."""
    if theirs in columns or "*" not in theirs:
        return {theirs: ""} if theirs in columns and theirs not in claimed else {}
    expression = re.compile(re.escape(theirs).replace(r"\*", "(.+)"))
    standard_too = is_standard(theirs.partition("*")[0])
    free = [c for c in columns if c not in claimed and (standard_too or not is_standard(c))]
    return {c: match[1] for c in free if (match := expression.fullmatch(c))}


def _keep_rows(table: RawTable, layout: Layout) -> None:
    """Leave out rows that the layout does not keep, such as those of unfinished runs."""
    for column, value in layout.keep.items():
        if column not in table.frame:
            table.notes.append(f"{table.where} has no column {column}: all runs are assumed to be {value}")
            continue
        cells = table.frame[column].tolist()
        other = np.array([cell != value for cell in cells], bool)
        text = lambda i, c=column, v=cells: f"{c} is {v[i]}; left out"  # noqa: E731
        note_rows(table.notes, other, table.where, table.frame.index, text, f"{column} is not {value}; left out")
        table.frame = table.frame[~other]
        table.leave_out(int(other.sum()), f"{column} is not {value}")
        if table.frame.empty and cells:
            raise RunLogError(f"{table.where}: {column} is {value} in none of its {len(cells)} rows")


def _require_matches(columns: Mapping[str, str], in_files: list[str], present: list[str]) -> None:
    """Refuse a name that no file has, unless the standard column is present without it."""
    for theirs, standard in columns.items():
        there = any(fnmatchcase(c, standard.replace("[", "[[]")) for c in present)
        if not there and not _matched(theirs, in_files, set()):
            kind = "pattern" if "*" in theirs else "column"
            raise ConfigError(f"--columns {standard}={theirs}: {unknown_column(theirs, in_files, kind)}")


def _name_runs(table: RawTable, key: str | None, layout: Layout) -> None:
    """Add the column run_id: the join column, or the row where every row is a run."""
    if key in table.frame and "run_id" not in table.frame:
        table.frame = table.frame.rename(columns={key: "run_id"})
    elif layout.rows_are_runs and "run_id" not in table.frame:
        table.frame["run_id"] = [f"{table.where} row {i}" for i in table.frame.index]


def _set_constants(table: RawTable, constants: Mapping[str, float]) -> None:
    for column, value in constants.items():
        if column in table.frame:
            raise ConfigError(
                f"--constants {column}={value:g}: {table.where} has a column {column}; leave out one of the two"
            )
        table.frame[column] = float(value)
