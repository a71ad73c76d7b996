"""Long tables, with a row per run and target, are pivoted to wide ones: a row per evaluation, a column per target."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from mixlaw.tables.columns import LOSS, LOSS_SE, WEIGHT, is_standard
from mixlaw.tables.formats.raw_table import RawTable
from mixlaw.tables.notes import listed, note_rows
from mixlaw.tables.number_parsing import blank_rows, parse_numbers

PLAIN = ("target", "domain", "metric", "task")  # columns that name targets even where the names are numbers
TARGETS = (
    *PLAIN,
    *("eval", "eval_domain", "eval_set", "eval_dataset", "eval_name"),
    *("val_set", "val_domain", "val_dataset", "validation_set", "validation_domain", "test_set", "test_domain"),
    *("benchmark", "loss_name", "loss_domain", "variable"),
)
ONLY_WITH_IDS = ("dataset", "corpus", "subset", "split")  # without run ids they may name the training data
LOSSES = ("loss", "val_loss", "eval_loss", "validation_loss", "test_loss", "nll", "nll_loss", "ce", "ce_loss")
ALONE = (*LOSSES, "cross_entropy")  # columns that may hold the losses of a single target
VALUES = (*ALONE, "value", "score")
ERRORS = ("loss_se", "se", "stderr", "std_err", "standard_error", "loss_stderr")
SHARES = ("weight", "share", "proportion")


def widen(table: RawTable) -> None:
    """Pivot a table that has a column of target names and one of losses, with a note; leave other tables as they are.

    A column `loss` without a column of target names is the loss of one target.
    """
    frame = table.frame
    if any(c.startswith(LOSS) and c not in (*TARGETS, *ERRORS) for c in frame.columns):
        return
    value, target = _first(frame, VALUES), _targets_of(frame)
    if value and target:
        _pivot(table, value, target)
        return
    alone = [c for c in frame.columns if c.lower() in ALONE]
    if len(alone) == 1:
        table.frame = frame.rename(columns={alone[0]: f"{LOSS}{alone[0]}"})
        table.renamed[alone[0]] = f"{LOSS}{alone[0]}"
        table.notes.append(f"{table.where}: column {alone[0]} holds the losses of one target, named {alone[0]}")


def _first(frame: pd.DataFrame, names: Sequence[str]) -> str:
    """Return the column with the first of these names that occurs, ignoring case, or ''."""
    lower = {str(c).lower(): str(c) for c in reversed(list(frame.columns))}
    return next((lower[name] for name in names if name in lower), "")


def _targets_of(frame: pd.DataFrame) -> list[str]:
    """Return the text columns that together name targets; constant ones only if no other varies."""
    names = TARGETS + (ONLY_WITH_IDS if "run_id" in frame else ())
    lower = {str(c).lower(): str(c) for c in frame.columns}
    columns = [lower[n] for n in names if n in lower and (n in PLAIN or not is_numeric_dtype(frame[lower[n]]))]
    telling: list[str] = []
    for column in columns:
        finer = [*telling, column] if column.lower() in TARGETS or not telling else telling
        if len(frame[finer].drop_duplicates()) > (len(frame[telling].drop_duplicates()) if telling else 1):
            telling = finer
    return telling or columns[:1]


def _pivot(table: RawTable, value: str, named_by: list[str]) -> None:
    """Make a row per evaluation.

    Parameters
    ----------
    value : the column of losses
    named_by : the columns that together name the target
    """
    frame, names = _named_rows(table, named_by)
    frame[value] = _losses(table, frame, value, names)
    columns = _columns_per_target(frame, value)
    others = [c for c in frame.columns if c not in (*named_by, *columns.values())]
    number, differing = _evaluations(frame, names, others)
    first = ~number.duplicated()
    wide = frame.loc[first, [c for c in others if c not in differing]]
    for prefix, column in columns.items():
        long = frame.assign(number=number, name=names)
        of_target = long.pivot(index="number", columns="name", values=column).loc[number[first].to_numpy()]
        kept = [name for name in dict.fromkeys(names) if of_target[name].notna().any() or prefix == LOSS]
        wide = wide.join(of_target[kept].set_axis([prefix + n for n in kept], axis=1).set_axis(wide.index, axis=0))
    left = f"; left out, because they differ between the targets of an evaluation: {listed(differing)}"
    table.frame = wide
    table.notes.append(
        f"{table.where}: a long table with one loss ({value}) per row and {' and '.join(named_by)}: {len(frame)} rows "
        f"are {len(wide)} evaluations of {names.nunique()} targets; row numbers are those of their first rows"
        + (left if differing else "")
    )


def _named_rows(table: RawTable, named_by: list[str]) -> tuple[pd.DataFrame, pd.Series]:
    """Return the rows that name a target, and the names."""
    frame = table.frame
    words = [["" if pd.isna(cell) else str(cell).strip() for cell in frame[column]] for column in named_by]
    names = pd.Series(["_".join(filter(None, row)) for row in zip(*words, strict=True)], frame.index, dtype=object)
    if names[names != ""].str.startswith(LOSS).all():
        names = names.str.removeprefix(LOSS)
    reason = f"{' and '.join(named_by)} is empty"
    nameless = (names == "").to_numpy()
    counted = nameless & ~blank_rows(frame).to_numpy()
    note_rows(table.notes, counted, table.where, frame.index, lambda _: f"{reason}; left out")
    table.leave_out(int(counted.sum()), reason)
    return frame[~nameless].copy(), names[~nameless]


def _columns_per_target(frame: pd.DataFrame, value: str) -> dict[str, str]:
    """Return prefix -> the long column that becomes wide ones: losses, their errors, and weights."""
    columns = {LOSS: value, LOSS_SE: _first(frame, ERRORS), WEIGHT: _first(frame, SHARES)}
    wide = {prefix for prefix in columns if any(c.startswith(prefix) for c in frame.columns if is_standard(c))}
    return {prefix: c for prefix, c in columns.items() if c and (prefix == LOSS or prefix not in wide)}


def _evaluations(frame: pd.DataFrame, names: pd.Series, others: list[str]) -> tuple[pd.Series, list[str]]:
    """Return the evaluation that each row is of, and the columns that differ within evaluations.

    Rows are of one evaluation if all columns that identify runs agree; a repeated target begins another one.

    Parameters
    ----------
    names : the target of each row
    others : the columns beside targets and losses
    """
    cells = {c: frame[c].map(str, na_action="ignore") for c in others}
    keys = [cells[c] for c in others if is_standard(c) or ("run_id" not in others and _tells_runs(cells[c], names))]
    point = frame.groupby(keys, sort=False, dropna=False).ngroup() if keys else pd.Series(0, frame.index)
    again = frame.groupby([point, names], sort=False).cumcount()
    number = frame.groupby([point, again], sort=False).ngroup()
    return number, [c for c in others if (cells[c].groupby(number).nunique() > 1).any()]


def _losses(table: RawTable, frame: pd.DataFrame, value: str, names: pd.Series) -> pd.Series:
    """Return the losses as numbers; rows whose losses are not numbers are noted."""
    numbers, bad = parse_numbers(frame[value], table.decimal)
    bad |= np.isinf(numbers)
    if 2 * bad.sum() > numbers.notna().sum() + bad.sum():  # most: the check of the whole column refuses it later
        return frame[value]
    text = lambda i: f"{value} of {names.iloc[i]} is {str(frame[value].iloc[i])[:40]}, not a loss; left out"  # noqa: E731
    note_rows(table.notes, bad, table.where, frame.index, text)
    return numbers.mask(bad)


def _tells_runs(cells: pd.Series, names: pd.Series) -> bool:
    """Return whether a column may tell runs apart: it is neither unique per row nor fixed per target."""
    of_target = cells.nunique() > 1 and (cells.groupby(names.to_numpy()).nunique() <= 1).all()
    return not of_target and cells.nunique() < max(len(cells), 2)
