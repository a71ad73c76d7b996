"""Units of weights: shares, per cent, tokens per domain and relative weights become shares that sum to one."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixlaw.errors import RunLogError
from mixlaw.tables.notes import note_rows, rows_in

SUM_REPAIRED = 0.03  # relative error of a sum that is taken for rounding; the weights are rescaled, with a note
EXACT = 1e-6
COUNTS = {1.0: "tokens", 1e3: "thousands of tokens", 1e6: "millions of tokens", 1e9: "billions of tokens"}
MOST = 0.9  # share of rows whose weights must sum to n_tokens, for weights in tokens
WITHOUT = 0.5  # of 100 % or n_tokens: weights that always sum to less than the whole but more than this lack a domain


@dataclass(frozen=True)
class Mixtures:
    """Weights as shares of a mixture.

    Attributes
    ----------
    shares : (n, k) that sum to one; NaN in bad rows
    bad : (n,) mask of rows whose weights are not a mixture
    why : (n,) the reason in bad rows, '' in others
    notes : how weights were converted
    """

    shares: pd.DataFrame
    bad: pd.Series
    why: pd.Series
    notes: list[str]


def mixtures_of(
    weights: pd.DataFrame, no_number: pd.DataFrame, n_tokens: pd.Series, rows: pd.Series, where: str, relative: bool
) -> Mixtures:
    """Return weights as shares of a mixture.

    Parameters
    ----------
    weights : (n, k) numbers, NaN where cells are empty or not numbers
    no_number : (n, k) mask of cells that are not numbers
    n_tokens : (n,) D, NaN where unknown
    rows : (n,) row numbers
    where : what messages call the table
    relative : whether weights may have any sum, because only their proportions count

    Raises
    ------
    RunLogError
        If the weights of most rows sum to no known whole, so that a domain may be missing.
    """
    notes: list[str] = []
    if not relative and _are_shares(weights):  # most tables
        total = weights.sum(axis=1)
        nothing = pd.Series("", weights.index, dtype=object)
        _note_units(notes, nothing.replace("", "share"), total, rows, where)
        return Mixtures(weights.clip(lower=0).div(total, axis=0), nothing != "", nothing, notes)
    empty = weights.isna() & ~no_number
    filled = weights.fillna(0.0)
    total = filled.sum(axis=1)
    why = _odd_cells(weights, no_number, empty, total)
    unit = _units(filled, total, n_tokens).where(why == "", "")
    known = why == ""
    other = known & (unit == "")
    if relative or (2 * other.sum() > known.sum() and _are_relative(filled[known], total[known], n_tokens[known])):
        unit = unit.where(~known, "relative")
    elif 2 * other.sum() > known.sum():
        raise RunLogError(_no_unit(other, total, rows, where))
    off = known & (unit == "")
    main = unit[known & ~off].mode()
    why = why.where(~off, _sum_is_off(weights, empty, total, off, str(main.iloc[0]) if len(main) else "share"))
    bad = why != ""
    _note_units(notes, unit, total, rows, where)
    gaps = empty.any(axis=1) & ~bad
    note_rows(notes, gaps, where, rows, lambda _: "empty weights count as 0, because the others sum to the whole")
    shares = filled.clip(lower=0).div(total.where(~bad), axis=0)
    return Mixtures(shares, bad, why, notes)


def _are_shares(weights: pd.DataFrame) -> bool:
    cells = weights.to_numpy(float)
    return bool((cells >= -1e-9).all() and (np.abs(cells.sum(axis=1) - 1) <= SUM_REPAIRED + 1e-9).all())


def _odd_cells(weights: pd.DataFrame, no_number: pd.DataFrame, empty: pd.DataFrame, total: pd.Series) -> pd.Series:
    """Return the reason (n,) why a cell of the row is wrong, or ''."""
    why = pd.Series("", weights.index, dtype=object)
    for column in weights:
        cells, word = weights[column], no_number[column]
        outside = (~np.isfinite(cells) & cells.notna()) | (cells < -1e-9)
        why = why.where(~word | (why != ""), f"{column} is not a number")
        for i in map(int, np.flatnonzero(outside & (why == ""))):
            why.iloc[i] = f"{column} is {cells.iloc[i]:g}, which must lie in [0, 1]"
    nothing = empty.all(axis=1)
    why = why.where(~(nothing & (why == "")), "all weights are empty")
    return why.where(~((total == 0) & (why == "")), "all weights are 0")


def _units(filled: pd.DataFrame, total: pd.Series, n_tokens: pd.Series) -> pd.Series:
    """Return the unit (n,) of each row by its sum, or ''."""
    unit = pd.Series("", filled.index, dtype=object)
    for scale, name in COUNTS.items():  # first, because some sums may be 1 or 100
        counted = _near(total * scale, n_tokens)
        if counted.mean() > MOST and total[counted].nunique() > 1:
            unit[counted] = name
            return unit
    unit[_near(total, 1.0) & (filled.max(axis=1) <= 1 + SUM_REPAIRED)] = "share"
    unit[(unit == "") & _near(total, 100.0)] = "per cent"
    for scale, name in COUNTS.items():
        unit[(unit == "") & (total > 1 + SUM_REPAIRED) & _near(total * scale, n_tokens)] = name
    return unit


def _near(total: pd.Series, whole: pd.Series | float) -> pd.Series:
    return (total - whole).abs() <= SUM_REPAIRED * whole + 1e-9


def _are_relative(filled: pd.DataFrame, total: pd.Series, n_tokens: pd.Series) -> bool:
    """Return whether weights are relative: most rows have one above 1, and no domain seems to be missing."""
    if 2 * (filled.max(axis=1) > 1 + SUM_REPAIRED).sum() <= len(filled):
        return False
    wholes = [0 * total + 100.0, *(n_tokens / scale for scale in COUNTS)]
    return not any((total <= whole).all() and (total > WITHOUT * whole).mean() > 0.5 for whole in wholes)


def _no_unit(other: pd.Series, total: pd.Series, rows: pd.Series, where: str) -> str:
    first, count = int(np.flatnonzero(other)[0]), int(other.sum())
    low, high = total[other].min(), total[other].max()
    whole = "1" if high <= 2 else "1, 100 (per cent) or n_tokens"
    such = "1 such row" if count == 1 else f"{count} such rows, sums of {low:.4g} to {high:.4g}"
    return (
        f"{where} row {rows.iloc[first]}: the weights sum to {total.iloc[first]:.6g}, not {whole} ({such}). A domain "
        "is missing: correct the table. If only the proportions of weights count, add --relative-weights"
    )


def _sum_is_off(weights: pd.DataFrame, empty: pd.DataFrame, total: pd.Series, off: pd.Series, unit: str) -> pd.Series:
    """Return the reason (n,) of rows with a wrong sum; `unit` is that of the other rows."""
    words = pd.Series("", weights.index, dtype=object)
    whole = {"share": "1", "per cent": "100"}.get(unit, "n_tokens")
    for i in map(int, np.flatnonzero(off)):
        gaps = weights.columns[empty.iloc[i].to_numpy(bool)]
        above = weights.columns[(weights.iloc[i] > 1 + SUM_REPAIRED).to_numpy(bool)]
        if len(above) and unit == "share":
            words.iloc[i] = f"{above[0]} is {weights[above[0]].iloc[i]:g}, which must lie in [0, 1]"
        elif len(gaps):
            words.iloc[i] = f"{gaps[0]} is empty, and the other weights sum to {total.iloc[i]:.6g}, not {whole}"
        else:
            words.iloc[i] = f"the weights sum to {total.iloc[i]:.6g}, not {whole}"
    return words


def _note_units(notes: list[str], unit: pd.Series, total: pd.Series, rows: pd.Series, where: str) -> None:
    """Add notes about rows that were rescaled, with their unit."""
    rounded = (unit == "share") & ((total - 1).abs() > EXACT)
    if rounded.any():
        low, high = total[rounded].min(), total[rounded].max()
        sums = f"{low:.4f}" if rounded.sum() == 1 else f"{low:.4f} to {high:.4f}"
        notes.append(f"{rows_in(where, rows[rounded])}: the weights sum to {sums}; they are scaled to 1")
    meaning = {"per cent": "the weights are per cent", "relative": "the weights are relative"}
    for name in ("per cent", *COUNTS.values(), "relative"):
        of_unit = unit == name
        if not of_unit.any():
            continue
        low, high = total[of_unit].min(), total[of_unit].max()
        said = meaning.get(name, f"the weights are {name} of each domain")
        place = where if of_unit.all() else rows_in(where, rows[of_unit])
        sums = " to ".join(dict.fromkeys(f"{end:.4g}" for end in (low, high)))
        notes.append(f"{place}: {said} (they sum to {sums}); they are scaled to 1")
