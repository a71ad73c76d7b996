"""A table on its way from files to standard columns."""

from dataclasses import dataclass, field

import pandas as pd


@dataclass
class Part:
    """One table on its way, a file or several joined: the rows that are left, indexed by their numbers in the file.

    Attributes
    ----------
    where : how messages name it
    frame : its rows
    n_rows : of the file
    notes : what was done to it
    decimal : the mark before decimals in cells that may be read in two ways
    renamed : its own names of columns -> those that they have now
    left_out : reason -> rows that went for it
    layout : by which it was read, if by any
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
