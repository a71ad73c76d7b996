"""Tables of runs: run directories or anybody's files become one checked, wide DataFrame.

Columns: row (its number in the input), n_params, n_tokens, weight_<domain>..., loss_<target>..., and optionally run_id,
loss_se_<target>, seed, sparsity, available_<domain> [tokens], before_<target> [nats]. One row per (run, evaluation
point). Nothing is dropped silently: every repair is a note that names the row; what cannot be repaired is an error.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixlaw.errors import ConfigError, RunLogError, unknown_name
from mixlaw.layouts import LOSS, LOSS_SE, WEIGHT, listed, load_files, note_rows, ranges, suggestion, unknown_column
from mixlaw.runs import load_runs

__all__ = ["LOSS", "LOSS_SE", "WEIGHT", "Table", "check_frame", "names_after", "pick_targets", "read_table"]
Array = NDArray[np.float64]
SUM_REPAIRED = 0.03  # weights that miss 1 by at most this were rounded; they are scaled, with a note
RISING = 0.8  # a column that rises in more of the steps within runs is no loss
MIN_STEPS = 10  # fewer steps say nothing about where a column goes
HIGHER = re.compile(
    r"(^|[^a-z0-9])(acc|accuracy|f1|bleu|rouge\w?|meteor|chrf|score|em|exact_match|auc|auroc|recall|precision|reward|"
    r"win_?rate|pass[@_-]?(at[_-]?)?[0-9k]+|iou|miou|psnr|ssim|mcc|elo|top[_-]?[15])([^a-z0-9]|$)"
)
LOWER = re.compile(r"(^|[^a-z0-9])(loss|nll|ppl|perplexity|bpb|bpc|ce|error|err|brier)([^a-z0-9]|$)")


@dataclass
class Table:
    """Checked runs.

    Attributes
    ----------
    frame : one row per (run, evaluation point): row, run_id, n_params, n_tokens, weight_*, loss_*, loss_se_* where
        known, and whatever other columns the input has
    domains, targets : the names behind weight_* and loss_*
    notes : what was repaired or left out, each with its row
    sizes : tokens available per domain, where the input states them
    sources : every input and how many rows it has; `row` counts through them
    """

    frame: pd.DataFrame
    domains: list[str]
    targets: list[str]
    notes: list[str] = field(default_factory=list)
    sizes: dict[str, float] = field(default_factory=dict)
    sources: list[tuple[str, int]] = field(default_factory=list)

    @property
    def mixtures(self) -> Array:
        """(n, k) weights."""
        return self.frame[[WEIGHT + d for d in self.domains]].to_numpy(float)

    def rows(self, keep: NDArray[np.bool_] | pd.Series) -> "Table":
        """Return the table with only the rows where `keep` is true."""
        return replace(self, frame=self.frame[np.asarray(keep, dtype=bool)].reset_index(drop=True))

    def place(self, rows: Iterable[int]) -> str:
        """Name rows by their inputs and their numbers there."""
        places, above, wanted = [], 0, set(rows)
        for where, count in self.sources:
            own = [row - above for row in wanted if above < row <= above + count]
            places += [f"{where} row{'s' if len(own) > 1 else ''} {ranges(own)}"] if own else []
            above += count
        return " and ".join(places) or f"row {ranges(list(wanted))}"

    def runs(self) -> Array:
        """(n,) the number of each row's run: rows of one run share their errors."""
        return pd.factorize(self.frame["run_id"])[0].astype(float)


def read_table(
    paths: Sequence[str | Path],
    columns: Mapping[str, str] | None = None,
    n_params: str = "n_params",
    layout: str | None = None,
    join: str | None = None,
    constants: Mapping[str, float] | None = None,
    higher_is_better: Iterable[str] = (),
    need_losses: bool = True,
) -> Table:
    """Read tables of runs from files or run directories and put them below each other, or beside each other by an id.

    Parameters
    ----------
    paths : CSV, TSV or parquet files, run directories, or folders of run directories
    columns : names of one's own -> the standard ones, for files; with one * on each side, patterns:
        {"train_*": "weight_*"}. Names that patterns find become lower case, other than a-z, 0-9, _ and - become _
    n_params : which parameter count of run directories is N: n_params (total) or n_params_non_embedding
    layout : a name in `mixlaw.layouts.LAYOUTS`: how these files are laid out
    join : a column that all files have; they are one table, put together by its values, whatever their order
    constants : columns that the files lack, e.g. {"n_tokens": 1e9}
    higher_is_better : targets that are shares or percentages of right answers; they become error rates
    need_losses : whether a table without losses is an error; predicting needs none

    Raises
    ------
    RunLogError
        Naming file and row: a missing column, a weight outside [0, 1], weights that do not sum to one, a value that is
        not a number or not positive, a target where higher seems better.
    ConfigError
        If there is no such layout, or a pattern is none.
    """
    if not paths:
        raise RunLogError("no table given: name CSV files or folders of runs")
    folders = [Path(p) for p in paths if Path(p).is_dir()]
    files = [Path(p) for p in paths if not Path(p).is_dir()]
    if folders and constants:
        raise ConfigError(f"--set {next(iter(constants))}: run directories such as {folders[0]} state it themselves")
    declared = list(higher_is_better)
    tables = []
    for part in load_files(files, columns or {}, layout, join, constants) if files else []:
        frame = part.frame
        if n_params != "n_params" and n_params in frame:
            frame = frame.drop(columns="n_params", errors="ignore").rename(columns={n_params: "n_params"})
        table = check_frame(frame, part.where, frame.index.to_numpy(), need_losses, declared)
        tables.append(replace(table, notes=part.notes + table.notes, sources=[(part.where, part.n_rows)]))
    if folders:
        tables.append(_from_runs(folders, n_params))
    return _stack(tables)


def _stack(tables: list[Table]) -> Table:
    """Put tables below each other; their rows are counted through."""
    first, frames, above = tables[0], [], 0
    for table in tables:
        if set(table.domains) != set(first.domains):
            raise RunLogError(f"the tables train on different domains: {first.domains} and {table.domains}")
        frames.append(table.frame.assign(row=table.frame["row"] + above))
        above += sum(n for _, n in table.sources)
    targets = list(dict.fromkeys(name for t in tables for name in t.targets))
    sizes = {k: v for t in tables for k, v in t.sizes.items()}
    notes, sources = [n for t in tables for n in t.notes], [s for t in tables for s in t.sources]
    return Table(pd.concat(frames, ignore_index=True), first.domains, targets, notes, sizes, sources)


def _from_runs(folders: list[Path], n_params: str) -> Table:
    """Read run directories; evaluations of plain, averaged and cooled weights are never mixed."""
    runs = load_runs(*folders)
    notes = [f"left out: {sentence}" for sentence in runs.excluded.values()]
    long = runs.table
    states = [state for state in ("constant", "averaged", "cooled") if (long["lr_state"] == state).any()]
    if not states:
        raise RunLogError(f"the runs in {folders[0]} hold no evaluations of a kind that is known (lr_state)")
    of_kind = long["lr_state"] == states[0]
    if not of_kind.all():
        others = ", ".join(f"'{state}'" for state in sorted(set(long["lr_state"][~of_kind])))
        notes.append(
            f"left out: {int((~of_kind).sum())} evaluations with lr_state {others}: those with '{states[0]}' are kept, "
            "and the kinds are never mixed. Put runs of another kind into a folder of their own"
        )
    long = long[of_kind]
    domains = names_after("requested_", long)
    of_domains = [f"{p}_{d}" for d in domains for p in ("weight", "requested", "epochs")]
    index = ["run_id", "study", "seed", n_params, "step", "n_tokens", *of_domains]
    missing = [c for c in domains if long[f"weight_{c}"].isna().any()]
    if missing:
        raise RunLogError(f"runs in {folders[0]} train on different domains: '{missing[0]}' is not in all of them")
    wide = long.pivot(index=index, columns="domain", values=["loss", "loss_se"])
    wide.columns = pd.Index(["_".join(pair) for pair in wide.columns.to_flat_index()])
    frame = wide.reset_index().rename(columns={n_params: "n_params"})
    frame = frame.sort_values(["run_id", "n_tokens"], ignore_index=True)
    frame.insert(0, "row", np.arange(1, len(frame) + 1))
    frame = frame.assign(**{f"available_{d}": runs.sizes[d] for d in domains})
    sources = [(f"runs in {', '.join(map(str, folders))}", len(frame))]
    return Table(frame, domains, list(dict.fromkeys(long["domain"])), notes, runs.sizes, sources)


def check_frame(
    frame: pd.DataFrame,
    where: str,
    rows: ArrayLike | None = None,
    need_losses: bool = True,
    higher_is_better: Iterable[str] = (),
) -> Table:
    """Check a wide table and name its domains and targets.

    Parameters
    ----------
    where : how messages name the table
    rows : (n,) the numbers of the rows in the input; 1 to n by default
    need_losses : whether a table without losses is an error
    higher_is_better : targets that become error rates

    Raises
    ------
    RunLogError
        Naming the column or the row (counted from 1, without the header) and what to do.
    """
    frame = frame.reset_index(drop=True)
    frame.columns = pd.Index([str(c) for c in frame.columns])
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise RunLogError(f"{where}: column '{repeated[0]}' appears twice")
    numbers = np.arange(1, len(frame) + 1) if rows is None else np.asarray(rows, int)
    frame = frame.drop(columns="row", errors="ignore")
    frame.insert(0, "row", numbers)
    domains = names_after(WEIGHT, frame)
    targets = [t for t in names_after(LOSS, frame) if not (LOSS + t).startswith(LOSS_SE)]
    _require_columns(frame, targets if need_losses else ["none"], where)
    notes: list[str] = []
    for column in ("n_params", "n_tokens", *[WEIGHT + d for d in domains], *[LOSS + t for t in targets]):
        frame[column] = _numbers(frame, column, where)
    for column in ("n_params", "n_tokens"):
        _refuse_rows(frame, ~(frame[column] > 0) | ~np.isfinite(frame[column]), column, "must be above 0", where)
    _check_optional(frame, where)
    if domains:
        frame = _check_mixtures(frame, domains, where, notes)
    _name_runs(frame, domains, where)
    _check_directions(frame, targets, list(higher_is_better), where, notes)
    _check_losses(frame, targets, where, notes)
    return Table(frame, domains, targets, notes, _sizes(frame, domains, where), [(where, len(frame))])


def names_after(prefix: str, frame: pd.DataFrame) -> list[str]:
    """Return what follows a prefix in the names of the columns that have it."""
    return [str(c).removeprefix(prefix) for c in frame.columns if str(c).startswith(prefix)]


def _require_columns(frame: pd.DataFrame, targets: list[str], where: str) -> None:
    if frame.empty:
        raise RunLogError(f"{where} has no rows")
    columns = [c for c in frame.columns if c != "row"]
    for column, example in (("n_params", "1e6"), ("n_tokens", "1e9")):
        if column not in frame:
            raise RunLogError(
                f"{where}: {unknown_column(column, columns)}; name yours by --columns {column}=YOURS, "
                f"or state it by --set {column}={example}{suggestion(columns)}"
            )
    if not targets:
        raise RunLogError(f"{where} has no column loss_<target>; its columns: {listed(columns)}{suggestion(columns)}")


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
        raise RunLogError(f"{where} row {frame['row'].iloc[row]}: {column} is {value!r:.40}, which {why}{more}")


def _check_optional(frame: pd.DataFrame, where: str) -> None:
    """Refuse what cannot be in the columns that a table may have; their cells may be empty."""
    for column in frame.columns:
        kind = next((k for k in (LOSS_SE, "available_", "before_", "sparsity") if column.startswith(k)), "")
        if not kind or (kind == "sparsity" and column != kind):
            continue
        cells = frame[column] = _numbers(frame, column, where)
        if kind == LOSS_SE:
            fine, why = cells >= 0, "must be a standard error, at least 0"
        elif kind == "sparsity":
            fine, why = cells.between(0, 1, inclusive="left"), "must lie in [0, 1)"
        else:
            fine, why = cells > 0, "must be above 0"
        _refuse_rows(frame, ~(fine & np.isfinite(cells)) & cells.notna(), column, why, where)


def _check_mixtures(frame: pd.DataFrame, domains: list[str], where: str, notes: list[str]) -> pd.DataFrame:
    names = [WEIGHT + d for d in domains]
    for name in names:
        _refuse_rows(frame, ~frame[name].between(-1e-9, 1 + 1e-9), name, "must lie in [0, 1]", where)
    total = frame[names].sum(axis=1)
    off = (total - 1).abs()
    wrong = off > SUM_REPAIRED + 1e-9
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise RunLogError(
            f"{where} row {frame['row'].iloc[row]}: the weights sum to {total.iloc[row]:.6g}, not 1 "
            f"({int(wrong.sum())} such rows). "
            "A domain is missing, or the weights are in another unit; correct the table"
        )
    rounded = off > 1e-6
    rest = f"the weights sum to {total[rounded].min():.4f} to {total[rounded].max():.4f}; they are scaled to 1"
    text = lambda i: f"the weights sum to {total.iloc[i]:.4f}; they are scaled to 1"  # noqa: E731
    note_rows(notes, rounded, where, frame["row"], text, rest)
    frame[names] = frame[names].clip(lower=0).div(total, axis=0)
    return frame


def _name_runs(frame: pd.DataFrame, domains: list[str], where: str) -> None:
    """Take rows of one size, mixture and seed for one run, where runs have no ids."""
    if "run_id" not in frame:
        known = [c for c in ("seed", "sparsity") if c in frame]
        keys = ["n_params", *known, *[WEIGHT + d for d in domains]]
        frame["run_id"] = [f"{where} group {i}" for i in frame.groupby(keys, sort=False, dropna=False).ngroup()]
    _refuse_rows(frame, frame["run_id"].isna(), "run_id", "names no run", where)
    frame["run_id"] = frame["run_id"].astype(str)


def _check_directions(
    frame: pd.DataFrame, targets: list[str], declared: list[str], where: str, notes: list[str]
) -> None:
    """Turn the declared targets into error rates; refuse others that go up where losses go down."""
    for target in declared:
        if target not in targets:
            raise ConfigError(f"--higher-is-better {target}: {where}: {unknown_name('target', target, targets)}")
        _as_error_rate(frame, target, where, notes)
    for target in targets:
        reason = "" if target in declared else _why_higher(frame, target)
        if reason:
            raise RunLogError(
                f"{where}: higher seems to be better for loss_{target}: {reason}. Laws describe what falls: declare it "
                f"by --higher-is-better {target}, or, if it is a loss, give it another name by --columns loss_NEW=YOURS"
            )


def _why_higher(frame: pd.DataFrame, target: str) -> str:
    """Return why a target looks like a metric where higher is better, or nothing."""
    if HIGHER.search(target.lower()) and not LOWER.search(target.lower()):
        return "its name says so"
    if f"before_{target}" in frame:  # what is forgotten in finetuning may rise
        return ""
    known = frame[frame[LOSS + target].notna()].sort_values("n_tokens", kind="stable")
    steps = known.groupby("run_id")[LOSS + target].diff().to_numpy(float)
    rising, falling = int((steps > 0).sum()), int((steps < 0).sum())
    if rising + falling < MIN_STEPS or rising < RISING * (rising + falling):
        return ""
    last = known.groupby("run_id").tail(1)[["n_params", LOSS + target]]
    if last["n_params"].nunique() > 1 and last.corr("spearman").to_numpy()[0, 1] < 0:  # large models have less of it
        return ""
    return f"it rises in {rising} of {rising + falling} steps within runs"


def _as_error_rate(frame: pd.DataFrame, target: str, where: str, notes: list[str]) -> None:
    """Turn shares or percentages of right answers into shares of wrong ones."""
    column = LOSS + target
    low, high = frame[column].min(), frame[column].max()
    if low < 0 or high > 100:
        raise RunLogError(
            f"{where}: loss_{target} goes from {low:g} to {high:g}; only shares in [0, 1] and percentages in "
            "[0, 100] of right answers can be turned into error rates. Give a loss instead"
        )
    whole = 1 if high <= 1 else 100
    frame[column] = (whole - frame[column]) / whole
    if LOSS_SE + target in frame:
        frame[LOSS_SE + target] /= whole
    formula = f"1 - {target}" if whole == 1 else f"(100 - {target}) / 100"
    notes.append(f"{where}: loss_{target} is now the error rate {formula}")
    perfect = frame[column] == 0
    note_rows(notes, perfect, where, frame["row"], lambda _: f"{target} makes no error at all; this cell is left out")
    frame.loc[perfect, column] = np.nan


def _check_losses(frame: pd.DataFrame, targets: list[str], where: str, notes: list[str]) -> None:
    for target in targets:
        column = frame[LOSS + target]
        _refuse_rows(frame, np.isinf(column) | (column <= 0), LOSS + target, "is not a loss in nats", where)
    empty = frame[[LOSS + t for t in targets]].isna()

    def text(i: int) -> str:
        names = empty.columns[empty.iloc[i]].tolist()
        return (
            f"{listed(names)} {'are empty; these cells are' if len(names) > 1 else 'is empty; this cell is'} left out"
        )

    rest = "losses are empty; these cells are left out"
    note_rows(notes, empty.any(axis=1), where, frame["row"], text, rest)


def _sizes(frame: pd.DataFrame, domains: list[str], where: str) -> dict[str, float]:
    """Return the tokens that each domain has, where all rows say the same."""
    sizes = {}
    for domain in names_after("available_", frame):
        if domain not in domains:
            raise RunLogError(f"{where}: available_{domain}: {unknown_name('domain', domain, domains)}")
        values = frame[f"available_{domain}"].dropna().unique()
        if len(values) == 1:
            sizes[domain] = float(values[0])
    return sizes


def pick_targets(table: Table, wanted: Iterable[str]) -> list[str]:
    """Return the wanted targets, or all; an unknown one is an error with the near match.

    Raises
    ------
    RunLogError
    """
    names = list(wanted)
    for name in names:
        if name not in table.targets:
            raise ConfigError(unknown_name("target", name, table.targets))
    return names or table.targets
