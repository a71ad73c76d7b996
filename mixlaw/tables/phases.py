"""Columns of runs whose mixture changes: weight_<domain>@p in phase p, and until@p, the share of n_tokens at its end.

weight_<domain> is the share of the whole run so far. Rows of runs with one mixture leave the columns of phases empty.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.errors import RunLogError, unknown_name
from mixlaw.tables.column_checks import ColumnChecks
from mixlaw.tables.columns import OF_PHASES, PHASE, UNTIL, WEIGHT, phase_of

SUM_WITHIN = 0.005  # of the weights of a phase to one
WHOLE_WITHIN = 0.02  # of weight_<domain> to the mean over the phases


def n_phases(frame: pd.DataFrame) -> int:
    """Return the largest number of phases that a table has columns for; 0 if it has none."""
    return max((phase_of(str(c)) for c in frame.columns if not str(c).startswith("requested_")), default=0)


def check_phases(checks: ColumnChecks, domains: list[str]) -> None:
    """Check the columns of phases, if there are any: numbers, sums, order, and the mixture of the whole run.

    Raises
    ------
    RunLogError
        Naming the missing or unknown column, or the first row that is wrong.
    """
    count = n_phases(checks.frame)
    if not count:
        return
    _require_columns(checks, domains, count)
    for column in [c for c in map(str, checks.frame.columns) if phase_of(c)]:
        checks.check_optional(column, lambda cells: cells.between(0, 1), "a share in [0, 1]")
    frame = checks.frame
    until = frame[[f"{UNTIL}{p}" for p in range(1, count + 1)]].to_numpy(float)
    weights = np.stack([frame[[f"{WEIGHT}{d}@{p}" for d in domains]].to_numpy(float) for p in range(1, count + 1)], 1)
    whole = frame[[WEIGHT + d for d in domains]].to_numpy(float)
    for i in range(len(frame)):
        if wrong := _wrong(until[i], weights[i], whole[i], domains):
            raise RunLogError(f"{checks.where} row {frame['row'].iloc[i]}: {wrong}")


def _require_columns(checks: ColumnChecks, domains: list[str], count: int) -> None:
    columns = set(map(str, checks.frame.columns))
    for column in sorted(c for c in columns if phase_of(c) and not c.startswith(UNTIL)):
        prefix = next(p for p in OF_PHASES if column.startswith(p))
        domain = PHASE.sub("", column.removeprefix(prefix))
        if domain not in domains:
            raise RunLogError(f"{checks.where}: {column}: {unknown_name('domain', domain, domains)}")
    for phase in range(1, count + 1):
        for column in (f"{UNTIL}{phase}", *(f"{WEIGHT}{domain}@{phase}" for domain in domains)):
            if column not in columns:
                raise RunLogError(
                    f"{checks.where} has phases and no column {column}: every phase needs {UNTIL}{phase} and a weight "
                    "of every domain"
                )


def _wrong(
    until: NDArray[np.float64], weights: NDArray[np.float64], whole: NDArray[np.float64], names: list[str]
) -> str:
    """Return what is wrong with the phases of a row, or ''.

    Parameters
    ----------
    until : (P,) shares; NaN for phases that have not begun
    weights : (P, k)
    whole : (k,)
    """
    begun = np.isfinite(until)
    n = int(begun.sum())
    if begun[n:].any() or (np.isfinite(weights).all(1) != begun).any() or (np.isfinite(weights).any(1) != begun).any():
        return "weights and until@ must be filled for the phases that have begun, and empty for all others"
    if not n:
        return ""
    if abs(until[n - 1] - 1) > SUM_WITHIN or (np.diff([0.0, *until[:n]]) <= 0).any():
        shown = ", ".join(f"{u:g}" for u in until[:n])
        return f"until@ is {shown}; it must increase and be 1 for the last phase that has begun"
    sums = weights[:n].sum(1)
    if (off := np.abs(sums - 1)).max() > SUM_WITHIN:
        return f"the weights of phase {off.argmax() + 1} sum to {sums[off.argmax()]:.6g}, not 1"
    mean = np.diff([0.0, *until[:n]]) @ weights[:n]
    if (off := np.abs(mean - whole)).max() > WHOLE_WITHIN:
        i = int(off.argmax())
        return (
            f"{WEIGHT}{names[i]} is {whole[i]:.4g}, and its phases give {mean[i]:.4g}; it must be the share of the "
            "whole run so far"
        )
    return ""
