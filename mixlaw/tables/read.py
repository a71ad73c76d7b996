"""Read tables of runs: files of any layout, run directories and examples become one checked `Table`.

Nothing is dropped silently: every repair is a note with row numbers; what cannot be repaired is an error.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from mixlaw.errors import ConfigError, RunLogError
from mixlaw.runs.comparable import differing_columns
from mixlaw.runs.filters import select_rows, wanted_values
from mixlaw.tables.aggregates import Aggregates, with_aggregates
from mixlaw.tables.check import Rules, check, keep_best, targets_in
from mixlaw.tables.formats.load import load_files
from mixlaw.tables.formats.raw_table import RawTable
from mixlaw.tables.formats.standardise import FileOptions
from mixlaw.tables.lr_schedules import falls_between_rows, is_last, rate_column
from mixlaw.tables.metric_directions import declared_targets
from mixlaw.tables.run_directories import Choice, read_runs
from mixlaw.tables.run_ids import RunNaming
from mixlaw.tables.table import Table
from mixlaw.tables.units import combined_units


def read_table(
    paths: str | Path | Sequence[str | Path],
    *,
    columns: Mapping[str, str] | None = None,
    layout: str | None = None,
    join: str | None = None,
    constants: Mapping[str, float] | None = None,
    higher_is_better: Iterable[str] = (),
    relative_weights: bool = False,
    need_losses: bool = True,
    count: str = "n_params",
    run_id: Sequence[str] = (),
    rows_are_runs: bool = False,
    best: bool = False,
    where: Mapping[str, Any] | None = None,
    varied: Iterable[str] = (),
    units: Mapping[str, str] | None = None,
    ends_only: bool = False,
    former: bool = False,
    aggregates: Aggregates | None = None,
) -> Table:
    """Read tables of runs and concatenate them, or join the columns of files by an id.

    Parameters
    ----------
    paths : files of any format that `mixlaw.tables.formats.files` reads, run directories, folders of run directories,
        or example:NAME, see `mixlaw.tables.examples`
    columns : column names in files -> standard names; with one * on each side, patterns: {"train_*": "weight_*"}
    layout : a name in `mixlaw.tables.formats.layouts.LAYOUTS`; by default recognised by the columns
    join : a column that all files have; the files are joined by its values, in any order
    constants : columns that the files lack, e.g. {"n_tokens": 1e9}
    higher_is_better : targets, or patterns such as mmlu_*, that are accuracies (shares or percentages); they become
        error rates
    relative_weights : whether weights in files may have any sum, because only their proportions count
    need_losses : whether a table without losses is an error; predicting needs none
    count : which parameter count is N: n_params (total) or n_params_non_embedding
    run_id : columns of files whose values together name a run
    rows_are_runs : whether every row of a file is a run of its own
    best : keep the row of the lowest mean loss for each N, D and mixture
    where : settings of runs, or columns of files -> the value to keep, or a list of values: {"optim.lr": 0.008}
    varied : settings that run directories may differ in, beside N, D, h and the seed, e.g. ["optim.lr"]
    units : patterns of targets -> the unit of their losses, e.g. {"*": "bits/byte"}
    ends_only : keep the last row of every run, where the learning rate decays
    former : also read runs that only a former version of their study file planned
    aggregates : groups of targets that become targets: name -> target -> weight, see `mixlaw.tables.aggregates`

    Raises
    ------
    RunLogError
        Naming file and row: a missing column, a column of which most cells are not numbers or not positive, weights
        whose sum is not 1, 100 or n_tokens, a target where higher seems better. Or naming the settings in which runs
        differ.
    ConfigError
        If a layout, a target, a pattern or a column for run_id does not exist, or an aggregate cannot be formed.
    """
    paths = [paths] if isinstance(paths, str | Path) else paths
    files, folders = _files_and_folders(paths)
    if folders:
        _refuse_options_of_files(folders[0], constants, bool(run_id or rows_are_runs) and not files)
    wanted, varied = wanted_values(where or {}), list(varied)
    rules = Rules(need_losses, tuple(higher_is_better), RunNaming(tuple(run_id), rows_are_runs), relative_weights)
    options = FileOptions(columns or {}, layout, join, constants or {}, need_losses, tuple(run_id))
    tables = _check_all(load_files(files, options), rules, wanted, count, " + ".join(map(str, paths)))
    warnings = _differing_settings(tables, varied)
    if folders:
        tables.append(read_runs(folders, count, Choice(wanted, varied, former)))
    table = replace(
        _concatenated(tables),
        units=combined_units(((", ".join(name for name, _ in t.sources), t.units) for t in tables), units or {}),
        choice={"where": wanted, "varied": varied, "former": former, "ends_only": ends_only},
        warnings=warnings,
    )
    if aggregates:
        table = with_aggregates(replace(table, choice=table.choice | {"aggregates": aggregates}), aggregates)
    table = _only_ends(table) if ends_only else table
    return keep_best(table) if best else table


def _files_and_folders(paths: Sequence[str | Path]) -> tuple[list[Path], list[Path]]:
    if not paths:
        raise ConfigError("no table given: name CSV files or folders of runs")
    folders = [Path(path) for path in paths if Path(path).is_dir()]
    return [Path(path) for path in paths if not Path(path).is_dir()], folders


def _refuse_options_of_files(folder: Path, constants: Mapping[str, float] | None, names_runs: bool) -> None:
    """Refuse options that only make sense for files."""
    if constants:
        raise ConfigError(f"--constants {next(iter(constants))}: run directories such as {folder} state it themselves")
    if names_runs:
        raise ConfigError(f"--run-id and --rows-are-runs are for files: run directories such as {folder} have ids")


def _check_all(
    raw_tables: list[RawTable], rules: Rules, wanted: Mapping[str, Sequence[str]], count: str, name: str
) -> list[Table]:
    """Check the rows of files that have the wanted values.

    Parameters
    ----------
    wanted : column -> the values to keep
    count : the column that is N
    name : of all files together, for messages
    """
    targets = list(dict.fromkeys(target for raw in raw_tables for target in targets_in(raw.frame)))
    if targets or rules.need_losses:
        rules = replace(rules, higher_is_better=tuple(declared_targets(rules.higher_is_better, targets, name)))
    tables = []
    for raw in raw_tables:
        frame = select_rows(raw.frame, wanted)
        if wanted:
            raw.notes.append(f"{raw.where}: {len(frame)} of {len(raw.frame)} rows are chosen by --where")
        if count != "n_params" and count in frame:
            frame = frame.drop(columns="n_params", errors="ignore").rename(columns={count: "n_params"})
        raw.frame = frame
        tables.append(check(raw, rules))
    return tables


def _differing_settings(tables: Sequence[Table], varied: list[str]) -> list[str]:
    """Return a warning for every column that says how runs of files were trained and that has several values."""
    if not tables:
        return []
    frame = pd.concat([table.frame for table in tables], ignore_index=True)
    schedule = [rate_column(frame)] if falls_between_rows(frame) else []
    return differing_columns(frame, [*varied, *schedule])


def _concatenated(tables: list[Table]) -> Table:
    """Concatenate tables; row numbers count through all of them."""
    first, frames, above = tables[0], [], 0
    tables = [first, *(table.named_as(first.domains, first.targets) for table in tables[1:])]
    for table in tables:
        if set(table.domains) != set(first.domains):
            raise RunLogError(f"the tables train on different domains: {first.domains} and {table.domains}")
        frames.append(table.frame.assign(row=table.frame["row"] + above))
        above += sum(count for _, count in table.sources)
    reasons = dict.fromkeys(reason for table in tables for reason in table.left_out)
    return Table(
        pd.concat(frames, ignore_index=True),
        first.domains,
        list(dict.fromkeys(target for table in tables for target in table.targets)),
        notes=[note for table in tables for note in table.notes],
        sizes={domain: size for table in tables for domain, size in table.sizes.items()},
        sources=[source for table in tables for source in table.sources],
        left_out={reason: sum(table.left_out.get(reason, 0) for table in tables) for reason in reasons},
        identity={name: value for table in tables for name, value in table.identity.items()},
    )


def _only_ends(table: Table) -> Table:
    """Keep the last row of every run."""
    last = is_last(table.frame)
    note = f"--ends-only: {len(last) - last.sum()} of {len(last)} rows are not the last of their run; left out"
    return replace(table, notes=[*table.notes, note]).rows(last)
