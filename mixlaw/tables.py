"""Tables of runs: run directories or anybody's CSV become one checked, wide DataFrame.

Columns: n_params, n_tokens, weight_<domain>..., loss_<target>..., and optionally run_id, loss_se_<target>. One row
per (run, evaluation point). Nothing is dropped silently: every repair is a note that names the row; what cannot be
repaired is an error.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.errors import RunLogError, unknown_name
from mixlaw.laws import Array
from mixlaw.runlog import load_runs

WEIGHT, LOSS, LOSS_SE = "weight_", "loss_", "loss_se_"
SUM_REPAIRED = 0.005  # weights that miss 1 by at most this were rounded; they are scaled, with a note
MAX_NOTES = 5  # of one kind; the rest is counted


@dataclass
class Table:
    """Checked runs.

    Attributes
    ----------
    frame : one row per (run, evaluation point): run_id, n_params, n_tokens, weight_*, loss_*, loss_se_* where known
    domains, targets : the names behind weight_* and loss_*
    notes : what was repaired or left out, each with its row
    sizes : tokens available per domain, where run directories state them
    """

    frame: pd.DataFrame
    domains: list[str]
    targets: list[str]
    notes: list[str] = field(default_factory=list)
    sizes: dict[str, float] = field(default_factory=dict)

    @property
    def mixtures(self) -> Array:
        """(n, k) weights."""
        return self.frame[[WEIGHT + d for d in self.domains]].to_numpy(float)

    def rows(self, keep: NDArray[np.bool_] | pd.Series) -> "Table":
        """Return the table with only the rows where `keep` is true."""
        frame = self.frame[np.asarray(keep, dtype=bool)].reset_index(drop=True)
        return Table(frame, self.domains, self.targets, self.notes, self.sizes)

    def runs(self) -> Array:
        """(n,) the number of each row's run: rows of one run share their errors."""
        return pd.factorize(self.frame["run_id"])[0].astype(float)


def read_table(
    paths: Sequence[str | Path], columns: Mapping[str, str] | None = None, n_params: str = "n_params"
) -> Table:
    """Read tables of runs from files or run directories and put them below each other.

    Parameters
    ----------
    paths : CSV or parquet files, run directories, or folders of run directories
    columns : names of one's own -> the standard ones, for files
    n_params : which parameter count of run directories is N: n_params (total) or n_params_non_embedding

    Raises
    ------
    RunLogError
        Naming file and row: a missing column, a weight outside [0, 1], weights that do not sum to one, a value that is
        not a number or not positive.
    """
    if not paths:
        raise RunLogError("no table given: name CSV files or folders of runs")
    folders = [Path(p) for p in paths if Path(p).is_dir()]
    tables = [_read_file(Path(p), columns or {}) for p in paths if not Path(p).is_dir()]
    if folders:
        tables.append(_from_runs(folders, n_params))
    return _stack(tables)


def _stack(tables: list[Table]) -> Table:
    first = tables[0]
    for other in tables[1:]:
        if set(other.domains) != set(first.domains):
            raise RunLogError(f"the tables train on different domains: {first.domains} and {other.domains}")
    frame = pd.concat([t.frame for t in tables], ignore_index=True)
    targets = list(dict.fromkeys(name for t in tables for name in t.targets))
    sizes = {k: v for t in tables for k, v in t.sizes.items()}
    return Table(frame, first.domains, targets, [n for t in tables for n in t.notes], sizes)


def _from_runs(folders: list[Path], n_params: str) -> Table:
    """Read run directories; evaluations of averaged or cooled weights are never mixed with plain ones."""
    runs = load_runs(*folders)
    notes = [f"left out: {sentence}" for sentence in runs.excluded.values()]
    long = runs.table
    plain = long["lr_state"] == "constant"
    if not plain.any():
        raise RunLogError(f"the runs in {folders[0]} hold only evaluations of cooled or averaged weights")
    if not plain.all():
        notes.append(f"left out: {int((~plain).sum())} evaluations of cooled or averaged weights")
    long = long[plain]
    domains = names_after("requested_", long)
    index = [
        "run_id",
        "study",
        "seed",
        n_params,
        "step",
        "n_tokens",
        *[f"{p}_{d}" for d in domains for p in ("weight", "requested", "epochs")],
    ]
    missing = [c for c in domains if long[f"weight_{c}"].isna().any()]
    if missing:
        raise RunLogError(f"runs in {folders[0]} train on different domains: '{missing[0]}' is not in all of them")
    wide = long.pivot(index=index, columns="domain", values=["loss", "loss_se"])
    wide.columns = pd.Index(["_".join(pair) for pair in wide.columns.to_flat_index()])
    frame = wide.reset_index().rename(columns={n_params: "n_params"})
    frame = frame.sort_values(["run_id", "n_tokens"], ignore_index=True)
    targets = list(dict.fromkeys(long["domain"]))
    return Table(frame, domains, targets, notes, runs.sizes)


def _read_file(path: Path, columns: Mapping[str, str]) -> Table:
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            frame = _read_text(path, "\t" if path.suffix == ".tsv" else ",")
    except FileNotFoundError:
        raise RunLogError(f"{path} does not exist") from None
    except (OSError, ValueError, LookupError, TypeError, NotImplementedError, ImportError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunLogError(f"{path} cannot be read as a table: {reason[:160]}") from None
    return check_frame(frame.rename(columns=dict(columns)), str(path))


def _read_text(path: Path, separator: str) -> pd.DataFrame:
    """Read a CSV; pandas alone would rename a repeated column, and take the first one of too wide rows as an index."""
    header = pd.read_csv(path, sep=separator, header=None, nrows=1, dtype=str).iloc[0].dropna()
    if header.duplicated().any():
        raise ValueError(f"column '{header[header.duplicated()].iloc[0]}' appears twice")
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(path, sep=separator, dtype={"run_id": str}, index_col=False)
        except pd.errors.ParserWarning:
            raise ValueError("rows have more cells than the header has columns") from None


def check_frame(frame: pd.DataFrame, where: str) -> Table:
    """Check a wide table and name its domains and targets.

    Raises
    ------
    RunLogError
        Naming the column or the row (counted from 1, without the header) and what to do.
    """
    frame = frame.reset_index(drop=True)
    repeated = [str(c) for c in frame.columns[frame.columns.duplicated()]]
    if repeated:
        raise RunLogError(f"{where}: column '{repeated[0]}' appears twice")
    frame.columns = pd.Index([str(c) for c in frame.columns])
    domains = names_after(WEIGHT, frame)
    targets = [t for t in names_after(LOSS, frame) if not (LOSS + t).startswith(LOSS_SE)]
    _require_columns(frame, targets, where)
    notes: list[str] = []
    for column in ("n_params", "n_tokens", *[WEIGHT + d for d in domains], *[LOSS + t for t in targets]):
        frame[column] = _numbers(frame, column, where)
    for column in ("n_params", "n_tokens"):
        _refuse_rows(frame, ~(frame[column] > 0) | ~np.isfinite(frame[column]), column, "must be above 0", where)
    if domains:
        frame = _check_mixtures(frame, domains, where, notes)
    _check_losses(frame, targets, where, notes)
    if "run_id" not in frame:
        keys = ["n_params", *[WEIGHT + d for d in domains]]
        frame["run_id"] = [f"{where} group {i}" for i in frame.groupby(keys, sort=False).ngroup()]
    _refuse_rows(frame, frame["run_id"].isna(), "run_id", "names no run", where)
    frame["run_id"] = frame["run_id"].astype(str)
    return Table(frame, domains, targets, notes)


def names_after(prefix: str, frame: pd.DataFrame) -> list[str]:
    """Return what follows a prefix in the names of the columns that have it."""
    return [str(c).removeprefix(prefix) for c in frame.columns if str(c).startswith(prefix)]


def _require_columns(frame: pd.DataFrame, targets: list[str], where: str) -> None:
    if frame.empty:
        raise RunLogError(f"{where} has no rows")
    for column in ("n_params", "n_tokens"):
        if column not in frame:
            raise RunLogError(
                f"{where}: {unknown_name('column', column, frame.columns)}; name yours by --columns {column}=YOURS"
            )
    if not targets:
        raise RunLogError(f"{where} has no column loss_<target>; its columns: {', '.join(frame.columns[:20])}")


def _numbers(frame: pd.DataFrame, column: str, where: str) -> pd.Series:
    """Return a column as floats; text that is no number is an error, an empty cell is NaN."""
    try:
        numbers = pd.to_numeric(frame[column], errors="coerce").astype(float)
    except (OverflowError, TypeError, ValueError) as error:
        raise RunLogError(f"{where}: column {column} holds more than numbers: {str(error)[:80]}") from None
    bad = numbers.isna() & frame[column].notna()
    _refuse_rows(frame, bad, column, "is not a number", where)
    return numbers


def _refuse_rows(frame: pd.DataFrame, bad: pd.Series, column: str, why: str, where: str) -> None:
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        more = f" (and {int(bad.sum()) - 1} more rows)" if bad.sum() > 1 else ""
        value = frame[[column]].astype(object).iloc[row, 0]  # as Python's own number, for its repr
        raise RunLogError(f"{where} row {row + 1}: {column} is {value!r:.40}, which {why}{more}")


def _check_mixtures(frame: pd.DataFrame, domains: list[str], where: str, notes: list[str]) -> pd.DataFrame:
    names = [WEIGHT + d for d in domains]
    for name in names:
        _refuse_rows(frame, ~frame[name].between(-1e-9, 1 + 1e-9), name, "must lie in [0, 1]", where)
    total = frame[names].sum(axis=1)
    off = (total - 1).abs()
    if (off > SUM_REPAIRED).any():
        row = int(np.flatnonzero(off > SUM_REPAIRED)[0])
        raise RunLogError(
            f"{where} row {row + 1}: the weights sum to {total.iloc[row]:.6g}, not 1 "
            f"({int((off > SUM_REPAIRED).sum())} such rows). "
            "A domain is missing, or the weights are in another unit; correct the table"
        )
    _note_rows(notes, off > 1e-6, where, lambda i: f"the weights sum to {total.iloc[i]:.4f}; they are scaled to 1")
    frame[names] = frame[names].clip(lower=0).div(total, axis=0)
    return frame


def _check_losses(frame: pd.DataFrame, targets: list[str], where: str, notes: list[str]) -> None:
    for target in targets:
        column = frame[LOSS + target]
        _refuse_rows(frame, np.isinf(column) | (column <= 0), LOSS + target, "is not a loss in nats", where)
        _note_rows(notes, column.isna(), where, lambda i, t=target: f"loss_{t} is empty; this cell is left out")


def _note_rows(notes: list[str], bad: pd.Series, where: str, text: Callable[..., str]) -> None:
    rows = np.flatnonzero(bad)
    notes += [f"{where} row {i + 1}: {text(i)}" for i in rows[:MAX_NOTES]]
    if len(rows) > MAX_NOTES:
        notes.append(f"{where}: {len(rows) - MAX_NOTES} more rows: {text(rows[MAX_NOTES])}")


def pick_targets(table: Table, wanted: Iterable[str]) -> list[str]:
    """Return the wanted targets, or all; an unknown one is an error with the near match.

    Raises
    ------
    RunLogError
    """
    names = list(wanted)
    for name in names:
        if name not in table.targets:
            raise RunLogError(unknown_name("target", name, table.targets))
    return names or table.targets
