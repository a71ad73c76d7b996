"""Which rows of a table are held out to score a law: a larger scale, unseen mixtures, or more tokens."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.errors import FitError, unknown_name
from mixlaw.laws.jacobian import Array
from mixlaw.tables.factor_levels import count_levels, levels
from mixlaw.tables.phase_mixtures import phases_of
from mixlaw.tables.table import Table

KINDS = {
    "scale": "the largest model size, fitted on the smaller ones",
    "mixture": "a fifth of the mixtures, fitted on the others",
    "tokens": "the last 40 % of each run's tokens, fitted on the first 60 %",
}

FOLDS = 5


def held_out(table: Table, kind: str, fold: int = FOLDS - 1) -> NDArray[np.bool_]:
    """Return (n,) which rows are held out.

    Parameters
    ----------
    fold : which fifth of the mixtures; the last mixture if there are fewer than five

    Raises
    ------
    FitError
        If the kind is unknown or the table has nothing to hold out.
    """
    if kind not in KINDS:
        raise FitError(f"--holdout: {unknown_name('kind', kind, KINDS)}")
    frame = table.frame
    if kind == "scale":
        size = levels(frame["n_params"])
        held = pd.Series(size == size.max())
    elif kind == "tokens":
        held = frame["n_tokens"] > 0.6 * frame.groupby("run_id")["n_tokens"].transform("max")
    else:
        number = pd.factorize(pd.Series(map(tuple, _settings(table).round(4))))[0]
        held = pd.Series(number % FOLDS == fold if number.max() >= fold else number == number.max())
    if held.all() or not held.any():
        raise FitError(f"--holdout {kind}: the table has nothing to hold out")
    return held.to_numpy(bool)


def _settings(table: Table) -> Array:
    """Return the mixtures (n, k), and beside them the logarithms of the available tokens where runs differ in them."""
    pools = [table.frame[c] for c in map(str, table.frame.columns) if c.startswith("available_")]
    vary = [np.log(pool.to_numpy(float)) for pool in pools if pool.nunique() > 1]
    return np.column_stack([_mixtures(table), *vary])


def _mixtures(table: Table) -> Array:
    """Return the mixtures (n, k); of runs that change them (n, 2k), those of both halves of the whole run."""
    phases = phases_of(table)
    if phases is None:
        return table.mixtures
    ends = table.frame.groupby("run_id")["n_tokens"].transform("idxmax").to_numpy(np.int64)
    return phases.halves()[ends]


def default_kind(table: Table) -> str:
    """Return the split that tests extrapolation: by size if the table has three sizes, else by mixture."""
    return "scale" if count_levels(table.frame, "n_params") >= 3 else "mixture"
