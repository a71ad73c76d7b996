"""Targets that the recommended mixture makes worse than a baseline."""

import pandas as pd

from mixlaw.advice.constraints import RECOMMENDED

LOSERS = ["baseline", "target", "change", "percent"]
WORSE = 1e-6  # smallest relative rise of a loss that counts; optima are exact to about this


def losers(per_target: pd.DataFrame) -> pd.DataFrame:
    """Return the targets whose predicted loss is higher on the recommended mixture than on a baseline.

    Parameters
    ----------
    per_target : predicted loss of every target under every mixture, one row per mixture

    Returns
    -------
    DataFrame of baseline, target, change [the target's unit] and percent; per baseline, the largest percentage first
    """
    losses = per_target.set_index("mixture").astype(float)
    rows = [
        {"baseline": name, "target": target, "change": best - loss, "percent": 100 * (best / loss - 1)}
        for name, its in losses.drop(index=RECOMMENDED).iterrows()
        for (target, loss), best in zip(its.items(), losses.loc[RECOMMENDED], strict=True)
        if best > loss * (1 + WORSE)
    ]
    order = {name: i for i, name in enumerate(losses.index)}
    rows.sort(key=lambda row: (order[row["baseline"]], -row["percent"]))
    return pd.DataFrame(rows, columns=LOSERS)
