"""How others lay out their tables: their columns, files and units become one frame with the standard columns.

A layout is data: which column is what, which files belong together. Nothing is guessed: a person names the layout, and
an error over missing columns says which one would fit. Frames travel with the file's row numbers as their index.
"""

import difflib
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.errors import ConfigError, RunLogError, unknown_name

WEIGHT, LOSS, LOSS_SE = "weight_", "loss_", "loss_se_"
PREFIXES = (WEIGHT, LOSS, "available_", "before_", "requested_", "epochs_")
NAMES = ("run_id", "n_params", "n_tokens", "sparsity", "seed", "study", "step", "n_params_non_embedding")
MAX_NOTES = 5  # of one kind; the other rows are named together
MAX_NAMES = 20  # of columns, or of ranges of rows, in one sentence


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


@dataclass
class Part:
    """One table on its way, a file or several joined: the rows that are left, indexed by their numbers in the file."""

    where: str
    frame: pd.DataFrame
    n_rows: int  # of the file
    notes: list[str]


def get_layout(name: str) -> Layout:
    """Return a layout by name, or raise ConfigError with the near match."""
    if name not in LAYOUTS:
        raise ConfigError(unknown_name("layout", name, LAYOUTS))
    return LAYOUTS[name]


def suggestion(columns: Sequence[str]) -> str:
    """Return the end of an error about missing columns: which layout these look like, or nothing."""
    for name, layout in LAYOUTS.items():
        if all(any(fnmatchcase(c, sign) for c in columns) for sign in layout.signs):
            return f"; these look like the '{name}' layout: add --layout {name}"
    return ""


def load_files(
    paths: Sequence[Path],
    columns: Mapping[str, str],
    layout: str | None = None,
    join: str | None = None,
    constants: Mapping[str, float] | None = None,
) -> list[Part]:
    """Read files, give their columns the standard names, and join them where they are one table.

    Parameters
    ----------
    paths : CSV, TSV or parquet files
    columns : names of one's own -> the standard ones; they go before the layout's
    layout : a name in `LAYOUTS`
    join : the column that files are joined by, and that names runs
    constants : columns that the files lack

    Raises
    ------
    ConfigError, RunLogError
        An unknown layout, a pattern that is none; else naming the file and the row or column.
    """
    chosen = get_layout(layout) if layout else Layout()
    key = join or chosen.join
    key = {**chosen.columns, **columns}.get(key, key) if key else None
    for theirs, standard in columns.items():
        if "*" in theirs + standard and (theirs.count("*"), standard.count("*")) != (1, 1):
            raise ConfigError(f"--columns {standard}={theirs}: a pattern has exactly one * on each side")
    texts = {k for k, v in {**chosen.columns, **columns}.items() if v == "run_id"} | {"run_id", key or "run_id"}
    parts = [_read(path, texts) for path in paths]
    seen = [str(c) for part in parts for c in part.frame.columns]
    for part in parts:
        _rename(part, columns, chosen, key)
        _keep_rows(part, chosen)
    _refuse_unmatched(columns, seen, parts)
    if key and len(parts) > 1:
        parts = [_joined(parts, key)]
    elif join:
        _ids(parts[0], str(key), [])
    for part in parts:
        if key in part.frame and "run_id" not in part.frame:
            part.frame = part.frame.rename(columns={key: "run_id"})
        elif chosen.rows_are_runs and "run_id" not in part.frame:
            part.frame["run_id"] = [f"{part.where} row {i}" for i in part.frame.index]
        _set_constants(part, constants or {})
        _note_unused(part)
    return parts


def _read(path: Path, texts: set[str]) -> Part:
    try:
        if path.suffix == ".parquet":
            frame = pd.read_parquet(path)
        else:
            frame = _read_text(path, "\t" if path.suffix == ".tsv" else ",", texts)
    except FileNotFoundError:
        raise RunLogError(f"{path} does not exist") from None
    except (OSError, ValueError, LookupError, TypeError, NotImplementedError, ImportError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunLogError(f"{path} cannot be read as a table: {reason[:160]}") from None
    frame.columns = pd.Index([str(c) for c in frame.columns])
    frame.index = pd.RangeIndex(1, len(frame) + 1)
    return Part(str(path), frame, len(frame), [])


def _read_text(path: Path, separator: str, texts: set[str]) -> pd.DataFrame:
    """Read a CSV; pandas alone would rename a repeated column, and take the first one of too wide rows as an index."""
    header = pd.read_csv(path, sep=separator, header=None, nrows=1, dtype=str).iloc[0].dropna()
    if header.duplicated().any():
        raise ValueError(f"column '{header[header.duplicated()].iloc[0]}' appears twice")
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            return pd.read_csv(path, sep=separator, dtype=dict.fromkeys(texts, str), index_col=False)
        except pd.errors.ParserWarning:
            raise ValueError("rows have more cells than the header has columns") from None


def is_standard(column: str) -> bool:
    """Say whether a column's name is one that this package gives a meaning."""
    return column in NAMES or column.startswith(PREFIXES)


def _rename(part: Part, mine: Mapping[str, str], layout: Layout, key: str | None) -> None:
    """Give columns their standard names: those that a person names first, then the layout's, in order of preference."""
    frame, respelt = part.frame, []
    names: dict[str, str] = {}
    taken = {c for c in frame.columns if is_standard(c)}
    own = sorted(mine.items(), key=lambda pair: "*" in pair[0])  # a name wins over a pattern
    for theirs, standard in [*own, *_layout_columns(layout, frame, {*mine, key}).items()]:
        for column, word in _matched(theirs, frame, {*names, key}).items():
            name = standard.replace("*", _spelt(word)) if word else standard
            if theirs in mine or name == column or name not in taken:
                names[column] = name
                taken.add(name)
                respelt += [f"{column} is {name}"] if _spelt(word) != word else []
    part.frame = frame.rename(columns=names)
    repeated = part.frame.columns[part.frame.columns.duplicated()]
    if len(repeated):
        raise RunLogError(f"{part.where}: column '{repeated[0]}' appears twice")
    for column in layout.scale.keys() & set(names.values()):
        scaled = _as_numbers(part.frame[column]) * layout.scale[column]
        part.frame[column] = scaled.where(scaled.notna(), part.frame[column].astype(object))
    if respelt:
        part.notes.append(f"{part.where}: names of domains and targets are lower case: {listed(respelt)}")


def _layout_columns(layout: Layout, frame: pd.DataFrame, claimed: set[str | None]) -> Mapping[str, str]:
    """Return the layout's columns; in the file whose remaining columns sum to one, what is left are weights."""
    rest = [c for c in frame.columns if c not in layout.columns and c not in claimed]
    if not layout.shares or not rest:
        return layout.columns
    numbers = frame[rest].apply(_as_numbers)
    sums_to_one = numbers.sum(axis=1).between(0.9, 1.1) & (numbers >= 0).all(axis=1)
    return {**layout.columns, "*": "weight_*"} if sums_to_one.mean() > 0.5 else layout.columns


def _matched(theirs: str, frame: pd.DataFrame, claimed: set[str | None]) -> dict[str, str]:
    """Return the columns that a name or pattern fits, with what * stands for; standard names are nothing else."""
    if theirs in frame or "*" not in theirs:
        return {theirs: ""} if theirs in frame and theirs not in claimed else {}
    expression = re.compile(re.escape(theirs).replace(r"\*", "(.+)"))
    meant = is_standard(theirs.partition("*")[0])
    free = [c for c in frame.columns if c not in claimed and (meant or not is_standard(c))]
    return {c: match[1] for c in free if (match := expression.fullmatch(c))}


def _spelt(name: str) -> str:
    """Return a name as those of domains and targets are written."""
    return re.sub(r"[^a-z0-9_-]", "_", name.lower())


def _as_numbers(cells: pd.Series) -> pd.Series:
    """Return cells as floats; what is no number is NaN."""
    try:
        return pd.to_numeric(cells, errors="coerce").astype(float)
    except (OverflowError, TypeError, ValueError):
        return pd.Series(np.nan, index=cells.index)


def _keep_rows(part: Part, layout: Layout) -> None:
    """Leave out the rows of runs that did not finish."""
    for column, value in layout.keep.items():
        if column not in part.frame:
            part.notes.append(f"{part.where} has no column {column}: all runs are taken for {value}")
            continue
        cells = part.frame[column].tolist()
        other = [cell != value for cell in cells]
        text = lambda i, c=column, v=cells: f"{c} is {v[i]}; left out"  # noqa: E731
        note_rows(part.notes, other, part.where, part.frame.index, text, f"{column} is not {value}; left out")
        part.frame = part.frame[~np.asarray(other, bool)]
        if part.frame.empty and cells:
            raise RunLogError(f"{part.where}: {column} is {value} in none of its {len(cells)} rows")


def _refuse_unmatched(columns: Mapping[str, str], seen: list[str], parts: list[Part]) -> None:
    """Refuse a name that no file has, unless the standard column is there anyway."""
    have = [c for part in parts for c in part.frame.columns]
    for theirs, standard in columns.items():
        if not any(fnmatchcase(c, standard.replace("[", "[[]")) for c in have):
            kind = "pattern" if "*" in theirs else "column"
            raise ConfigError(f"--columns {standard}={theirs}: {unknown_column(theirs, seen, kind)}")


def unknown_column(name: str, columns: Sequence[str], kind: str = "column") -> str:
    """Return the sentence for a column that is not there, with the near match and at most 20 of those that are."""
    near = difflib.get_close_matches(name, columns, n=MAX_NAMES, cutoff=0)
    return unknown_name(kind, name, columns if len(columns) <= MAX_NAMES else near)


def _set_constants(part: Part, constants: Mapping[str, float]) -> None:
    for column, value in constants.items():
        if column in part.frame:
            raise ConfigError(f"--set {column}={value:g}: {part.where} has a column {column}; leave out one of the two")
        part.frame[column] = float(value)


def _note_unused(part: Part) -> None:
    others = sorted(c for c in part.frame.columns if not is_standard(c))
    if others:
        part.notes.append(f"{part.where}: columns that are not used: {listed(others)}")


def _joined(parts: list[Part], key: str) -> Part:
    """Return the rows of all files that belong together by the value of `key`, whatever their order.

    A file has every id once, except that one, not that of the mixtures, may have several rows of a run.
    """
    notes = [note for part in parts for note in part.notes]
    ids = [_ids(part, key, notes) for part in parts]
    first = _carrier(parts, ids, key)
    common = set.intersection(*(set(values) for values in ids))
    if not common:
        examples = "; ".join(f"{p.where} has {listed(list(v[:3]))}" for p, v in zip(parts, ids, strict=True))
        raise RunLogError(f"no {key} is in all the files: {examples}")
    for part, values in zip(parts, ids, strict=True):
        others = ("all of " if len(parts) > 2 else "") + " and ".join(p.where for p in parts if p is not part)
        text = lambda i, v=values, o=others: f"{key} {v.iloc[i]} is not in {o}; left out"  # noqa: E731
        missing = ~values.isin(list(common))
        note_rows(notes, missing, part.where, values.index, text, f"their {key} is not in {others}; left out")
    rows = ids[first][ids[first].isin(list(common))]
    frame, where = parts[first].frame.loc[rows.index].assign(**{key: rows}), parts[first].where
    for part, values in zip(parts, ids, strict=True):
        if part is not parts[first]:
            other = part.frame.drop(columns=key).loc[values.index].set_axis(values.to_numpy())
            frame = _beside(frame, other.loc[rows.to_numpy()].set_axis(rows.index), where, part.where, notes)
    names = [Path(part.where).name for part in parts if part is not parts[first]]
    return Part(" + ".join([where, *names]), frame, parts[first].n_rows, notes)


def _carrier(parts: list[Part], ids: list[pd.Series], key: str) -> int:
    """Return which file's rows are those of the joined table: that which repeats ids, or else that of the mixtures."""
    weights = [any(str(c).startswith(WEIGHT) for c in part.frame) for part in parts]
    mixtures = weights.index(True) if any(weights) else 0
    repeated = [i for i, values in enumerate(ids) if values.duplicated().any()]
    if mixtures in repeated or len(repeated) > 1:
        wrong = mixtures if mixtures in repeated else repeated[1]
        twice = ids[wrong][ids[wrong].duplicated()].unique().tolist()
        raise RunLogError(f"{parts[wrong].where}: {key} names a run twice: {listed(twice)}. Which of its rows counts?")
    return repeated[0] if repeated else mixtures


def _ids(part: Part, key: str, notes: list[str]) -> pd.Series:
    """Return the ids of a file as text, without the rows that have none; 7 and 7.0 are one id."""
    if key not in part.frame:
        raise ConfigError(
            f"--join: {part.where} cannot be joined by {key}: {unknown_column(key, list(part.frame.columns))}"
        )
    text = part.frame[key].astype(str).str.strip().str.replace(r"^(-?\d+)\.0+$", r"\1", regex=True)
    empty = (part.frame[key].isna() | (text == "")).to_numpy(bool)
    note_rows(notes, empty, part.where, part.frame.index, lambda _: f"{key} is empty; left out")
    return text[~empty]


def _beside(frame: pd.DataFrame, other: pd.DataFrame, where: str, there: str, notes: list[str]) -> pd.DataFrame:
    """Put the columns of another file beside; a column that both have must say the same."""
    for column in other.columns.intersection(frame.columns):
        one, two = frame[column], other[column]
        differ = (one.astype(str) != two.astype(str)) & (_as_numbers(one) != _as_numbers(two))
        if differ.any() and is_standard(column):
            row = int(np.flatnonzero(differ)[0])
            here = f"{where} row {frame.index[row]}: {column} is {one.iloc[row]}"
            raise RunLogError(f"{here}, but {two.iloc[row]} in {there}")
        if differ.any():
            notes.append(f"{there}: {column} differs from that in {where}; it is left out")
    return frame.join(other[other.columns.difference(frame.columns, sort=False)])


def note_rows(
    notes: list[str], bad: Any, where: str, rows: Any, text: Callable[..., str], rest: str | None = None
) -> None:
    """Add a sentence for each of the first bad rows, and one that names all the others.

    Parameters
    ----------
    bad : (n,) which rows
    rows : (n,) their numbers
    text : position -> what is wrong there and what was done
    rest : the same for the rows that are named together; that of their first by default
    """
    hits, rows = np.flatnonzero(bad), np.asarray(rows)
    notes += [f"{where} row {rows[i]}: {text(i)}" for i in hits[:MAX_NOTES]]
    if len(hits) > MAX_NOTES:
        more = hits[MAX_NOTES:]
        notes.append(f"{where}: {len(more)} more rows ({ranges(rows[more])}): {rest or text(more[0])}")


def ranges(rows: Sequence[int]) -> str:
    """Return row numbers in few words.

    >>> ranges([6, 3, 4, 5, 9])
    '3-6, 9'
    """
    numbers = np.unique(np.asarray(rows, int))
    groups = np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)
    return listed([str(g[0]) if len(g) == 1 else f"{g[0]}-{g[-1]}" for g in groups])


def listed(names: Sequence[object]) -> str:
    """Return names with commas between, the first 20 and how many more."""
    more = f", and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(map(str, names[:MAX_NAMES])) + more
