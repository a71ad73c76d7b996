"""Scores of laws as a table of text."""

import pandas as pd


def score_table(scored: pd.DataFrame, column: str = "mre") -> str:
    """Return a score per target and law as text, the mean below."""
    wide = scored.pivot_table(index="target", columns="law", values=column, dropna=False)
    wide = wide.loc[list(dict.fromkeys(scored["target"])), list(dict.fromkeys(scored["law"]))]
    wide.loc["mean" if "mean" not in wide.index else "mean of all"] = wide.mean()
    return str(wide.to_string(float_format=lambda v: f"{v:.2f}"))
