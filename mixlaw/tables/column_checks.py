"""Check the columns of a table: bad cells and rows are left out with a note; a mostly bad column is an error."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from mixlaw.errors import RunLogError
from mixlaw.tables.columns import LOSS, LOSS_SE, WEIGHT, names_after
from mixlaw.tables.notes import listed, note_rows, rows_in
from mixlaw.tables.number_parsing import blank_rows, decimal_mark_of, is_empty, parse_numbers, text_cells
from mixlaw.tables.weight_units import mixtures_of

COUNTS = ("n_params", "n_tokens", "available_", "n_params_non_embedding")  # columns in which 50M is a number
MAX_VALUES = 3  # bad values shown in a note
MAX_EXAMPLES = 4  # cells of text read as numbers, shown in a note


@dataclass
class ColumnChecks:
    """A table whose columns are being checked; each check turns text into numbers and leaves out what is not allowed.

    Attributes
    ----------
    frame : the rows that are left, with the column `row`
    where : what messages call the table
    decimal : the decimal mark of cells that can be read in two ways
    notes : what was repaired or left out
    left_out : reason -> number of rows that were left out for it
    """

    frame: pd.DataFrame
    where: str
    decimal: str = "."
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    _read: list[str] = field(default_factory=list)
    _empty: dict[str, set[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.decimal = decimal_mark_of(text_cells(self.frame), self.decimal)
        blank = blank_rows(self.frame.drop(columns="row"))
        note_rows(self.notes, blank, self.where, self.frame["row"], lambda _: "blank; left out")
        self.frame = self.frame[~blank].reset_index(drop=True)
        if self.frame.empty:
            raise RunLogError(f"{self.where} has no rows")

    def require_positive(self, column: str) -> None:
        """Parse a column of numbers; rows whose number is not finite and above 0 are left out."""
        values, bad = self._parsed(column)
        bad |= ~np.isfinite(values) | ~(values > 0)
        if bad.any():
            text = f"{column} is {self._values(column, bad)}, not a number above 0"
            self._drop(bad, text, f"{column} is not a number above 0")
        self.frame[column] = values[~bad].to_numpy(float)

    def check_optional(self, column: str, allowed: Callable[[pd.Series], pd.Series], meaning: str) -> None:
        """Parse a column of numbers whose cells may be empty; cells that are not allowed are emptied.

        Parameters
        ----------
        allowed : numbers (n,) -> mask of the allowed ones
        meaning : what they must be, for messages: 'a number above 0'
        """
        values, bad = self._parsed(column)
        bad |= values.notna() & ~(allowed(values) & np.isfinite(values))
        if bad.any():
            text = f"{column} is {self._values(column, bad)}, not {meaning}"
            self._refuse_majority(bad, int((bad | values.notna()).sum()), text)
            left = "these cells are" if bad.sum() > 1 else "this cell is"
            note_rows(self.notes, bad, self.where, self.frame["row"], lambda _: f"{text}; {left} left out")
        if column.startswith(LOSS) and not column.startswith(LOSS_SE):
            self._empty[column] = set(self.frame["row"][values.isna() & ~bad])
        self.frame[column] = values.mask(bad)

    def check_mixtures(self, domains: list[str], relative: bool) -> None:
        """Turn weights into shares; rows whose weights are not a mixture are left out."""
        names = [WEIGHT + d for d in domains]
        read = {name: self._parsed(name) for name in names}
        weights = pd.DataFrame({name: values for name, (values, _) in read.items()})
        words = pd.DataFrame({name: bad for name, (_, bad) in read.items()})
        n_tokens = self.frame["n_tokens"] if "n_tokens" in self.frame else pd.Series(np.nan, weights.index)
        found = mixtures_of(weights, words, n_tokens, self.frame["row"], self.where, relative)
        self.frame[names] = found.shares.astype(float)
        self.notes += found.notes
        shown = listed(list(dict.fromkeys(found.why[found.bad])), MAX_VALUES)
        self._drop(found.bad, shown, "weights that are not a mixture")

    def require_run_ids(self) -> None:
        """Leave out rows whose run_id is empty."""
        bad = self.frame["run_id"].map(is_empty).astype(bool)
        self._drop(bad, "run_id is empty", "run_id is empty")

    def targets(self) -> list[str]:
        """Return the targets; text columns such as loss_function are not targets."""
        targets = [t for t in names_after(LOSS, self.frame) if not (LOSS + t).startswith(LOSS_SE)]
        words = [t for t in targets if self._holds_words(LOSS + t)]
        if words and len(words) < len(targets):
            named = listed([LOSS + t for t in words])
            self.notes.append(f"{self.where}: columns without numbers, not losses: {named}")
        return [t for t in targets if t not in words] or targets

    def note_empty(self) -> None:
        """Add a note about empty losses."""
        kept = set(self.frame["row"])
        empty = {column: rows & kept for column, rows in self._empty.items() if rows & kept}
        if not empty:
            return
        rows = sorted(set.union(*empty.values()))
        some = "" if all(len(of_column) == len(rows) for of_column in empty.values()) else "some of "
        verb = "is" if len(empty) == 1 else "are"
        left = "these cells are" if len(rows) > 1 or len(empty) > 1 else "this cell is"
        self.notes.append(f"{rows_in(self.where, rows)}: {some}{listed(list(empty))} {verb} empty; {left} left out")

    def note_parsed_text(self) -> None:
        """Add a note about text cells that were read as numbers."""
        if self._read:
            self.notes.insert(0, f"{self.where}: text read as numbers: {listed(self._read, MAX_EXAMPLES)}")

    def _holds_words(self, column: str) -> bool:
        values, bad = self._parsed(column, note=False)
        return bool(bad.any() and values.isna().all())

    def _parsed(self, column: str, note: bool = True) -> tuple[pd.Series, pd.Series]:
        cells, counts = self.frame[column], column.startswith((*COUNTS, WEIGHT))
        values, bad = parse_numbers(cells, self.decimal, counts)
        if note and not pd.api.types.is_numeric_dtype(cells):
            plain = pd.to_numeric(cells.map(str, na_action="ignore"), errors="coerce")
            read = np.flatnonzero(values.notna() & ~bad & ~(np.isclose(plain, values, rtol=1e-12, atol=0)))
            if len(read):
                i = int(read[0])
                self._read.append(f"{column} {str(cells.iloc[i]).strip()!r} is {values.iloc[i]:.10g}")
        return values, bad

    def _values(self, column: str, bad: pd.Series) -> str:
        """Return the contents of bad cells, for messages."""
        cells = self.frame.loc[bad.to_numpy(bool), column].astype(object)  # Python numbers, whose repr is short
        return listed(list(dict.fromkeys("empty" if is_empty(c) else f"{c!r:.40}" for c in cells)), MAX_VALUES)

    def _drop(self, bad: pd.Series, text: str, reason: str) -> None:
        """Leave out bad rows with a note; refuse the table if more than half are bad."""
        if not bad.any():
            return
        self._refuse_majority(bad, len(bad), text)
        note_rows(self.notes, bad, self.where, self.frame["row"], lambda _: f"{text}; left out")
        self.left_out[reason] = self.left_out.get(reason, 0) + int(bad.sum())
        self.frame = self.frame[~bad].reset_index(drop=True)

    def _refuse_majority(self, bad: pd.Series, count: int, text: str) -> None:
        if 2 * bad.sum() > count:
            of = f" (in {int(bad.sum())} of {count} rows)" if count > 1 else ""
            raise RunLogError(f"{rows_in(self.where, self.frame['row'][bad])}: {text}{of}")
