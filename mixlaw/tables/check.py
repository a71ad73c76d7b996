"""Check one table whose columns have standard names, and return it as a `Table`.

Cells and rows that cannot be used are left out with a note; a column in which most cells are unusable is an error.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mixlaw.errors import RunLogError, unknown_name
from mixlaw.tables.column_checks import ColumnChecks
from mixlaw.tables.columns import LOSS, LOSS_SE, WEIGHT, names_after, unknown_column
from mixlaw.tables.formats.raw_table import RawTable
from mixlaw.tables.formats.standardise import FileOptions, standardise
from mixlaw.tables.metric_directions import check_directions, declared_targets
from mixlaw.tables.notes import listed
from mixlaw.tables.phases import check_phases
from mixlaw.tables.run_ids import RunNaming, assign_run_ids, best_rows
from mixlaw.tables.single_domain import name_single_domain
from mixlaw.tables.table import Table
from mixlaw.tables.units import BITS_PER_BYTE, units_of


@dataclass(frozen=True)
class Rules:
    """How a table is checked.

    Attributes
    ----------
    need_losses : whether a table without losses is an error
    higher_is_better : targets, or patterns such as mmlu_*, that are accuracies and become error rates
    runs : which rows are one run
    relative_weights : whether weights may have any sum, because only their proportions count
    """

    need_losses: bool = True
    higher_is_better: tuple[str, ...] = ()
    runs: RunNaming = field(default_factory=RunNaming)
    relative_weights: bool = False


def check_frame(
    frame: pd.DataFrame,
    where: str,
    *,
    rows: ArrayLike | None = None,
    need_losses: bool = True,
    higher_is_better: Iterable[str] = (),
    run_id: Sequence[str] = (),
    rows_are_runs: bool = False,
    best: bool = False,
    relative_weights: bool = False,
) -> Table:
    """Check a DataFrame and name its domains and targets; layouts and long tables are recognised as in files.

    Parameters
    ----------
    where : what messages call the table
    rows : (n,) row numbers of the input; 1 to n by default
    need_losses : whether a table without losses is an error
    higher_is_better, run_id, rows_are_runs, best, relative_weights : see `mixlaw.tables.read.read_table`

    Raises
    ------
    RunLogError
        Naming the column or the row (counted from 1, without the header) and what to do.
    ConfigError
        If a target or a column for run_id does not exist.
    """
    numbers = np.arange(1, len(frame) + 1) if rows is None else np.asarray(rows, int)
    frame = frame.set_axis(pd.Index(numbers), axis=0).drop(columns="row", errors="ignore")
    frame.columns = pd.Index([str(c).strip() for c in frame.columns])
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise RunLogError(f"{where}: column '{repeated[0]}' appears twice")
    (raw,) = standardise([RawTable(where, frame, len(frame))], FileOptions(need_losses=need_losses))
    targets = targets_in(raw.frame)
    declared = declared_targets(higher_is_better, targets, where) if targets or need_losses else []
    rules = Rules(need_losses, tuple(declared), RunNaming(tuple(run_id), rows_are_runs), relative_weights)
    table = check(raw, rules)
    return keep_best(table) if best else table


def check(raw: RawTable, rules: Rules) -> Table:
    """Check a table whose columns have standard names.

    Raises
    ------
    RunLogError, ConfigError
        See `check_frame`.
    """
    raw.frame = _with_row_numbers(raw)
    raw.frame = name_single_domain(raw.frame, raw.where, raw.notes)
    _require_columns(raw.frame, raw.where, rules.need_losses)
    declared = [target for target in rules.higher_is_better if target in targets_in(raw.frame)]
    checks = ColumnChecks(raw.frame, raw.where, raw.decimal)
    domains, targets = names_after(WEIGHT, raw.frame), checks.targets()
    naming = _in_standard_names(rules.runs, raw)
    if "run_id" in raw.frame and not (naming.columns or naming.rows_are_runs):
        checks.require_run_ids()
    _check_columns(checks, targets, declared)
    if domains:
        checks.check_mixtures(domains, rules.relative_weights)
    check_phases(checks, domains)
    checks.note_parsed_text()
    checks.note_empty()
    frame, notes = checks.frame, raw.notes + checks.notes
    notes += assign_run_ids(frame, domains, targets, raw.where, naming)
    check_directions(frame, targets, declared, raw.where, notes)
    return Table(
        frame,
        domains,
        targets,
        notes=notes,
        sizes=_sizes(frame, domains, raw.where),
        sources=[(raw.where, raw.n_rows)],
        left_out=raw.left_out | checks.left_out,
        units=_units(raw, frame, targets, declared),
    )


def targets_in(frame: pd.DataFrame) -> list[str]:
    """Return the names behind loss_*, without those of loss_se_*."""
    return [t for t in names_after(LOSS, frame) if not (LOSS + t).startswith(LOSS_SE)]


def keep_best(table: Table) -> Table:
    """Return the row of the lowest mean loss for each N, D and mixture, with a note."""
    if not table.targets:
        return table
    best = best_rows(table.frame, table.domains, table.targets)
    count = f"{int((~best).sum())} of {len(best)} rows are left out"
    note = f"--best: the lowest mean loss for each n_params, n_tokens and weights is kept; {count}"
    return replace(table.rows(best), notes=[*table.notes, note])  # asked for: not counted in `left_out`


def _with_row_numbers(raw: RawTable) -> pd.DataFrame:
    """Return a table's rows with their numbers in the input as the column `row`."""
    frame = raw.frame.drop(columns="row", errors="ignore").copy()
    frame.insert(0, "row", raw.frame.index.to_numpy())
    return frame.reset_index(drop=True)


def _in_standard_names(naming: RunNaming, raw: RawTable) -> RunNaming:
    """Return the columns that name runs under the names that they have now."""
    return replace(naming, columns=tuple(raw.renamed.get(column, column) for column in naming.columns))


def _require_columns(frame: pd.DataFrame, where: str, need_losses: bool) -> None:
    if frame.empty:
        raise RunLogError(f"{where} has no rows")
    columns = [c for c in frame.columns if c != "row"]
    for column, example in (("n_params", "1e6"), ("n_tokens", "1e9")):
        if column not in frame:
            raise RunLogError(
                f"{where}: {unknown_column(column, columns)}; name yours by --columns {column}=YOURS, "
                f"or state it by --constants {column}={example}"
            )
    if need_losses and not targets_in(frame):
        raise RunLogError(f"{where} has no column loss_<target>; its columns: {listed(columns)}")


def _check_columns(checks: ColumnChecks, targets: list[str], declared: list[str]) -> None:
    """Check all columns but the weights; cells of columns other than N and D may be empty."""
    for column in ("n_params", "n_tokens"):
        checks.require_positive(column)
    for column in map(str, checks.frame.columns):
        if column.startswith(LOSS_SE):
            checks.check_optional(column, lambda cells: cells >= 0, "a standard error of at least 0")
        elif column == "sparsity":
            checks.check_optional(column, lambda cells: cells.between(0, 1, inclusive="left"), "a share in [0, 1)")
        elif column.startswith(("available_", "before_")):
            checks.check_optional(column, lambda cells: cells > 0, "a number above 0")
    for target in targets:
        if target in declared:
            checks.check_optional(LOSS + target, lambda cells: cells.notna(), "a number")
        else:
            checks.check_optional(LOSS + target, lambda cells: cells > 0, "a number above 0")


def _sizes(frame: pd.DataFrame, domains: list[str], where: str) -> dict[str, float]:
    """Return the tokens available per domain, where all rows state the same number."""
    sizes = {}
    for domain in names_after("available_", frame):
        if domain not in domains:
            raise RunLogError(f"{where}: available_{domain}: {unknown_name('domain', domain, domains)}")
        values = frame[f"available_{domain}"].dropna().unique()
        if len(values) == 1:
            sizes[domain] = float(values[0])
    return sizes


def _units(raw: RawTable, frame: pd.DataFrame, targets: list[str], declared: list[str]) -> dict[str, str]:
    """Return target -> unit, by the layout, or by the names of columns here and in the file."""
    if raw.layout == "olmix":
        return dict.fromkeys(targets, BITS_PER_BYTE)
    names_in_file = {standard: theirs for theirs, standard in raw.renamed.items()}
    return units_of(frame, targets, declared, names_in_file)
