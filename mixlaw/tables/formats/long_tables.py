"""Long tables, a row per run and target, become wide ones: a row per evaluation, a column loss_<target> per target."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from mixlaw.tables.columns import LOSS, LOSS_SE, WEIGHT, is_standard
from mixlaw.tables.formats.raw_table import Part
from mixlaw.tables.notes import listed, note_rows
from mixlaw.tables.number_parsing import blank_rows, parse_numbers

TARGETS = (
    "target", "domain", "metric", "task", "eval", "eval_domain", "eval_set", "eval_dataset", "eval_name", "val_set",
    "val_domain", "val_dataset", "validation_set", "validation_domain", "test_set", "test_domain", "benchmark",
    "loss_name", "loss_domain", "variable",
)  # fmt: skip
PLAIN = TARGETS[:4]  # columns that name targets even where these are numbers
ONLY_WITH_IDS = ("dataset", "corpus", "subset", "split")  # else they may be what a run was trained on
VALUES = (
    "loss", "val_loss", "eval_loss", "validation_loss", "test_loss", "nll", "nll_loss", "ce", "ce_loss",
    "cross_entropy", "value", "score",
)  # fmt: skip
ERRORS = ("loss_se", "se", "stderr", "std_err", "standard_error", "loss_stderr")
SHARES = ("weight", "share", "proportion")
ALONE = VALUES[:10]  # columns that may be the losses of one target


def widen(part: Part) -> None:
    """Make a table wide, with a note, where it has a column of targets and one of losses; else leave it as it is.

    A column `loss` without a column of targets is the loss of one target.
    """
    frame = part.frame
    if any(c.startswith(LOSS) and c not in (*TARGETS, *ERRORS) for c in frame.columns):
        return
    value, target = _first(frame, VALUES), _targets_of(frame)
    if value and target:
        _widen(part, value, target)
        return
    alone = [c for c in frame.columns if c.lower() in ALONE]
    if len(alone) == 1:
        part.frame = frame.rename(columns={alone[0]: f"{LOSS}{alone[0]}"})
        part.renamed[alone[0]] = f"{LOSS}{alone[0]}"
        part.notes.append(f"{part.where}: column {alone[0]} holds the losses of one target, which bears its name")


def _first(frame: pd.DataFrame, names: Sequence[str]) -> str:
    """Return the column that has the first of these names, in any case, or nothing."""
    lower = {str(c).lower(): str(c) for c in reversed(list(frame.columns))}
    return next((lower[name] for name in names if name in lower), "")


def _targets_of(frame: pd.DataFrame) -> list[str]:
    """Return the columns of text that name targets together, or nothing; those of one value only where all are."""
    names = TARGETS + (ONLY_WITH_IDS if "run_id" in frame else ())
    lower = {str(c).lower(): str(c) for c in frame.columns}
    columns = [lower[n] for n in names if n in lower and (n in PLAIN or not is_numeric_dtype(frame[lower[n]]))]
    telling: list[str] = []
    for column in columns:
        finer = [*telling, column] if column.lower() in TARGETS or not telling else telling
        if len(frame[finer].drop_duplicates()) > (len(frame[telling].drop_duplicates()) if telling else 1):
            telling = finer
    return telling or columns[:1]


def _widen(part: Part, value: str, named_by: list[str]) -> None:
    frame, target = part.frame, " and ".join(named_by)
    words = [["" if pd.isna(cell) else str(cell).strip() for cell in frame[column]] for column in named_by]
    names = pd.Series(["_".join(filter(None, row)) for row in zip(*words, strict=True)], frame.index, dtype=object)
    if names[names != ""].str.startswith(LOSS).all():
        names = names.str.removeprefix(LOSS)
    nameless = (names == "").to_numpy()
    blank = blank_rows(frame).to_numpy()
    note_rows(part.notes, nameless & ~blank, part.where, frame.index, lambda _: f"{target} is empty; left out")
    part.leave_out(int((nameless & ~blank).sum()), f"{target} is empty")
    frame, names = frame[~nameless].copy(), names[~nameless]
    frame[value] = _losses(part, frame, value, names)
    columns = {LOSS: value, LOSS_SE: _first(frame, ERRORS), WEIGHT: _first(frame, SHARES)}
    wide_ones = {prefix for prefix in columns if any(c.startswith(prefix) for c in frame.columns if is_standard(c))}
    columns = {prefix: c for prefix, c in columns.items() if c and (prefix == LOSS or prefix not in wide_ones)}
    others = [c for c in frame.columns if c not in (*named_by, *columns.values())]
    cells_of = {c: frame[c].map(str, na_action="ignore") for c in others}
    of_runs = [c for c in others if is_standard(c) or ("run_id" not in others and _tells_runs(cells_of[c], names))]
    keys = [cells_of[c] for c in of_runs]
    point = frame.groupby(keys, sort=False, dropna=False).ngroup() if keys else pd.Series(0, frame.index)
    again = frame.groupby([point, names], sort=False).cumcount()
    number = frame.groupby([point, again], sort=False).ngroup()
    of_rows = [c for c in others if (cells_of[c].groupby(number).nunique() > 1).any()]
    wide = frame.loc[~number.duplicated(), [c for c in others if c not in of_rows]]
    own = number[~number.duplicated()].to_numpy()
    for prefix, column in columns.items():
        of_target = (
            frame.assign(number=number, name=names).pivot(index="number", columns="name", values=column).loc[own]
        )
        kept = [name for name in dict.fromkeys(names) if of_target[name].notna().any() or prefix == LOSS]
        wide = wide.join(of_target[kept].set_axis([prefix + n for n in kept], axis=1).set_axis(wide.index, axis=0))
    left = f"; left out, because they differ between the targets of an evaluation: {listed(of_rows)}" if of_rows else ""
    part.frame = wide
    part.notes.append(
        f"{part.where}: a long table, a loss ({value}) for each {target} in a row: {len(frame)} rows are {len(wide)} "
        f"evaluations of {names.nunique()} targets, named by their first rows{left}"
    )


def _losses(part: Part, frame: pd.DataFrame, value: str, names: pd.Series) -> pd.Series:
    """Return the losses as numbers where they are, and name the rows of the others."""
    numbers, bad = parse_numbers(frame[value], part.decimal)
    bad |= np.isinf(numbers)
    if 2 * bad.sum() > numbers.notna().sum() + bad.sum():  # most: what is wrong is said later, of the whole column
        return frame[value]
    text = lambda i: f"{value} of {names.iloc[i]} is {str(frame[value].iloc[i])[:40]}, which is no loss; left out"  # noqa: E731
    note_rows(part.notes, bad, part.where, frame.index, text)
    return numbers.mask(bad)


def _tells_runs(cells: pd.Series, names: pd.Series) -> bool:
    """Say whether a column may tell evaluations apart: it is not another in every row, nor one for each target."""
    of_target = cells.nunique() > 1 and (cells.groupby(names.to_numpy()).nunique() <= 1).all()
    return not of_target and cells.nunique() < max(len(cells), 2)
