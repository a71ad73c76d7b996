"""Scores of laws as a table of text."""

import pandas as pd

from mixlaw.text import text_table


def score_table(scored: pd.DataFrame, column: str = "mre") -> str:
    """Return a text table with a row per target and a column per law, and the means in the last row."""
    wide = scored.pivot_table(index="target", columns="law", values=column, dropna=False)
    wide = wide.loc[list(dict.fromkeys(scored["target"])), list(dict.fromkeys(scored["law"]))]
    wide.loc["mean" if "mean" not in wide.index else "mean of all"] = wide.mean()
    return text_table(wide.reset_index(), decimals=2)
