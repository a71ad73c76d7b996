"""What is done to a table before laws are fitted to it: every row that is left out or odd is named, with the reason.

Rows of repeated or nearly repeated evaluations and of learning-rate warm-up are left out; everything else is kept and
said. What cannot be true at all was refused by `mixlaw.tables.check` before.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from mixlaw.laws.registry import FLOOR
from mixlaw.tables import lr_schedules, unit_checks
from mixlaw.tables.columns import LOSS, WEIGHT
from mixlaw.tables.factor_levels import level_notes
from mixlaw.tables.notes import listed
from mixlaw.tables.number_parsing import AMOUNT, UNITS
from mixlaw.tables.table import Array, Table

NEAR = 0.01  # evaluations of one run whose tokens differ by less say the same thing twice
RISEN = 0.02  # of its lowest: a loss that ends further above it is not falling
UNLIKE = 0.10  # a size in words may be rounded by this much

EXPONENTS = np.linspace(0.01, 1, 100)  # of D, as laws allow them
WARM_UP = 0.25  # of a run's tokens: later checkpoints are never taken for warm-up
EXCESS = 0.015  # above every law that fits the later checkpoints; real curves bend by about half of it
LEVEL = 0.99  # how sure that has to be, against the later checkpoints' own scatter
SHARE = 1 / 8  # of the targets that must show it
MIN_CHECKPOINTS = 6  # one to judge by five others: three parameters, and two more to see the scatter

MAX_SHOWN = 3  # examples of one kind in a note
MAX_SIZES = 10  # sizes in words in a note


def prepare(table: Table, keep_warmup: bool = False) -> Table:
    """Return the rows that laws should be fitted to, with a note for everything that was left out or is odd.

    Parameters
    ----------
    table : one that is cleaned already is returned as it is
    keep_warmup : keep the first checkpoints even where the learning rate seems to have been warming up

    Notes
    -----
    Left out: the later of two rows of one run at the same tokens with the same losses; the earlier of two less than 1 %
    apart in tokens; checkpoints in warm-up, see `warming_up`. Kept, with a note: weights of exactly zero, losses that
    end above their lowest, numbers that seem to be in other units, sizes in words that are not N. What casts doubt on
    every fit is in `doubts`: losses in other units, checkpoints in the middle of a schedule.
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
    middle, _ = lr_schedules.doubts(table.frame, table.domains, table.targets)
    doubts = [*table.doubts, *_odd_units(table), *middle]
    return replace(table, notes=table.notes + notes, doubts=doubts, cleaned=True)


def _odd_units(table: Table) -> list[str]:
    """Return what seems to be in another unit, each with its rows."""
    if _states_units(table):
        return []
    numbers, said = table.frame["row"].to_numpy(int), []
    for doubt in unit_checks.doubts(table.frame, table.domains, table.units):
        rows = "all rows" if doubt.rows.all() else table.place(numbers[doubt.rows].tolist())
        said.append(f"{rows} ({doubt.rows.sum()} of {len(numbers)}): {doubt.text}")
    return said


def _states_units(table: Table) -> bool:
    """Say whether a table is of run directories, whose losses and counts have known units."""
    return any(c.startswith("requested_") for c in map(str, table.frame))


def _without_repeated(table: Table, notes: list[str]) -> Table:
    """Leave out rows that repeat an earlier one of their run at the same tokens; losses that only they have stay.

    Rows whose losses differ are none: they are runs of their own, see `mixlaw.tables.run_ids`.
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
    _note(
        notes, table, [row for row, _ in pairs],
        lambda: f"the same run and tokens as {_there(table, *pairs[0])}; left out",
        "the same run and tokens as an earlier row; left out",
    )  # fmt: skip
    return replace(table, frame=frame).without(again, "the same run and tokens as an earlier row")


def _without_near(table: Table, notes: list[str]) -> Table:
    """Leave out evaluations that are followed by another of their run less than 1 % of the tokens later."""
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
    _note(
        notes, table, [row for row, _, _ in found],
        lambda: (
            f"{found[0][2]:.3g} tokens, less than 1 %, before {_there(table, *found[0][:2])} of the same run; left out"
        ),
        "less than 1 % of the tokens before the next row of their run; left out",
    )  # fmt: skip
    return table.without(out, "less than 1 % of the tokens before the next row of their run")


def _without_warm_up(table: Table, notes: list[str]) -> Table:
    """Leave out checkpoints in warm-up; runs of one size with the same first and last one are judged together."""
    frame = table.frame
    ends = [frame.groupby("run_id")["n_tokens"].transform(end) for end in ("min", "max")]
    out, found = np.zeros(len(frame), bool), []
    for _, group in frame.groupby(["n_params", *ends]):
        tokens, losses = _mean_curves(group, table.targets)
        count, target, excess = warming_up(tokens, losses)
        if count:
            out[group.index[group["n_tokens"] <= tokens[count - 1]].to_numpy()] = True
            n_runs = group["run_id"].nunique()
            runs = f"{n_runs} runs with {_short(group['n_params'].iloc[0])} parameters" if n_runs > 1 else "its run"
            found.append((excess, f"up to {tokens[count - 1]:.4g} tokens of {runs}", table.targets[target]))
    found.sort(reverse=True)
    rows = frame["row"][out].tolist()
    text = lambda: (  # noqa: E731
        f"in warm-up: {listed([where for _, where, _ in found], MAX_SHOWN)}, loss_{found[0][2]} is up to "
        f"{100 * found[0][0]:.1f} % above any law that fits what follows; left out"
    )
    _note(notes, table, rows, text)
    return table.without(out, "in warm-up")


def _of_several_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of runs that have several."""
    return frame[frame.duplicated("run_id", keep=False)]


def _mean_curves(group: pd.DataFrame, targets: list[str]) -> tuple[Array, Array]:
    """Return the tokens (m,) that most runs were evaluated at, and the losses (t, m) there.

    They are averaged over the runs that have all of a target's, NaN if there are none: a mean of laws is a law.
    """
    counts = group["n_tokens"].value_counts()
    tokens = np.sort(counts.index[2 * counts > group["run_id"].nunique()].to_numpy(float))
    if len(tokens) < MIN_CHECKPOINTS:
        return tokens, np.empty((len(targets), 0))
    wide = group.groupby(["run_id", "n_tokens"])[[LOSS + t for t in targets]].mean().unstack("n_tokens")
    whole = [wide[LOSS + t][tokens].dropna().to_numpy(float) for t in targets]
    return tokens, np.stack([runs.mean(axis=0) if len(runs) else np.full(len(tokens), np.nan) for runs in whole])


def warming_up(tokens: Array, losses: Array) -> tuple[int, int, float]:
    """Return how many of the first checkpoints are in warm-up, the target that shows it most, and by how much.

    A law E + B D^-beta, beta in (0, 1], is fitted by least squares to the checkpoints after each one that do not depart
    themselves, for every beta on a grid. A checkpoint departs where its loss is 1.5 % above the highest prediction of
    all beta that fit, their 99 % bounds included, in an eighth of the targets. As D^-beta is concave in 1/D for
    beta <= 1, a curve that follows a law never departs. All up to the last departure count, if at least half of them
    depart; none after a quarter of the tokens does.

    Parameters
    ----------
    tokens : (m,) rising
    losses : (t, m) one curve per target; NaN where unknown
    """
    early = int((tokens <= WARM_UP * tokens[-1]).sum()) if len(tokens) >= MIN_CHECKPOINTS else 0
    excess, sound = np.zeros((len(losses), early)), np.ones(len(tokens), bool)
    for i in reversed(range(early)):
        later = sound & (np.arange(len(tokens)) > i)
        excess[:, i] = [_excess(tokens[i], y[i], tokens[later], y[later]) for y in losses]
        sound[i] = (excess[:, i] > EXCESS).sum() < max(SHARE * len(losses), 1)
    departs = ~sound[:early]
    ends = np.flatnonzero(departs & (2 * departs.cumsum() > np.arange(early)))
    if not len(ends):
        return 0, 0, 0.0
    worst = excess[:, : ends[-1] + 1].max(axis=1)
    return int(ends[-1]) + 1, int(worst.argmax()), float(worst.max())


def _excess(tokens: float, loss: float, later_tokens: Array, later: Array) -> float:
    """Return how far a loss is above the laws that fit the later ones, as a share of their prediction."""
    m = len(later)
    if m < MIN_CHECKPOINTS - 1 or not np.isfinite([loss, *later]).all():
        return 0.0
    powers = -EXPONENTS[:, None]
    x, y = (later_tokens / later_tokens[-1]) ** powers, later - later.mean()
    centred = x - x.mean(1, keepdims=True)
    spread = (centred**2).sum(1)
    slope = centred @ y / spread
    misfit = ((y - slope[:, None] * centred) ** 2).sum(1)
    variance, quantile = misfit.min() / (m - 3), stdtrit(m - 3, LEVEL)
    fits = misfit <= misfit.min() + quantile**2 * variance
    fits[1:] |= fits[:-1].copy()  # the true exponent lies between two of the grid's
    reach = (tokens / later_tokens[-1]) ** powers[:, 0] - x.mean(1)
    bound = later.mean() + slope * reach + quantile * np.sqrt(variance * (1 + 1 / m + reach**2 / spread))
    falls = np.isfinite(bound[fits]).all() and (slope[fits] > 0).all()  # else no law says what was before
    return float(loss / bound[fits].max() - 1) if falls else 0.0


def _note_zeros(table: Table, notes: list[str]) -> None:
    counts = {d: int((table.frame[WEIGHT + d] == 0).sum()) for d in table.domains}
    counts = {d: n for d, n in counts.items() if n}
    if counts:
        shown = listed([f"{WEIGHT}{d} in {n} row{'s' if n > 1 else ''}" for d, n in counts.items()])
        notes.append(f"weights of exactly 0, which laws see as {FLOOR:g}: {shown}")


def _note_rising(table: Table, notes: list[str]) -> None:
    """Name the runs whose loss ends above its lowest; what is forgotten in finetuning may rise."""
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
    _note(
        notes, table, [row for *_, row, _ in found], lambda: f"{found[0][1]}{others}; kept",
        f"the ends of runs whose loss has risen; {found[0][1] if found else ''}; kept",
    )  # fmt: skip


def _note_units(table: Table, notes: list[str]) -> None:
    if _states_units(table):
        return
    for column, least, guess in (("n_params", 1e5, "millions"), ("n_tokens", 1e6, "steps, or billions")):
        high = table.frame[column].max()
        if high < least:
            notes.append(f"{column} is at most {high:g} in all rows: {guess}? It should be a plain number; kept")


def _note_sizes(table: Table, notes: list[str]) -> None:
    """Compare N with what a column such as size = "410M" says."""
    frame, found, rows = table.frame, [], []
    for column in frame.columns:
        if column == "run_id" or "tok" in column.lower() or pd.api.types.is_numeric_dtype(frame[column]):
            continue
        matches = [AMOUNT.fullmatch(str(cell)) for cell in frame[column]]
        said = np.array([float(m[1]) * UNITS[m[2].lower()] if m else np.nan for m in matches])
        unlike = np.abs(frame["n_params"].to_numpy(float) - said) > UNLIKE * said
        for (words, n), of_size in frame[unlike].groupby([column, "n_params"], sort=False)["row"]:
            found.append(f"{column} says {words}, n_params {_short(n)}")
            rows += of_size.tolist()
    text = lambda: f"{'; '.join(found[:MAX_SIZES])}: N without embeddings? The law's N is n_params; kept"  # noqa: E731
    _note(notes, table, rows, text)


def _short(count: float) -> str:
    """Return a count as people write it: 302M."""
    unit = max((u for u in UNITS if UNITS[u] <= count), key=UNITS.__getitem__, default="")
    return f"{count / UNITS.get(unit, 1):.3g}{unit.upper()}"


def _there(table: Table, row: int, other: int) -> str:
    """Name a row as seen from another: by its number alone where both are of one input."""
    here, there = table.place([row]), table.place([other])
    source = here.rpartition("row ")[0]
    return there.removeprefix(source)


def _note(notes: list[str], table: Table, rows: list[int], one: Callable[[], str], many: str = "") -> None:
    """Add one line about rows, or nothing where there are none; `many` is said of several."""
    if rows:
        notes.append(f"{table.place(rows)}: {many if many and len(rows) > 1 else one()}")
