"""Tables of runs: run directories or anybody's files become one checked, wide DataFrame.

Columns: row (its number in the input), n_params, n_tokens, weight_<domain>..., loss_<target>..., and optionally run_id,
loss_se_<target>, seed, sparsity, available_<domain> [tokens] (or unique_tokens, where there are no weights) and
before_<target> [nats]. One row per (run, evaluation point). Nothing is dropped silently: every repair is a note that
names the row; what cannot be repaired is an error.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from mixlaw.errors import ConfigError, RunLogError, unknown_name
from mixlaw.runs.comparable import (
    as_wanted,
    chosen,
    chosen_rows,
    common_identity,
    differing_columns,
    require_comparable,
)
from mixlaw.runs.load import load_runs
from mixlaw.tables.columns import LOSS, LOSS_SE, WEIGHT, names_after, unknown_column
from mixlaw.tables.directions import check_directions, declared_targets
from mixlaw.tables.layouts import load_files, standardised
from mixlaw.tables.notes import listed, ranges, rows_in
from mixlaw.tables.one_domain import name_one_domain
from mixlaw.tables.parts import Part
from mixlaw.tables.repair import Cleaning
from mixlaw.tables.run_names import Naming, best_rows, name_runs
from mixlaw.tables.schedules import falls_between_rows, is_last, rate_column
from mixlaw.tables.spelling import spelt_as
from mixlaw.tables.units import BITS_PER_BYTE, together_with, units_of

__all__ = ["LOSS", "LOSS_SE", "WEIGHT", "Table", "check_frame", "names_after", "pick_targets", "read_table"]
Array = NDArray[np.float64]
OF_DOMAINS, OF_TARGETS = (WEIGHT, "available_", "requested_", "epochs_"), (LOSS, LOSS_SE, "before_")
MUCH = 0.05  # of the rows: when more are left out, it is a warning
MAX_REASONS = 5


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
    left_out : reason -> rows that were left out for it, in reading and after
    units : target -> what it is measured in; nats/token where nothing else is known
    doubts : what casts doubt on every fit, in plain words: losses in other units, checkpoints that are no ends
    identity : the settings that all run directories share, as words
    choice : how runs were chosen (where, varied, former, ends_only), so that they can be chosen again
    """

    frame: pd.DataFrame
    domains: list[str]
    targets: list[str]
    notes: list[str] = field(default_factory=list)
    sizes: dict[str, float] = field(default_factory=dict)
    sources: list[tuple[str, int]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)
    identity: dict[str, str] = field(default_factory=dict)
    choice: dict[str, Any] = field(default_factory=dict)

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
            places += [rows_in(where, own)] if own else []
            above += count
        return " and ".join(places) or f"row {ranges(list(wanted))}"

    def without(self, out: NDArray[np.bool_], reason: str) -> "Table":
        """Return the table without the rows where `out` is true, counted by their reason."""
        count = int(out.sum())
        counted = self.left_out | ({reason: self.left_out.get(reason, 0) + count} if count else {})
        return replace(self.rows(~out), left_out=counted)

    def much_left_out(self) -> list[str]:
        """Return a sentence with share and reasons if more than 5 % of the rows were left out, or nothing."""
        count = sum(self.left_out.values())
        total = count + len(self.frame)
        if count <= MUCH * total:
            return []
        reasons = sorted(self.left_out.items(), key=lambda pair: -pair[1])
        shown = listed([f"{reason} ({n})" for reason, n in reasons], MAX_REASONS)
        return [f"{count} of {total} rows ({100 * count / total:.0f} %) are left out: {shown}"]

    def named_as(self, domains: Sequence[str], targets: Sequence[str]) -> "Table":
        """Return the table with its domains and targets written as these, where only case and punctuation differ."""
        of_domains, of_targets = spelt_as(self.domains, domains), spelt_as(self.targets, targets)
        if not of_domains and not of_targets:
            return self
        new = {f"{prefix}{a}": f"{prefix}{b}" for prefix in OF_DOMAINS for a, b in of_domains.items()}
        new |= {f"{prefix}{a}": f"{prefix}{b}" for prefix in OF_TARGETS for a, b in of_targets.items()}
        said = listed([f"{a} is {b}" for a, b in (of_domains | of_targets).items()])
        return replace(
            self,
            frame=self.frame.rename(columns=new),
            domains=[of_domains.get(d, d) for d in self.domains],
            targets=[of_targets.get(t, t) for t in self.targets],
            sizes={of_domains.get(d, d): size for d, size in self.sizes.items()},
            units={of_targets.get(t, t): unit for t, unit in self.units.items()},
            notes=[*self.notes, f"names that differ in case or punctuation only are taken for one: {said}"],
        )

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
    run_id: Sequence[str] = (),
    rows_are_runs: bool = False,
    best: bool = False,
    relative_weights: bool = False,
    where: Mapping[str, Any] | None = None,
    varied: Iterable[str] = (),
    units: Mapping[str, str] | None = None,
    ends_only: bool = False,
    former: bool = False,
) -> Table:
    """Read tables of runs from files or run directories and put them below each other, or beside each other by an id.

    Parameters
    ----------
    paths : files of any format that `mixlaw.tables.files` reads, run directories, or folders of run directories
    columns : names of one's own -> the standard ones, for files; with one * on each side, patterns:
        {"train_*": "weight_*"}
    n_params : which parameter count of run directories is N: n_params (total) or n_params_non_embedding
    layout : a name in `mixlaw.tables.layouts.LAYOUTS`: how these files are laid out; by default what their columns show
    join : a column that all files have; they are one table, put together by its values, whatever their order
    constants : columns that the files lack, e.g. {"n_tokens": 1e9}
    higher_is_better : targets, or globs such as mmlu_*, that are shares or percentages of right answers; they become
        error rates
    need_losses : whether a table without losses is an error; predicting needs none
    run_id : columns of files whose values together name a run
    rows_are_runs : whether every row of files is a run of its own
    best : keep the row of the lowest loss for each N, D and mixture
    relative_weights : whether only the proportions of weights in files count, whatever they sum to
    where : settings of runs, or columns of files -> the values to keep, e.g. {"optim.lr": 0.008}; a list: any
    varied : settings that run directories may differ in, beside N, D, h and the seed, e.g. ["optim.lr"]
    units : patterns of targets -> what they are measured in, e.g. {"*": "bits/byte"}
    ends_only : keep the last row of every run: where rates fall, checkpoints before are no ends of shorter runs
    former : also read runs that only a former version of their study's file planned

    Raises
    ------
    RunLogError
        Naming file and row: a missing column, most cells of a column that are no numbers or not positive, weights that
        sum to something else than 1, 100 or n_tokens, a target where higher seems better. Or naming the settings that
        runs differ in.
    ConfigError
        If there is no such layout, a pattern is none, or a name of a target or of a column for run_id matches nothing.
    """
    if not paths:
        raise ConfigError("no table given: name CSV files or folders of runs")
    folders = [Path(p) for p in paths if Path(p).is_dir()]
    files = [Path(p) for p in paths if not Path(p).is_dir()]
    if folders and constants:
        raise ConfigError(f"--set {next(iter(constants))}: run directories such as {folders[0]} state it themselves")
    naming = Naming(tuple(run_id), rows_are_runs)
    if folders and not files and (run_id or rows_are_runs):
        raise ConfigError(f"--run-id and --rows-are-runs are for files: run directories such as {folders[0]} have ids")
    tables = []
    parts = load_files(files, columns or {}, layout, join, constants, need_losses, run_id) if files else []
    targets = list(dict.fromkeys(t for part in parts for t in _targets_in(part.frame)))
    named = " + ".join(map(str, paths))
    declared = declared_targets(higher_is_better, targets, named) if targets or need_losses else []
    wanted, varied = as_wanted(where or {}), list(varied)
    for part in parts:
        frame = chosen_rows(part.frame, wanted)
        if wanted:
            part.notes.append(f"{part.where}: {len(frame)} of {len(part.frame)} rows are chosen by --where")
        if n_params != "n_params" and n_params in frame:
            frame = frame.drop(columns="n_params", errors="ignore").rename(columns={n_params: "n_params"})
        part.frame = frame
        own = [t for t in declared if t in _targets_in(frame)]
        tables.append(_checked(part, need_losses, own, naming, relative_weights))
    together = pd.concat([t.frame for t in tables], ignore_index=True) if tables else pd.DataFrame({"run_id": []})
    scheduled = [rate_column(together)] if tables and falls_between_rows(together) else []
    differing = differing_columns(together, [*varied, *scheduled])
    if folders:
        tables.append(_from_runs(folders, n_params, wanted, varied, former))
    choice = {"where": wanted, "varied": varied, "former": former, "ends_only": ends_only}
    table = _stack(tables)
    known = together_with(((", ".join(w for w, _ in t.sources), t.units) for t in tables), units or {})
    table = replace(table, units=known, choice=choice, doubts=differing)
    table = _only_ends(table) if ends_only else table
    return _best(table) if best else table


def _only_ends(table: Table) -> Table:
    """Keep the last row of every run."""
    last = is_last(table.frame)
    left = f"--ends-only: {len(last) - last.sum()} of {len(last)} rows are not the last of their run; left out"
    return replace(table, notes=[*table.notes, left]).rows(last)


def _targets_in(frame: pd.DataFrame) -> list[str]:
    return [t for t in names_after(LOSS, frame) if not (LOSS + t).startswith(LOSS_SE)]


def _best(table: Table) -> Table:
    """Return the best row of each N, D and mixture, with a note; what a person asks for is no warning."""
    if not table.targets:
        return table
    best = best_rows(table.frame, table.domains, table.targets)
    kept = table.rows(best)
    count = f"{int((~best).sum())} of {len(best)} rows are left out"
    kept.notes = [
        *table.notes,
        f"--best: the lowest mean loss for each n_params, n_tokens and weights is kept; {count}",
    ]
    return kept


def _stack(tables: list[Table]) -> Table:
    """Put tables below each other; their rows are counted through."""
    first, frames, above = tables[0], [], 0
    tables = [first, *(table.named_as(first.domains, first.targets) for table in tables[1:])]
    for table in tables:
        if set(table.domains) != set(first.domains):
            raise RunLogError(f"the tables train on different domains: {first.domains} and {table.domains}")
        frames.append(table.frame.assign(row=table.frame["row"] + above))
        above += sum(n for _, n in table.sources)
    targets = list(dict.fromkeys(name for t in tables for name in t.targets))
    sizes = {k: v for t in tables for k, v in t.sizes.items()}
    identity = {name: value for t in tables for name, value in t.identity.items()}
    notes, sources = [n for t in tables for n in t.notes], [s for t in tables for s in t.sources]
    reasons = dict.fromkeys(reason for t in tables for reason in t.left_out)
    left_out = {reason: sum(t.left_out.get(reason, 0) for t in tables) for reason in reasons}
    frame = pd.concat(frames, ignore_index=True)
    return Table(frame, first.domains, targets, notes, sizes, sources, left_out, identity=identity)


def _from_runs(
    folders: list[Path], n_params: str, wanted: Mapping[str, Sequence[str]], varied: Sequence[str], former: bool
) -> Table:
    """Read run directories; evaluations of plain, averaged and cooled weights are never mixed."""
    runs = load_runs(*folders, former=former)
    where = f"runs in {', '.join(map(str, folders))}"
    notes = [*_excluded(runs.excluded), *(f"left out: {sentence}" for sentence in runs.former)]
    facts = chosen(list(runs.facts.values()), wanted)
    if wanted:
        notes.append(f"{where}: {len(facts)} of {len(runs.facts)} runs are chosen by --where")
    long = runs.table[runs.table["run_id"].isin([run.run_id for run in facts])]
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
    facts = [run for run in facts if run.run_id in set(long["run_id"])]
    notes += require_comparable(facts, where, varied)
    domains = names_after("requested_", long)
    of_domains = [f"{p}_{d}" for d in domains for p in ("weight", "requested", "epochs")]
    index = ["run_id", "study", "seed", n_params, "step", "n_tokens", *of_domains]
    missing = [c for c in domains if long[f"weight_{c}"].isna().any()]
    if missing:
        without = long["run_id"][long[f"weight_{missing[0]}"].isna()].unique()
        raise RunLogError(
            f"runs in {folders[0]} train on different domains: '{missing[0]}' is not in all of them: it is missing in "
            f"{listed(list(without), 3)}"
        )
    wide = long.pivot(index=index, columns="domain", values=["loss", "loss_se"])
    wide.columns = pd.Index(["_".join(pair) for pair in wide.columns.to_flat_index()])
    frame = wide.reset_index().rename(columns={n_params: "n_params"})
    frame = frame.sort_values(["run_id", "n_tokens"], ignore_index=True)
    frame.insert(0, "row", np.arange(1, len(frame) + 1))
    frame = frame.assign(**{f"available_{d}": runs.sizes[d] for d in domains})
    targets = list(dict.fromkeys(long["domain"]))
    units, identity = units_of(frame, targets), common_identity(facts, varied)
    return Table(frame, domains, targets, notes, runs.sizes, [(where, len(frame))], {}, units, identity=identity)


def _excluded(sentences: Mapping[str, str]) -> list[str]:
    """Return a line for each reason why runs were left out, with the first run that it is about."""
    kinds: dict[str, list[str]] = {}
    for folder, sentence in sentences.items():
        kinds.setdefault(sentence.replace(folder, "\0"), []).append(folder)
    notes = []
    for kind, folders in kinds.items():
        others = f" (so {'are' if len(folders) > 2 else 'is'} {listed(folders[1:], 3)})" if len(folders) > 1 else ""
        notes.append(f"left out: {kind.replace(chr(0), folders[0])}{others}")
    return notes


def check_frame(
    frame: pd.DataFrame,
    where: str,
    rows: ArrayLike | None = None,
    need_losses: bool = True,
    higher_is_better: Iterable[str] = (),
    run_id: Sequence[str] = (),
    rows_are_runs: bool = False,
    best: bool = False,
    relative_weights: bool = False,
) -> Table:
    """Check a table and name its domains and targets; layouts and long tables are recognised as in files.

    Parameters
    ----------
    where : how messages name the table
    rows : (n,) the numbers of the rows in the input; 1 to n by default
    need_losses : whether a table without losses is an error
    higher_is_better : targets, or globs, that become error rates
    run_id, rows_are_runs, best, relative_weights : see `read_table`

    Raises
    ------
    RunLogError
        Naming the column or the row (counted from 1, without the header) and what to do.
    ConfigError
        If a name of a target or of a column for run_id matches nothing.
    """
    numbers = np.arange(1, len(frame) + 1) if rows is None else np.asarray(rows, int)
    frame = frame.set_axis(pd.Index(numbers), axis=0).drop(columns="row", errors="ignore")
    frame.columns = pd.Index([str(c).strip() for c in frame.columns])
    repeated = frame.columns[frame.columns.duplicated()]
    if len(repeated):
        raise RunLogError(f"{where}: column '{repeated[0]}' appears twice")
    (part,) = standardised([Part(where, frame, len(frame))], {}, need_losses=need_losses)
    targets = _targets_in(part.frame)
    declared = declared_targets(higher_is_better, targets, where) if targets or need_losses else []
    table = _checked(part, need_losses, declared, Naming(tuple(run_id), rows_are_runs), relative_weights)
    return _best(table) if best else table


def _checked(part: Part, need_losses: bool, declared: list[str], naming: Naming, relative_weights: bool) -> Table:
    """Check a table whose columns have their standard names."""
    frame = part.frame.drop(columns="row", errors="ignore").copy()
    frame.insert(0, "row", part.frame.index.to_numpy())
    frame = frame.reset_index(drop=True)
    where = part.where
    frame = name_one_domain(frame, where, part.notes)
    _require_columns(frame, _targets_in(frame) if need_losses else ["none"], where)
    cleaning = Cleaning(frame, where, part.decimal)
    domains, targets = names_after(WEIGHT, frame), cleaning.targets()
    if "run_id" in frame and not (naming.columns or naming.rows_are_runs):
        cleaning.require_run_ids()
    for column in ("n_params", "n_tokens"):
        cleaning.numbers(column)
    _check_optional(cleaning)
    for target in targets:
        if target in declared:
            cleaning.optional(LOSS + target, lambda cells: cells.notna(), "a number")
        else:
            cleaning.optional(LOSS + target, lambda cells: cells > 0, "a number above 0")
    if domains:
        cleaning.mixtures(domains, relative_weights)
    cleaning.note_read()
    cleaning.note_empty()
    frame, notes = cleaning.frame, part.notes + cleaning.notes
    by = tuple(part.renamed.get(column, column) for column in naming.columns)
    notes += name_runs(frame, domains, targets, where, replace(naming, columns=by))
    check_directions(frame, targets, declared, where, notes)
    left_out, sizes = part.left_out | cleaning.left_out, _sizes(frame, domains, where)
    called = {standard: theirs for theirs, standard in part.renamed.items()}
    units = units_of(frame, targets, declared, called)
    if part.layout == "olmix":
        units |= dict.fromkeys(targets, BITS_PER_BYTE)
    return Table(frame, domains, targets, notes, sizes, [(where, part.n_rows)], left_out, units)


def _require_columns(frame: pd.DataFrame, targets: list[str], where: str) -> None:
    if frame.empty:
        raise RunLogError(f"{where} has no rows")
    columns = [c for c in frame.columns if c != "row"]
    for column, example in (("n_params", "1e6"), ("n_tokens", "1e9")):
        if column not in frame:
            raise RunLogError(
                f"{where}: {unknown_column(column, columns)}; name yours by --columns {column}=YOURS, "
                f"or state it by --set {column}={example}"
            )
    if not targets:
        raise RunLogError(f"{where} has no column loss_<target>; its columns: {listed(columns)}")


def _check_optional(cleaning: Cleaning) -> None:
    """Check the columns that a table may have; their cells may be empty."""
    for column in map(str, cleaning.frame.columns):
        if column.startswith(LOSS_SE):
            cleaning.optional(column, lambda cells: cells >= 0, "a standard error of at least 0")
        elif column == "sparsity":
            cleaning.optional(column, lambda cells: cells.between(0, 1, inclusive="left"), "a share in [0, 1)")
        elif column.startswith(("available_", "before_")):
            cleaning.optional(column, lambda cells: cells > 0, "a number above 0")


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
            raise ConfigError(f"--target: {unknown_name('target', name, table.targets)}")
    return names or table.targets
