"""What figures of runs show: rows with measured losses, their residuals, and single runs with the law's curve."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from mixlaw.errors import RunLogError
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.tables.columns import LOSS
from mixlaw.tables.factor_levels import count_levels, levels
from mixlaw.tables.table import Table


def observed(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions of rows with a measured loss.

    Raises
    ------
    RunLogError
        If there are none.
    """
    known = predictions.dropna(subset="observed") if "observed" in predictions else predictions[:0]
    if known.empty:
        raise RunLogError(f"the table holds no loss of the fitted targets: {', '.join(predictions['target'].unique())}")
    return known


def relative_residuals(fit: FittedLaw, table: Table, against: str = "") -> tuple[pd.DataFrame, str]:
    """Return predictions with their relative residual [%] and what it is drawn against: that column, and its name.

    Parameters
    ----------
    against : n_tokens, n_params or loss; by default the first of them that varies
    """
    known, frame = observed(fit.predict(table)), table.frame.set_index("row")
    against = against or next((c for c in ("n_tokens", "n_params") if count_levels(frame, c) > 1), "loss")
    over = known["observed"] if against == "loss" else known["row"].map(frame[against])
    return known.assign(against=over, residual=100 * (known["predicted"] / known["observed"] - 1)), against


def known_losses(table: Table, target: str) -> pd.DataFrame:
    """Return the rows of a table that have a target's loss.

    Raises
    ------
    RunLogError
        If there are none.
    """
    if LOSS + target not in table.frame or table.frame[LOSS + target].isna().all():
        raise RunLogError(f"the table has no loss of '{target}'; it has {', '.join(table.targets)}")
    return table.frame.dropna(subset=LOSS + target)


def runs_over_tokens(table: Table, fit: FittedLaw, target: str) -> Iterator[tuple[float, pd.DataFrame, pd.DataFrame]]:
    """Yield four runs per model size, from the best to the worst: N, its rows, and the law's curve."""
    frame = known_losses(table, target)
    for _, own in frame.groupby(levels(frame["n_params"])):
        runs = [run.sort_values("n_tokens") for _, run in own.groupby("run_id")]
        runs.sort(key=lambda run: float(run[LOSS + target].iloc[-1]))
        grid = np.geomspace(own["n_tokens"].min(), own["n_tokens"].max(), 30)
        for place in sorted({round(i) for i in np.linspace(0, len(runs) - 1, 4)}):
            again = pd.concat([runs[place].tail(1)] * len(grid), ignore_index=True).assign(n_tokens=grid)
            x = fit.inputs(replace(table, frame=again), target)
            predicted = fit.law.loss(fit.target(target).theta[None], x)[0]
            yield float(own["n_params"].median()), runs[place], pd.DataFrame({"n_tokens": grid, "predicted": predicted})
