"""Checkpoints in the middle of a schedule: where the learning rate falls, they are not the ends of shorter runs.

A law L(N, D, h) is about ends of runs. At a constant rate every checkpoint is one; under a cosine or a cool-down the
last one alone is, and those before lie above it (Hoffmann et al. 2022, appendix B; Hägele et al. 2024).
"""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.tables.columns import WEIGHT

Array = NDArray[np.float64]
RATE = re.compile(r"(^|[./_ ])(lr|learning_?rate)$")
FALLEN = 0.8  # of the highest rate of its run: an end at less is that of a schedule
FALLEN_FAR = 1 / 3  # ... and so far where rows have no id: rates may be chosen for D, too
AGAINST = 0.25  # rank correlation of rate and D, negative, where it falls
ABOVE = 1.25  # times the rate at the end of its run, or more: in the middle of the schedule
ALIKE = 0.02  # share of the tokens in which mixtures may differ, and relative difference of N
LEAST_PAIRS = 6  # ends beside other runs' checkpoints, to say anything without a column of rates
LEAST_GAP = 0.004  # by which such checkpoints must lie above, relative
LEAST_SHARE = 0.9  # of the pairs that must show it


def rate_column(frame: pd.DataFrame) -> str:
    """Return the column that holds learning rates along the runs, or nothing."""
    for column in map(str, frame.columns):
        if RATE.search(column.lower()) and pd.api.types.is_numeric_dtype(frame[column]) and frame[column].notna().any():
            return column
    return ""


def is_last(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Return (n,) which rows are the last of their run.

    Where no run has an id of its own and the rate falls at one size and mixture, ends are where it is as low as it
    gets.
    """
    last = ~frame.sort_values("n_tokens", kind="stable").duplicated("run_id", keep="last").sort_index()
    if not _without_ids(frame):
        return last.to_numpy(bool)
    falls, over = _fallen(frame, FALLEN)
    return np.where(falls, over, last).astype(bool)


def falls_between_rows(frame: pd.DataFrame) -> bool:
    """Return whether rows without an id are checkpoints of schedules: their rate falls along D to a third or less."""
    return _without_ids(frame) and not frame.duplicated("run_id").any() and bool(_fallen(frame, FALLEN_FAR)[0].any())


def _without_ids(frame: pd.DataFrame) -> bool:
    return bool(rate_column(frame)) and bool(frame["run_id"].astype(str).str.contains(" group | row ").all())


def _fallen(frame: pd.DataFrame, share: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return (n,) whether the rate falls along D at a row's N and mixture, and whether it is as low as it gets there.

    A rate that was varied on purpose is high and low at the same D, so that it does not fall along D.
    """
    design = [frame["n_params"], *(frame[c].round(4) for c in map(str, frame) if c.startswith(WEIGHT))]
    number = frame.groupby(design, sort=False).ngroup()
    rate = frame[rate_column(frame)].astype(float)
    lowest, highest = rate.groupby(number).transform("min"), rate.groupby(number).transform("max")
    ranks = pd.DataFrame({"rate": rate, "tokens": frame["n_tokens"]}).groupby(number).rank()
    ranks -= ranks.groupby(number).transform("mean")
    moments = pd.DataFrame({"both": ranks.prod(axis=1), "rate": ranks["rate"] ** 2, "tokens": ranks["tokens"] ** 2})
    moments = moments.groupby(number).transform("sum")
    against = moments["both"] < -AGAINST * np.sqrt(moments["rate"] * moments["tokens"])
    falls = (lowest < share * highest) & against
    return falls.to_numpy(bool), (rate <= lowest + 0.01 * (highest - lowest)).to_numpy(bool)


def in_the_middle(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Return (n,) which rows have a learning rate that falls further until the end of their run.

    A warm-up, where the rate rises, is no schedule that falls; a rate that is the same until the end is none either.
    """
    column = rate_column(frame)
    if not column:
        return np.zeros(len(frame), bool)
    if falls_between_rows(frame):
        falls, over = _fallen(frame, FALLEN_FAR)
        return falls & ~over
    rate = frame[column].astype(float)
    ordered = frame.assign(rate=rate).sort_values("n_tokens", kind="stable")
    at_end = frame["run_id"].map(ordered.groupby("run_id")["rate"].last())
    highest = rate.groupby(frame["run_id"]).transform("max")
    middle = (at_end < FALLEN * highest) & (rate > ABOVE * at_end) & ~is_last(frame)
    return middle.to_numpy(bool)


def doubts(frame: pd.DataFrame, domains: Sequence[str], targets: Sequence[str]) -> tuple[list[str], NDArray[np.bool_]]:
    """Return sentences about checkpoints in the middle of a schedule, and which rows they are.

    Parameters
    ----------
    frame : checked rows: run_id, n_params, n_tokens, weight_<domain>, loss_<target>
    """
    none = np.zeros(len(frame), bool)
    if not targets or not (frame.duplicated("run_id").any() or falls_between_rows(frame)):
        return [], none
    remedy = "laws are about ends of runs: keep these alone by --ends-only"
    middle, column = in_the_middle(frame), rate_column(frame)
    if middle.any():
        gaps = np.array([]) if falls_between_rows(frame) else gaps_to_ends(frame, domains, targets, middle)
        measured = (
            f"they lie {100 * np.median(gaps):.1f} % above the ends of other runs at equal N, D and mixture "
            f"({len(gaps)} pairs)"
            if len(gaps)
            else "by how much they lie above ends cannot be told here, a few per cent are usual"
        )
        n_runs = frame.loc[middle, "run_id"].nunique()
        of_runs = f", of {n_runs} runs," if n_runs < middle.sum() else ""
        return [
            f"{middle.sum()} of {len(frame)} rows{of_runs} are checkpoints in the middle of a schedule: "
            f"{column} falls after them; {measured}; {remedy}"
        ], middle
    if any(str(c).startswith("requested_") for c in frame):
        return [], none  # run directories state it (lr_state)
    before, where = ~is_last(frame), "above the ends of other runs at equal N, D and mixture"
    gaps = gaps_to_ends(frame, domains, targets, before)
    if len(gaps) < LEAST_PAIRS or np.median(gaps) < LEAST_GAP or (gaps > 0).mean() < LEAST_SHARE:
        return [], none
    return [
        f"{before.sum()} of {len(frame)} rows are checkpoints before the end of their run, and seem to be in the "
        f"middle of a schedule: they lie {100 * np.median(gaps):.1f} % {where} ({len(gaps)} pairs); {remedy}"
    ], before


def gaps_to_ends(
    frame: pd.DataFrame, domains: Sequence[str], targets: Sequence[str], middle: NDArray[np.bool_]
) -> Array:
    """Return by how much checkpoints lie above the ends of other runs at equal N, D and mixture, relative, (p,).

    A run's loss at the other's D is interpolated in log D between two of its checkpoints, of which the first is in the
    middle. One number per pair of runs: the mean over targets.
    """
    columns = [f"loss_{t}" for t in targets]
    runs = []
    for _, run in frame.assign(middle=middle).sort_values("n_tokens", kind="stable").groupby("run_id", sort=False):
        mixture = run[[f"weight_{d}" for d in domains]].to_numpy(float)[-1]
        losses = run[columns].to_numpy(float)
        if (losses <= 0).any():
            continue
        runs.append(
            (
                run["n_params"].iloc[0],
                mixture,
                run["n_tokens"].to_numpy(float),
                np.log(losses),
                run["middle"].to_numpy(bool),
            )
        )
    gaps: list[float] = []
    if not runs:
        return np.array(gaps)
    sizes, mixtures = np.array([r[0] for r in runs]), np.stack([r[1] for r in runs])
    for i, (size, mixture, tokens, losses, _) in enumerate(runs):
        close = np.abs(sizes - size) <= ALIKE * size
        close &= np.abs(mixtures - mixture).sum(1) / 2 <= ALIKE
        close[i] = False
        for j in np.flatnonzero(close):
            gap = _gap(tokens[-1], losses[-1], *runs[j][2:])
            gaps += [gap] if np.isfinite(gap) else []
    return np.array(gaps)


def _gap(tokens: float, end: Array, other_tokens: Array, other: Array, middle: NDArray[np.bool_]) -> float:
    """Return how far another run's checkpoints (m, t) around some tokens lie above an end (t,), NaN if none do."""
    after = int(np.searchsorted(other_tokens, tokens * (1 - 1e-9)))
    if after == len(other_tokens) or (after == 0 and other_tokens[0] > tokens * 1.01):
        return float("nan")
    if abs(other_tokens[after] - tokens) <= 0.01 * tokens:
        return (
            float(np.expm1(np.nanmean(other[after] - end)))
            if middle[after] and _any(other[after] - end)
            else float("nan")
        )
    if after == 0 or not middle[after - 1] or not middle[after]:
        return float("nan")
    share = np.log(tokens / other_tokens[after - 1]) / np.log(other_tokens[after] / other_tokens[after - 1])
    gap = (1 - share) * other[after - 1] + share * other[after] - end
    return float(np.expm1(np.nanmean(gap))) if _any(gap) else float("nan")


def _any(values: Array) -> bool:
    return bool(np.isfinite(values).any())
