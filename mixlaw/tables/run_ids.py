"""Assign rows to runs. Rows of one run are its checkpoints; two losses at the same N, D and mixture are two runs.

Without a column run_id, rows of one size, mixture, seed and sparsity are one run if no two of them have the same tokens
and other losses, and if their tokens are evenly spaced or shared with other runs. Columns such as lr or dataset that
distinguish repeated rows distinguish runs. All other rows are runs of their own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.errors import ConfigError
from mixlaw.tables.columns import LOSS, WEIGHT, is_standard, unknown_column
from mixlaw.tables.notes import listed, rows_in

Numbers = NDArray[np.integer[Any]]
Flags = NDArray[np.bool_]
NEAR = 0.01  # relative: closer tokens count as equal
ALIKE = 0.002  # relative: losses of one run at nearly equal tokens differ by less
EVEN = 0.05  # relative: variation of the steps of a regular grid of checkpoints
MIN_EVEN = 4  # checkpoints needed to recognise a grid
DIGITS = 6  # to which weights and tokens are rounded for comparison
STEPS = ("step", "steps", "global_step", "train_step", "iter", "iters", "iteration", "iterations", "checkpoint", "ckpt")
OFTEN = 0.05  # share of repeated rows above which tokens shared with other runs are no evidence for checkpoints
MAX_SHOWN = 6  # columns shown in a note


@dataclass(frozen=True)
class RunNaming:
    """How the user identifies runs.

    Attributes
    ----------
    columns : columns whose values together name a run
    rows_are_runs : whether every row is a run of its own
    """

    columns: tuple[str, ...] = ()
    rows_are_runs: bool = False


def assign_run_ids(
    frame: pd.DataFrame, domains: list[str], targets: list[str], where: str, naming: RunNaming
) -> list[str]:
    """Add or complete the column run_id in place; return notes.

    Parameters
    ----------
    frame : row, n_params, n_tokens, weights and losses as numbers

    Raises
    ------
    ConfigError
        If a column of `naming` does not exist, or `naming` asks for both ways.
    """
    losses = frame[[LOSS + t for t in targets]].to_numpy(float)
    if naming.rows_are_runs:
        if naming.columns:
            raise ConfigError("--run-id and --rows-are-runs are two ways to name runs: give one of them")
        frame["run_id"] = [f"{where} row {row}" for row in frame["row"]]
        return []
    if naming.columns:
        frame["run_id"] = _joined_names(frame, naming.columns, where)
    if "run_id" in frame:
        frame["run_id"] = frame["run_id"].astype(str).str.strip()
        return _split_repeated(frame, domains, losses, where)
    design = _designs(frame, domains, *(c for c in ("seed", "sparsity") if c in frame))
    repeated = _contradicts(frame, design, losses, near=True)
    if not repeated.any():
        frame["run_id"] = _ids(frame, design, losses, _is_sequence(frame, design, often=False), where)
        return []
    number, telling = _told_apart(frame, design, losses, near=True)
    whole = _is_sequence(frame, number, often=repeated.mean() > OFTEN)
    whole &= ~_any_of_group(_contradicts(frame, number, losses, near=True), number)
    frame["run_id"] = _ids(frame, number, losses, whole, where)
    return [_note_repeated(frame, repeated, telling, design, where)]


def _designs(frame: pd.DataFrame, domains: list[str], *more: str) -> Numbers:
    """Return the group (n,) of each row by N, mixture, available tokens and further columns."""
    mixtures = frame[[WEIGHT + d for d in domains]].round(DIGITS)
    available = [c for c in map(str, frame.columns) if c.startswith("available_")]
    keys = [frame[c] for c in ("n_params", *more, *available)] + [mixtures[c] for c in mixtures]
    return frame.groupby(keys, sort=False, dropna=False).ngroup().to_numpy()


def _joined_names(frame: pd.DataFrame, columns: Sequence[str], where: str) -> pd.Series:
    for column in columns:
        if column not in frame:
            known = [c for c in map(str, frame.columns) if c != "row"]
            raise ConfigError(f"--run-id {column}: {where}: {unknown_column(column, known)}")
    cells = [frame[column].astype(object).map(str) for column in columns]
    return pd.Series([", ".join(values) for values in zip(*cells, strict=True)], frame.index)


def _split_repeated(frame: pd.DataFrame, domains: list[str], losses: NDArray[np.float64], where: str) -> list[str]:
    """Split rows that have the id and tokens of another row but other losses into runs of their own, with a note."""
    number: Numbers = pd.factorize(frame["run_id"])[0]
    repeated = _contradicts(frame, number, losses)
    if not repeated.any():
        return []
    split = _any_of_group(repeated, number)
    names, designs = frame["run_id"].astype(object), _designs(frame, domains, "run_id")
    by_design = _contradicts(frame, designs, losses).sum() < repeated.sum()
    if by_design:
        number = designs
        names = names.where(~split, names + [f", design {design}" for design in designs])
    apart, telling = _told_apart(frame, number, losses)
    still = _contradicts(frame, apart, losses)
    for column in telling:
        names = names.where(~split, names + [f", {column} {value}" for value in frame[column]])
    own = _ids(frame, apart, losses, np.zeros(len(frame), bool), where)
    telling = [*(["n_params and weights"] if by_design else []), *telling]
    frame["run_id"] = names.where(~still, names.astype(str) + " at " + own)
    how = f"told apart by {listed(telling)}" if telling else "--run-id COLUMN,COLUMN names what tells them apart"
    return [
        f"{rows_in(where, frame['row'][repeated])}: other losses at the same run_id and n_tokens: these are different "
        f"runs, {how}"
    ]


def _note_repeated(frame: pd.DataFrame, repeated: Flags, telling: list[str], design: Numbers, where: str) -> str:
    differing = [c for c in _settings(frame) if _varies(frame[c], design, repeated)]
    differing = [c for c in differing if _n_values(frame[c]) < len(frame)] or differing
    shown = [f"{c} ({frame[c].nunique()} values)" for c in dict.fromkeys([*telling, *differing])]
    how = f"They differ in {listed(shown, MAX_SHOWN)}" if shown else "No column tells them apart"
    return (
        f"{where}: {int(repeated.sum())} of {len(frame)} rows have the n_params, n_tokens and weights of others, and "
        f"other losses: they count as different runs. {how}. A law averages over them: --best keeps the "
        "lowest loss of each, --run-id COLUMN,COLUMN names the columns that tell runs apart"
    )


def _settings(frame: pd.DataFrame) -> list[str]:
    """Return the columns that may distinguish runs, those with the fewest values first."""
    columns = [c for c in map(str, frame.columns) if c in ("seed", "study") or not (is_standard(c) or c == "row")]
    n_values = {column: _n_values(frame[column]) for column in columns}
    return sorted((column for column in columns if n_values[column] > 1), key=n_values.__getitem__)


def _n_values(cells: pd.Series) -> int:
    return len(set(_codes(cells)))


def _codes(cells: pd.Series) -> Numbers:
    """Return cells as integer codes; empty cells are one value."""
    return pd.factorize(cells.map(str, na_action="ignore"))[0]


def _varies(cells: pd.Series, design: Numbers, repeated: Flags) -> bool:
    pairs = pd.DataFrame({"design": design[repeated], "value": _codes(cells)[repeated]})
    return bool((pairs.groupby("design")["value"].nunique() > 1).any())


def _told_apart(
    frame: pd.DataFrame, number: Numbers, losses: NDArray[np.float64], near: bool = False
) -> tuple[Numbers, list[str]]:
    """Return groups refined by the columns that distinguish repeated rows, and these columns.

    Greedy: columns with few values first, and only those that reduce the number of contradictions.
    """
    tokens, telling = frame["n_tokens"].to_numpy(float), []

    def too_many(number: Numbers) -> int:
        """Return how many rows would have to be removed to resolve all contradictions."""
        found = _contradicts(frame, number, losses, near)
        groups = token_groups(number, tokens, NEAR if near else 0.0)
        return int(found.sum()) - len(np.unique(groups[found]))

    left = too_many(number)
    for column in _settings(frame):
        if not left:
            break
        finer = pd.factorize(pd.Series(list(zip(number, _codes(frame[column]), strict=True))))[0]
        count = too_many(finer)
        if count < left:
            number, left = finer, count
            telling.append(column)
    return number, telling


def _contradicts(frame: pd.DataFrame, number: Numbers, losses: NDArray[np.float64], near: bool = False) -> Flags:
    """Return a mask (n,) of rows with other losses than a row of their group at equal (near: similar) tokens."""
    tokens = frame["n_tokens"].to_numpy(float)
    found = _spread(losses, token_groups(number, tokens, 0.0)) > 0
    nearly = (_spread(losses, token_groups(number, tokens, NEAR)) > ALIKE) & ~found if near else found
    if (nearly & ~found).any():
        found |= nearly & ~_per_group(number, tokens, _is_even)
    return found


def token_groups(number: Numbers, tokens: NDArray[np.float64], width: float) -> Numbers:
    """Return subgroups (n,): rows of one group whose tokens are at most `width` (relative) above the lowest of them."""
    order = np.lexsort((tokens, number))
    groups, current = np.empty(len(order), np.int64), -1
    if width == 0 and len(order):
        new = (np.diff(number[order]) != 0) | (np.diff(tokens[order]) != 0)
        groups[order] = np.r_[0, new.cumsum()]
        return groups
    group, lowest = -1, -np.inf
    for i in order:
        if number[i] != group or tokens[i] > lowest * (1 + width):
            current, group, lowest = current + 1, number[i], tokens[i]
        groups[i] = current
    return groups


def _spread(losses: NDArray[np.float64], groups: Numbers) -> NDArray[np.float64]:
    """Return the largest relative range (n,), over targets, of losses in each row's group."""
    if not losses.shape[1] or not len(groups):
        return np.zeros(len(groups))
    grouped = pd.DataFrame(losses).groupby(groups)
    low, high = grouped.min().to_numpy(), grouped.max().to_numpy()
    with np.errstate(invalid="ignore"):
        spread = np.nan_to_num((high - low) / np.maximum(np.abs(high), 1e-300)).max(axis=1)
    return spread[groups]


def _any_of_group(flags: Flags, number: Numbers) -> Flags:
    return np.isin(number, number[flags])


def _per_group(number: Numbers, tokens: NDArray[np.float64], test: Callable[[NDArray[np.float64]], bool]) -> Flags:
    """Return the result (n,) of a test of the distinct tokens of each row's group."""
    verdicts = pd.Series(tokens).groupby(number).agg(lambda group: bool(test(np.unique(group))))
    return verdicts.reindex(number).to_numpy(bool)


def _is_even(tokens: NDArray[np.float64]) -> bool:
    """Return whether tokens or their logarithms are evenly spaced."""
    if len(tokens) < MIN_EVEN or tokens[0] <= 0:
        return False
    steps = (np.diff(tokens), np.diff(np.log(tokens)))
    return any(np.ptp(step) <= EVEN * step.mean() for step in steps)


def _is_sequence(frame: pd.DataFrame, number: Numbers, often: bool) -> Flags:
    """Return a mask (n,) of rows whose group is certainly one run; `often`: many rows are repeated."""
    tokens = frame["n_tokens"].to_numpy(float)
    if len(number) and number.max() == 0:
        return np.ones(len(frame), bool)
    with np.errstate(divide="ignore"):
        rounded = pd.Series([f"{value:.{DIGITS}g}" for value in tokens])
    pairs = pd.DataFrame({"tokens": rounded, "number": number}).drop_duplicates()
    shared = rounded.map(pairs.groupby("tokens").size()).to_numpy() > 1
    even = _per_group(number, tokens, _is_even)
    on_grid = (pd.Series(shared).groupby(number).transform("mean").to_numpy() >= 0.5) & (not often)
    alone = pd.Series(number).groupby(number).transform("size").to_numpy() == 1
    stepped = np.zeros(len(frame), bool)
    for column in (c for c in map(str, frame.columns) if c.lower() in STEPS):
        stepped |= _rises_with(frame[column], tokens, number)
    return on_grid | even | alone | stepped


def _rises_with(cells: pd.Series, tokens: NDArray[np.float64], number: Numbers) -> Flags:
    """Return a mask (n,): the column rises with the tokens in the row's group."""
    steps = pd.to_numeric(cells, errors="coerce").to_numpy(float)
    order = np.lexsort((tokens, number))
    same = np.diff(number[order]) == 0
    rising = (np.diff(steps[order]) > 0) | (np.diff(tokens[order]) == 0)
    falls = order[1:][same & ~rising]
    return ~np.isin(number, number[falls]) & np.isfinite(steps)


def _ids(frame: pd.DataFrame, number: Numbers, losses: NDArray[np.float64], whole: Flags, where: str) -> pd.Series:
    """Return run ids: the group where it is one run, else the row, or the first of identical rows."""
    tokens = frame["n_tokens"].to_numpy(float)
    groups = token_groups(number, tokens, 0.0)
    differ = _spread(losses, groups) > 0
    same = [(int(c), losses[i].tobytes() if d else b"") for i, (c, d) in enumerate(zip(groups, differ, strict=True))]
    first: dict[tuple[int, bytes], int] = {}
    for key, row in zip(same, frame["row"], strict=True):
        first.setdefault(key, int(row))
    ids = [
        f"{where} group {group}" if one else f"{where} row {first[key]}"
        for group, one, key in zip(number, whole, same, strict=True)
    ]
    return pd.Series(ids, frame.index, dtype=object)


def best_rows(frame: pd.DataFrame, domains: list[str], targets: list[str]) -> Flags:
    """Return a mask (n,) of the row with the lowest mean loss for each N, D and mixture.

    The mean is over the targets that all of these rows have; tokens within 1 % count as equal.
    """
    groups = token_groups(_designs(frame, domains), frame["n_tokens"].to_numpy(float), NEAR)
    losses = frame[[LOSS + t for t in targets]].reset_index(drop=True)
    common = losses.mask(losses.isna().groupby(groups).transform("any"))
    mean = common.mean(axis=1).fillna(losses.mean(axis=1)).fillna(np.inf)
    order = np.lexsort((mean.to_numpy(float), groups))
    best = np.zeros(len(frame), bool)
    best[order[np.r_[True, np.diff(groups[order]) > 0]]] = len(order) > 0
    return best
