"""A table between reading and checking."""

from dataclasses import dataclass, field

import pandas as pd


@dataclass
class RawTable:
    """One file, or several joined files, whose columns are being renamed.

    Attributes
    ----------
    where : what messages call it
    frame : the rows that are left, indexed by their row numbers in the file
    n_rows : rows of the file
    notes : what was done to it
    decimal : the decimal mark of cells that can be read in two ways, such as 1,234
    renamed : column names in the file -> present names
    left_out : reason -> number of rows that were left out for it
    layout : the name of the layout by which it was read, or ''
    """

    where: str
    frame: pd.DataFrame
    n_rows: int
    notes: list[str] = field(default_factory=list)
    decimal: str = "."
    renamed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    layout: str = ""

    def leave_out(self, count: int, reason: str) -> None:
        """Count rows that were left out."""
        if count:
            self.left_out[reason] = self.left_out.get(reason, 0) + count
