"""Targets that the recommended mixture makes worse than a baseline."""

import pandas as pd

from mixlaw.advice.constraints import RECOMMENDED
from mixlaw.advice.gains import OBJECTIVE

LOSERS = ["baseline", "target", "change", "low", "high", "percent"]
WORSE = 1e-6  # smallest relative rise of a loss that counts; optima are exact to about this


def losers(per_target: pd.DataFrame, gains: pd.DataFrame) -> pd.DataFrame:
    """Return the targets whose predicted loss is higher on the recommended mixture than on a baseline.

    Parameters
    ----------
    per_target : predicted loss of every target under every mixture, one row per mixture
    gains : of the recommended mixture over every baseline by target, as of `mixlaw.advice.gains.gains`

    Returns
    -------
    DataFrame of baseline, target, the change of the loss with its interval low to high, as two real runs would show it
    [the target's unit], and percent; per baseline, the largest percentage first
    """
    losses, rows = per_target.set_index("mixture"), []
    for gain in gains[gains["target"] != OBJECTIVE].to_dict("records"):
        baseline, target = gain["mixture"], gain["target"]
        ratio = float(losses[target][RECOMMENDED] / losses[target][baseline])
        if ratio > 1 + WORSE:
            change = {"change": -gain["gain"], "low": -gain["high"], "high": -gain["low"], "percent": 100 * (ratio - 1)}
            rows.append({"baseline": baseline, "target": target} | change)
    order = list(losses.index)
    rows.sort(key=lambda row: (order.index(row["baseline"]), -row["percent"]))
    return pd.DataFrame(rows, columns=LOSERS)
