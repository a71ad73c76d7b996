"""Load files as tables with standard columns."""

from collections.abc import Sequence
from pathlib import Path

from mixlaw.tables.columns import is_standard
from mixlaw.tables.example_files import resolve
from mixlaw.tables.formats.files import read_cells
from mixlaw.tables.formats.layouts import LAYOUTS
from mixlaw.tables.formats.long_tables import PLAIN
from mixlaw.tables.formats.raw_table import RawTable
from mixlaw.tables.formats.standardise import FileOptions, standardise
from mixlaw.tables.notes import listed


def load_files(paths: Sequence[Path], options: FileOptions) -> list[RawTable]:
    """Read files, give their columns the standard names, and join them where they are parts of one table.

    Parameters
    ----------
    paths : files of any format that `mixlaw.tables.formats.files` reads, or example:NAME

    Raises
    ------
    ConfigError, RunLogError
        Naming the option, or the file and the row or column.
    """
    if not paths:
        return []
    texts = _text_columns(options)
    tables = []
    for path in paths:
        cells = read_cells(resolve(path), texts)
        notes = [f"{path}: {'; '.join(cells.notes)}"] if cells.notes else []
        tables.append(RawTable(str(path), cells.frame, cells.n_rows, notes, cells.decimal))
        tables[-1].leave_out(cells.n_rows - len(cells.frame), "no record")
    tables = standardise(tables, options)
    for table in tables:
        _note_unused(table, {table.renamed.get(column, column) for column in options.run_id})
    return tables


def _text_columns(options: FileOptions) -> set[str]:
    """Return the columns whose cells stay text, because they are ids or names of targets."""
    mappings = [options.columns, *(layout.columns for layout in LAYOUTS.values())]
    ids = {theirs for columns in mappings for theirs, standard in columns.items() if standard == "run_id"}
    joins = {options.join, *(layout.join for layout in LAYOUTS.values())}
    return {"run_id", *PLAIN, *options.run_id, *ids, *(column for column in joins if column)}


def _note_unused(table: RawTable, used: set[str]) -> None:
    others = sorted(c for c in table.frame.columns if not is_standard(c) and c not in used)
    if others:
        table.notes.append(f"{table.where}: columns that are not used: {listed(others)}")
