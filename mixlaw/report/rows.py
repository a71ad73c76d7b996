"""What figures of runs show: rows with measured losses, their residuals, and single runs with the law's curve."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from mixlaw.errors import RunLogError
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.laws.jacobian import Array
from mixlaw.tables.columns import LOSS, UNTIL, WEIGHT
from mixlaw.tables.factor_levels import count_levels, levels
from mixlaw.tables.phase_mixtures import phases_of
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
    """Yield four runs per model size, from the best to the worst: N, its rows, and the law's curve.

    The curve has the columns n_tokens, predicted and changes: whether the run changes its mixture there. At every count
    of tokens the law sees the phases up to it.
    """
    frame = known_losses(table, target)
    for _, own in frame.groupby(levels(frame["n_params"])):
        runs = [run.sort_values("n_tokens") for _, run in own.groupby("run_id")]
        runs.sort(key=lambda run: float(run[LOSS + target].iloc[-1]))
        grid = np.geomspace(own["n_tokens"].min(), own["n_tokens"].max(), 30)
        for place in sorted({round(i) for i in np.linspace(0, len(runs) - 1, 4)}):
            changes = changes_of(replace(table, frame=runs[place].tail(1)))
            tokens = np.union1d(grid, changes)
            x = fit.inputs(up_to(replace(table, frame=runs[place].tail(1)), tokens), target)
            predicted = fit.law.loss(fit.target(target).theta[None], x)[0]
            curve = {"n_tokens": tokens, "predicted": predicted, "changes": np.isin(tokens, changes)}
            yield float(own["n_params"].median()), runs[place], pd.DataFrame(curve)


def changes_of(run: Table) -> Array:
    """Return (m,) the tokens at which a run, of which the table has one row, changes its mixture."""
    phases = phases_of(run)
    if phases is None or not phases.changed[0]:
        return np.zeros(0)
    ends = phases.until[0]
    changes: Array = ends[ends < 1] * float(run.frame["n_tokens"].iloc[0])
    return changes


def up_to(run: Table, tokens: Array) -> Table:
    """Return a run, of which the table has one row, after other numbers of tokens (n,): a row for each.

    Its mixture and its phases are those up to there; the last phase goes on.
    """
    phases, last = phases_of(run), float(run.frame["n_tokens"].iloc[0])
    again = pd.concat([run.frame] * len(tokens), ignore_index=True).assign(n_tokens=tokens)
    if phases is None:
        return replace(run, frame=again)
    ends = np.where(phases.until[0] < 1, phases.until[0] * last, np.inf)
    until = np.minimum(ends, tokens[:, None]) / tokens[:, None]
    shares = np.diff(until, axis=1, prepend=0.0)
    columns = {f"{WEIGHT}{d}": shares @ phases.weights[0, :, i] for i, d in enumerate(run.domains)}
    for p in range(len(ends)):
        begun = shares[:, p] > 0
        columns[f"{UNTIL}{p + 1}"] = np.where(begun, until[:, p], np.nan)
        columns |= {
            f"{WEIGHT}{d}@{p + 1}": np.where(begun, phases.weights[0, p, i], np.nan) for i, d in enumerate(run.domains)
        }
    return replace(run, frame=again.assign(**columns))
