"""How others lay out their tables: their columns, files and units become one frame with the standard columns.

A layout is data: which column is what, which files belong together. A person may name it; where standard columns are
missing and one layout's signs are there, it is used with a note. Frames travel with the file's row numbers as index.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from mixlaw.errors import ConfigError, RunLogError, unknown_name
from mixlaw.tables.columns import LOSS, WEIGHT, is_standard, meant, unknown_column
from mixlaw.tables.example_files import resolve
from mixlaw.tables.formats.files import read_cells
from mixlaw.tables.formats.joins import ids_of, joined
from mixlaw.tables.formats.long_tables import PLAIN, widen
from mixlaw.tables.formats.raw_table import Part
from mixlaw.tables.notes import listed, note_rows
from mixlaw.tables.number_parsing import parse_numbers


@dataclass(frozen=True)
class Layout:
    """Somebody's way to write tables.

    Attributes
    ----------
    about : a sentence
    signs : patterns that are all among the columns of such files
    columns : theirs -> standard, in order of preference; one * on each side stands for a name; "*" takes what is left
    join : the column that tells which rows of several files are one run
    shares : whether the file whose columns that are left sum to one holds the mixtures
    scale : standard column -> what theirs is multiplied by
    keep : column -> the value of the rows that count
    rows_are_runs : whether every row is a run of its own where no column tells
    """

    about: str = ""
    signs: tuple[str, ...] = ()
    columns: Mapping[str, str] = field(default_factory=dict)
    join: str | None = None
    shares: bool = False
    scale: Mapping[str, float] = field(default_factory=dict)
    keep: Mapping[str, str] = field(default_factory=dict)
    rows_are_runs: bool = False


LAYOUTS = {
    "regmix": Layout(
        "RegMix: a file of mixtures and a file of losses on the Pile, joined by index; N and D by --set",
        ("*the_pile_*",),
        {"train_the_pile_*": "weight_*", "metric/the_pile_*_val_loss": "loss_*"},
        join="index",
    ),
    "olmix": Layout(
        "olmix: ratios.csv and metrics.csv (bits per byte), joined by run_id; N and D by --set",
        ("run*", "name", "index"),
        {"run_id": "run_id", "run": "run_id", **{c: c for c in ("name", "index", "Unnamed: 0")}, "*": "loss_*"},
        join="run_id",
        shares=True,
    ),
    "wandb": Layout(
        "W&B: the table of runs, exported as CSV, as our trainer's mirror logs them; a row per finished run",
        ("Name", "State"),
        {
            "ID": "run_id", "run_id": "run_id", "config.seed": "seed", "seed": "seed",
            "n_params.total": "n_params", "n_params.non_embedding": "n_params_non_embedding",
            "weight/*": "weight_*", "mixture.*": "weight_*", "loss/*": "loss_*", "loss_se/*": "loss_se_*",
            "data.*.n_tokens": "available_*",
        },
        keep={"State": "finished"},
        rows_are_runs=True,
    ),
    "paper": Layout(
        "The tables of Shukor et al. 2025: model_size, n_tokens, weight_<domain>, <target>_loss; a row per checkpoint",
        ("model_size", "*_loss"),
        {"model_size": "n_params", "*_loss": "loss_*"},
    ),
    "mixinglaws": Layout(
        "Data Mixing Laws: w0, w1, ..., N_nonemb, step (4096 x 256 tokens each), and a column of losses per target",
        ("N_nonemb", "step", "w0"),
        {"N_nonemb": "n_params", "step": "n_tokens", "run": "run_id", "size": "size", "w*": "weight_w*", "*": "loss_*"},
        scale={"n_tokens": 4096 * 256},
    ),
}  # fmt: skip


def get_layout(name: str) -> Layout:
    """Return a layout by name, or raise ConfigError with the near match."""
    if name not in LAYOUTS:
        raise ConfigError(unknown_name("layout", name, LAYOUTS))
    return LAYOUTS[name]


def recognised(columns: Sequence[str], mine: Mapping[str, str], constants: Iterable[str], need_losses: bool) -> str:
    """Return the name of the layout that files have, or nothing.

    Parameters
    ----------
    columns : of all files
    mine : names of one's own -> standard ones
    constants : columns that are set
    need_losses : whether a table without losses lacks something
    """
    standard = {c if is_standard(c) else mine.get(c, "") for c in columns} | set(constants)
    standard |= {target for pattern, target in mine.items() if any(fnmatchcase(c, pattern) for c in columns)}
    have = {kind: any(c.startswith(kind) for c in standard) for kind in (WEIGHT, LOSS)}
    something = have[LOSS] or (have[WEIGHT] and not need_losses)
    if {"n_params", "n_tokens"} <= standard and something:
        return ""
    fits = [
        name
        for name, layout in LAYOUTS.items()
        if all(any(fnmatchcase(c, sign) and c not in mine for c in columns) for sign in layout.signs)
    ]
    return fits[0] if len(fits) == 1 else ""


def load_files(
    paths: Sequence[Path],
    columns: Mapping[str, str],
    layout: str | None = None,
    join: str | None = None,
    constants: Mapping[str, float] | None = None,
    need_losses: bool = True,
    texts: Iterable[str] = (),
) -> list[Part]:
    """Read files, give their columns the standard names, and join them where they are one table.

    Parameters
    ----------
    paths : files of any format that `mixlaw.tables.formats.files` reads, or example:NAME
    columns : names of one's own -> the standard ones; they go before the layout's
    layout : a name in `LAYOUTS`; by default that which the files' columns show
    join : the column that files are joined by, and that names runs
    constants : columns that the files lack
    need_losses : whether a table without losses lacks something
    texts : further columns whose cells stay text

    Raises
    ------
    ConfigError, RunLogError
        An unknown layout, a pattern that is none; else naming the file and the row or column.
    """
    ids = {"run_id", *PLAIN, *texts, *([join] if join else [])} | {k for k, v in columns.items() if v == "run_id"}
    for known in LAYOUTS.values():
        ids |= {k for k, v in known.columns.items() if v == "run_id"} | ({known.join} if known.join else set())
    parts = []
    for path in paths:
        cells = read_cells(resolve(path), ids)
        notes = [f"{path}: {'; '.join(cells.notes)}"] if cells.notes else []
        parts.append(Part(str(path), cells.frame, cells.n_rows, notes, cells.decimal))
        parts[-1].leave_out(cells.n_rows - len(cells.frame), "no record")
    parts = standardised(parts, columns, layout, join, constants, need_losses)
    for part in parts:
        _note_unused(part, {part.renamed.get(text, text) for text in texts})
    return parts


def standardised(
    parts: list[Part],
    columns: Mapping[str, str],
    layout: str | None = None,
    join: str | None = None,
    constants: Mapping[str, float] | None = None,
    need_losses: bool = True,
) -> list[Part]:
    """Give columns of tables the standard names, a row per evaluation, and join what is one table; see `load_files`."""
    for theirs, standard in columns.items():
        if "*" in theirs + standard and (theirs.count("*"), standard.count("*")) != (1, 1):
            raise ConfigError(f"--columns {standard}={theirs}: a pattern has exactly one * on each side")
    seen = [str(c) for part in parts for c in part.frame.columns]
    found = layout or recognised(seen, columns, constants or {}, need_losses)
    chosen = get_layout(found) if found else Layout()
    if found and not layout:
        parts[0].notes.append(f"{_names(parts)}: read in the layout '{found}', by the columns; --layout names another")
    if not found:
        for part in parts:
            _spell(part, {*columns, *columns.values(), *(constants or {})})
    key = join or chosen.join
    key = {**chosen.columns, **columns}.get(key, key) if key else None
    for part in parts:
        part.layout = found
        _rename(part, columns, chosen, key)
        _keep_rows(part, chosen)
    _refuse_unmatched(columns, seen, seen if found and not layout else [str(c) for part in parts for c in part.frame])
    for part in parts:
        widen(part)
    if key and len(parts) > 1:
        parts = [joined(parts, key)]
    elif join:
        ids_of(parts[0], str(key), [])
    for part in parts:
        if key in part.frame and "run_id" not in part.frame:
            part.frame = part.frame.rename(columns={key: "run_id"})
        elif chosen.rows_are_runs and "run_id" not in part.frame:
            part.frame["run_id"] = [f"{part.where} row {i}" for i in part.frame.index]
        _set_constants(part, constants or {})
    return parts


def _spell(part: Part, claimed: set[str]) -> None:
    """Give columns that mean a standard one, such as N or LOSS_web, its name, with a note."""
    names: dict[str, str] = {}
    for column in map(str, part.frame.columns):
        name = meant(column)
        if name and not {column, name} & claimed and name not in {*part.frame.columns, *names.values()}:
            names[column] = name
    if names:
        part.frame = part.frame.rename(columns=names)
        read = [f"{theirs} as {name}" for theirs, name in names.items()]
        part.notes.append(f"{part.where}: columns are read otherwise than they are named: {listed(read, 8)}")


def _names(parts: Sequence[Part]) -> str:
    return " + ".join([parts[0].where, *(Path(part.where).name for part in parts[1:])])


def _rename(part: Part, mine: Mapping[str, str], layout: Layout, key: str | None) -> None:
    """Give columns their standard names: those that a person names first, then the layout's, in order of preference."""
    frame = part.frame
    names: dict[str, str] = {}
    taken = {c for c in frame.columns if is_standard(c)}
    own = sorted(mine.items(), key=lambda pair: "*" in pair[0])  # a name wins over a pattern
    for theirs, standard in [*own, *_layout_columns(layout, part, {*mine, key}).items()]:
        for column, word in _matched(theirs, list(frame.columns), {*names, key}).items():
            name = standard.replace("*", word) if word else standard
            if theirs in mine or name == column or name not in taken:
                names[column] = name
                taken.add(name)
    part.frame, part.renamed = frame.rename(columns=names), names
    repeated = part.frame.columns[part.frame.columns.duplicated()]
    if len(repeated):
        raise RunLogError(f"{part.where}: column '{repeated[0]}' appears twice")
    for column in layout.scale.keys() & set(names.values()):
        scaled = parse_numbers(part.frame[column], part.decimal)[0] * layout.scale[column]
        part.frame[column] = scaled.where(scaled.notna(), part.frame[column].astype(object))


def _layout_columns(layout: Layout, part: Part, claimed: set[str | None]) -> Mapping[str, str]:
    """Return the layout's columns; in the file whose remaining columns sum to one, what is left are weights."""
    rest = [c for c in part.frame.columns if c not in layout.columns and c not in claimed]
    if not layout.shares or not rest:
        return layout.columns
    numbers = part.frame[rest].apply(lambda column: parse_numbers(column, part.decimal)[0])
    sums_to_one = numbers.sum(axis=1).between(0.9, 1.1) & (numbers >= 0).all(axis=1)
    return {**layout.columns, "*": "weight_*"} if sums_to_one.mean() > 0.5 else layout.columns


def _matched(theirs: str, columns: Sequence[str], claimed: set[str | None]) -> dict[str, str]:
    """Return the columns that a name or pattern fits, with what * stands for; standard names are nothing else."""
    if theirs in columns or "*" not in theirs:
        return {theirs: ""} if theirs in columns and theirs not in claimed else {}
    expression = re.compile(re.escape(theirs).replace(r"\*", "(.+)"))
    meant = is_standard(theirs.partition("*")[0])
    free = [c for c in columns if c not in claimed and (meant or not is_standard(c))]
    return {c: match[1] for c in free if (match := expression.fullmatch(c))}


def _keep_rows(part: Part, layout: Layout) -> None:
    """Leave out the rows of runs that did not finish."""
    for column, value in layout.keep.items():
        if column not in part.frame:
            part.notes.append(f"{part.where} has no column {column}: all runs are taken for {value}")
            continue
        cells = part.frame[column].tolist()
        other = np.array([cell != value for cell in cells], bool)
        text = lambda i, c=column, v=cells: f"{c} is {v[i]}; left out"  # noqa: E731
        note_rows(part.notes, other, part.where, part.frame.index, text, f"{column} is not {value}; left out")
        part.frame = part.frame[~other]
        part.leave_out(int(other.sum()), f"{column} is not {value}")
        if part.frame.empty and cells:
            raise RunLogError(f"{part.where}: {column} is {value} in none of its {len(cells)} rows")


def _refuse_unmatched(columns: Mapping[str, str], seen: list[str], have: list[str]) -> None:
    """Refuse a name that no file has, unless the standard column is there anyway."""
    for theirs, standard in columns.items():
        there = any(fnmatchcase(c, standard.replace("[", "[[]")) for c in have)
        if not there and not _matched(theirs, seen, set()):
            kind = "pattern" if "*" in theirs else "column"
            raise ConfigError(f"--columns {standard}={theirs}: {unknown_column(theirs, seen, kind)}")


def _set_constants(part: Part, constants: Mapping[str, float]) -> None:
    for column, value in constants.items():
        if column in part.frame:
            raise ConfigError(f"--set {column}={value:g}: {part.where} has a column {column}; leave out one of the two")
        part.frame[column] = float(value)


def _note_unused(part: Part, used: set[str]) -> None:
    others = sorted(c for c in part.frame.columns if not is_standard(c) and c not in used)
    if others:
        part.notes.append(f"{part.where}: columns that are not used: {listed(others)}")
