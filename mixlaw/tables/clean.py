"""Clean a table before laws are fitted: leave out repeated evaluations and warm-up, and note what looks wrong.

Impossible values were refused before, by `mixlaw.tables.check`.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from mixlaw.laws.law import FLOOR
from mixlaw.tables import lr_schedules, unit_checks
from mixlaw.tables.available import gaps
from mixlaw.tables.columns import LOSS, WEIGHT
from mixlaw.tables.factor_levels import level_notes
from mixlaw.tables.notes import listed
from mixlaw.tables.number_parsing import AMOUNT, UNITS
from mixlaw.tables.table import Table
from mixlaw.tables.warm_up import count_warm_up, mean_curves

NEAR = 0.01  # relative: evaluations of one run with closer tokens are repeated
RISEN = 0.02  # relative: a loss that ends further above its lowest value is rising
UNLIKE = 0.10  # relative: rounding of sizes such as 410M

MAX_SHOWN = 3  # examples of one kind in a note
MAX_SIZES = 10  # sizes such as 410M in a note


def prepare(table: Table, keep_warmup: bool = False) -> Table:
    """Return the rows to fit laws to, with a note for everything that was left out or looks wrong.

    Parameters
    ----------
    table : a cleaned table is returned unchanged
    keep_warmup : keep the first checkpoints even if they seem to be in learning-rate warm-up

    Notes
    -----
    Left out: the later of two rows of one run at the same tokens with the same losses; the earlier of two less than 1 %
    apart in tokens; checkpoints in warm-up, see `mixlaw.tables.warm_up`. Kept, with a note: weights of exactly zero,
    losses that end above their lowest value, numbers that seem to be in other units, sizes such as 410M that are not N.
    `warnings` gets what concerns every fit: losses in other units, checkpoints in the middle of a schedule, gaps in the
    available tokens.
    """
    if table.cleaned:
        return table
    notes: list[str] = []
    table = _without_repeated(table, notes)
    table = _without_near(table, notes)
    if not keep_warmup and table.targets:
        table = _without_warm_up(table, notes)
    _note_zeros(table, notes)
    _note_rising(table, notes)
    _note_units(table, notes)
    _note_sizes(table, notes)
    notes += level_notes(table.frame)
    schedule, _ = lr_schedules.mid_schedule_warnings(table.frame, table.domains, table.targets)
    warnings = [*table.warnings, *_unit_warnings(table), *schedule, *gaps(table)]
    return replace(table, notes=table.notes + notes, warnings=warnings, cleaned=True)


def _unit_warnings(table: Table) -> list[str]:
    """Return a warning with row numbers for everything that seems to be in another unit."""
    if _states_units(table):
        return []
    numbers, warnings = table.frame["row"].to_numpy(int), []
    for found in unit_checks.unit_warnings(table.frame, table.domains, table.units):
        rows = "all rows" if found.rows.all() else table.place(numbers[found.rows].tolist())
        warnings.append(f"{rows} ({found.rows.sum()} of {len(numbers)}): {found.text}")
    return warnings


def _states_units(table: Table) -> bool:
    """Return whether a table is of run directories, whose units are known."""
    return any(c.startswith("requested_") for c in map(str, table.frame))


def _without_repeated(table: Table, notes: list[str]) -> Table:
    """Leave out rows that repeat an earlier row of their run at the same tokens; their additional losses are kept.

    Rows with other losses are not repeated: they are runs of their own, see `mixlaw.tables.run_ids`.
    """
    keys, losses = ["run_id", "n_tokens"], [LOSS + t for t in table.targets]
    frame = table.frame.copy()
    again = frame.duplicated(keys).to_numpy(bool)
    if not again.any():
        return table
    number = frame.groupby(keys, sort=False).ngroup().to_numpy()
    first = np.flatnonzero(~again)[number]  # groups are numbered as they appear
    own = frame[losses].to_numpy(float)
    again = again & ~(np.nan_to_num(np.abs(own - own[first])) > 0).any(axis=1)
    frame[losses] = frame[losses].fillna(frame.groupby(keys)[losses].transform("first"))
    pairs = [(frame["row"].iloc[i], frame["row"].iloc[first[i]]) for i in np.flatnonzero(again)]
    one = lambda: f"the same run and tokens as {_there(table, *pairs[0])}; left out"  # noqa: E731
    _note(notes, table, [row for row, _ in pairs], one, "the same run and tokens as an earlier row; left out")
    return replace(table, frame=frame).without(again, "the same run and tokens as an earlier row")


def _without_near(table: Table, notes: list[str]) -> Table:
    """Leave out evaluations that are followed by another one of their run less than 1 % of the tokens later."""
    frame = table.frame
    out, found = np.zeros(len(frame), bool), []
    for _, run in _of_several_rows(frame.reset_index(drop=True)).sort_values("n_tokens").groupby("run_id"):
        tokens, places = run["n_tokens"].to_numpy(float), run.index.to_numpy()
        kept = len(run) - 1
        for i in range(len(run) - 2, -1, -1):
            gap = tokens[kept] - tokens[i]
            if gap >= NEAR * tokens[kept] or gap == 0:
                kept = i
                continue
            out[places[i]] = True
            found.append((frame["row"].iloc[places[i]], frame["row"].iloc[places[kept]], gap))

    def one() -> str:
        row, later, gap = found[0]
        return f"{gap:.3g} tokens, less than 1 %, before {_there(table, row, later)} of the same run; left out"

    reason = "less than 1 % of the tokens before the next row of their run"
    _note(notes, table, [row for row, _, _ in found], one, f"{reason}; left out")
    return table.without(out, reason)


def _without_warm_up(table: Table, notes: list[str]) -> Table:
    """Leave out checkpoints in warm-up; runs of one size with the same first and last one are judged together."""
    frame = table.frame
    ends = [frame.groupby("run_id")["n_tokens"].transform(end) for end in ("min", "max")]
    out, found = np.zeros(len(frame), bool), []
    for _, group in frame.groupby(["n_params", *ends]):
        tokens, losses = mean_curves(group, table.targets)
        count, target, excess = count_warm_up(tokens, losses)
        if count:
            out[group.index[group["n_tokens"] <= tokens[count - 1]].to_numpy()] = True
            n_runs = group["run_id"].nunique()
            runs = f"{n_runs} runs with {_short(group['n_params'].iloc[0])} parameters" if n_runs > 1 else "its run"
            found.append((excess, f"up to {tokens[count - 1]:.4g} tokens of {runs}", table.targets[target]))
    found.sort(reverse=True)
    rows = frame["row"][out].tolist()
    text = lambda: (  # noqa: E731
        f"in warm-up: {listed([where for _, where, _ in found], MAX_SHOWN)}, loss_{found[0][2]} is up to "
        f"{100 * found[0][0]:.1f} % above any law that fits the later checkpoints; left out"
    )
    _note(notes, table, rows, text)
    return table.without(out, "in warm-up")


def _of_several_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of runs that have several rows."""
    return frame[frame.duplicated("run_id", keep=False)]


def _note_zeros(table: Table, notes: list[str]) -> None:
    counts = {d: int((table.frame[WEIGHT + d] == 0).sum()) for d in table.domains}
    counts = {d: n for d, n in counts.items() if n}
    if counts:
        shown = listed([f"{WEIGHT}{d} in {n} row{'s' if n > 1 else ''}" for d, n in counts.items()])
        notes.append(f"weights of exactly 0, which laws see as {FLOOR:g}: {shown}")


def _note_rising(table: Table, notes: list[str]) -> None:
    """Note the runs whose loss ends above its lowest value; in finetuning, forgetting may raise it."""
    targets = [t for t in table.targets if f"before_{t}" not in table.frame]
    found = []
    for name, run in _of_several_rows(table.frame).sort_values("n_tokens").groupby("run_id", sort=False):
        losses, rows = run[[LOSS + t for t in targets]].ffill().to_numpy(float), run["row"].tolist()
        rise = np.nan_to_num(losses[-1] / np.fmin.reduce(losses) - 1)
        if not (rise > RISEN).any():
            continue
        worst = int(rise.argmax())
        low = rows[int(np.nanargmin(losses[:, worst]))]
        run_name = "its run" if " group " in str(name) else f"run {name}"
        text = f"loss_{targets[worst]} ends {100 * rise[worst]:.1f} % above the lowest of {run_name}, "
        found.append((float(rise[worst]), text + _there(table, rows[-1], low), rows[-1], int((rise > RISEN).sum()) - 1))
    found.sort(key=lambda end: (-end[0], end[2]))
    others = f", {found[0][3]} other targets also rise" if found and found[0][3] else ""
    many = f"the ends of runs whose loss has risen; {found[0][1] if found else ''}; kept"
    _note(notes, table, [row for *_, row, _ in found], lambda: f"{found[0][1]}{others}; kept", many)


def _note_units(table: Table, notes: list[str]) -> None:
    if _states_units(table):
        return
    for column, least, guess in (("n_params", 1e5, "millions"), ("n_tokens", 1e6, "steps, or billions")):
        high = table.frame[column].max()
        if high < least:
            notes.append(f"{column} is at most {high:g} in all rows: {guess}? It should be a plain number; kept")


def _note_sizes(table: Table, notes: list[str]) -> None:
    """Compare N with sizes such as "410M" in text columns."""
    frame, found, rows = table.frame, [], []
    for column in frame.columns:
        if column == "run_id" or "tok" in column.lower() or pd.api.types.is_numeric_dtype(frame[column]):
            continue
        matches = [AMOUNT.fullmatch(str(cell)) for cell in frame[column]]
        stated = np.array([float(m[1]) * UNITS[m[2].lower()] if m else np.nan for m in matches])
        unlike = np.abs(frame["n_params"].to_numpy(float) - stated) > UNLIKE * stated
        for (words, n), of_size in frame[unlike].groupby([column, "n_params"], sort=False)["row"]:
            found.append(f"{column} says {words}, n_params {_short(n)}")
            rows += of_size.tolist()
    text = lambda: f"{'; '.join(found[:MAX_SIZES])}: N without embeddings? The law's N is n_params; kept"  # noqa: E731
    _note(notes, table, rows, text)


def _short(count: float) -> str:
    """Return a count with a unit: 302M."""
    unit = max((u for u in UNITS if UNITS[u] <= count), key=UNITS.__getitem__, default="")
    return f"{count / UNITS.get(unit, 1):.3g}{unit.upper()}"


def _there(table: Table, row: int, other: int) -> str:
    """Return the place of `other` for a sentence about `row`: only its number if both are of one input."""
    here, there = table.place([row]), table.place([other])
    source = here.rpartition("row ")[0]
    return there.removeprefix(source)


def _note(notes: list[str], table: Table, rows: list[int], one: Callable[[], str], many: str = "") -> None:
    """Append one note about rows, or nothing if there are none; `many` is the text for several rows."""
    if rows:
        notes.append(f"{table.place(rows)}: {many if many and len(rows) > 1 else one()}")
