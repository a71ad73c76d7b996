"""Detect checkpoints in the middle of a learning-rate schedule.

A law L(N, D, h) describes the end of a run of D tokens. At a constant learning rate every checkpoint is such an end;
under a decaying one only the last is, and earlier losses are too high (Hoffmann et al. 2022, appendix B; Hägele et al.
2024).
"""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.tables.columns import WEIGHT

Array = NDArray[np.float64]
RATE = re.compile(r"(^|[./_ ])(lr|learning_?rate)$")
FALLEN = 0.8  # share of the highest rate of a run; a lower last rate means a decaying schedule
FALLEN_FAR = 1 / 3  # the same where rows have no run id, because the peak rate may depend on D
AGAINST = 0.25  # rank correlation of rate and D, below its negative the rate falls along D
ABOVE = 1.25  # rate of a checkpoint over the last rate of its run, from which it is in the middle of the schedule
ALIKE = 0.02  # total variation distance of mixtures, and relative difference of N, that count as equal
LEAST_PAIRS = 6  # pairs of an end and a checkpoint of another run, needed without a column of rates
LEAST_GAP = 0.004  # median relative excess of such checkpoints
LEAST_SHARE = 0.9  # share of the pairs in which the checkpoint is higher


def rate_column(frame: pd.DataFrame) -> str:
    """Return the column of learning rates, or ''."""
    for column in map(str, frame.columns):
        if RATE.search(column.lower()) and pd.api.types.is_numeric_dtype(frame[column]) and frame[column].notna().any():
            return column
    return ""


def is_last(frame: pd.DataFrame) -> NDArray[np.bool_]:
    """Return a mask (n,) of the last row of every run.

    If no run has an id and the rate falls along D at one size and mixture, the rows with the lowest rate are the ends.
    """
    last = ~frame.sort_values("n_tokens", kind="stable").duplicated("run_id", keep="last").sort_index()
    if not _without_ids(frame):
        return last.to_numpy(bool)
    falls, over = _fallen(frame, FALLEN)
    return np.where(falls, over, last).astype(bool)


def falls_between_rows(frame: pd.DataFrame) -> bool:
    """Return whether rows without run ids are checkpoints of a schedule: the rate falls along D to a third or less."""
    return _without_ids(frame) and not frame.duplicated("run_id").any() and bool(_fallen(frame, FALLEN_FAR)[0].any())


def _without_ids(frame: pd.DataFrame) -> bool:
    return bool(rate_column(frame)) and bool(frame["run_id"].astype(str).str.contains(" group | row ").all())


def _fallen(frame: pd.DataFrame, share: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return masks (n,): the rate falls along D at the row's N and mixture; the rate is the lowest there.

    A rate that was varied on purpose takes high and low values at the same D, so it does not fall along D.

    Parameters
    ----------
    share : of the highest rate, below which the lowest one must be
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
    """Return a mask (n,) of rows after which the learning rate decays further until the end of their run.

    Neither warm-up nor a constant rate counts as decay.
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


def mid_schedule_warnings(
    frame: pd.DataFrame, domains: Sequence[str], targets: Sequence[str]
) -> tuple[list[str], NDArray[np.bool_]]:
    """Return a warning about checkpoints in the middle of a schedule, if there are any, and a mask (n,) of them.

    Parameters
    ----------
    frame : checked rows: run_id, n_params, n_tokens, weight_<domain>, loss_<target>
    """
    none = np.zeros(len(frame), bool)
    if not targets or not (frame.duplicated("run_id").any() or falls_between_rows(frame)):
        return [], none
    remedy = "laws describe ends of runs: keep only these by --ends-only"
    middle, column = in_the_middle(frame), rate_column(frame)
    if middle.any():
        gaps = np.array([]) if falls_between_rows(frame) else gaps_to_ends(frame, domains, targets, middle)
        measured = (
            f"they lie {100 * np.median(gaps):.1f} % above the ends of other runs at equal N, D and mixture "
            f"({len(gaps)} pairs)"
            if len(gaps)
            else "this table does not show how far they lie above ends of runs; a few per cent are usual"
        )
        n_runs = frame.loc[middle, "run_id"].nunique()
        of_runs = f", of {n_runs} runs," if n_runs < middle.sum() else ""
        return [
            f"{middle.sum()} of {len(frame)} rows{of_runs} are checkpoints in the middle of a schedule: "
            f"{column} falls after them; {measured}; {remedy}"
        ], middle
    if any(str(c).startswith("requested_") for c in frame):
        return [], none  # their lr_state says so
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
    """Return the relative excess (p,) of checkpoints over the ends of other runs at equal N, D and mixture.

    A run's loss at the other run's final D is interpolated in log D between two checkpoints in the middle of its
    schedule. One number per pair of runs: the mean over targets.

    Parameters
    ----------
    middle : (n,) mask of rows in the middle of a schedule
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
    """Return the relative excess of a run's log losses `other` (m, t), interpolated at `tokens`, over an end (t,).

    NaN if the run has no checkpoints around these tokens that are in the middle of its schedule.
    """
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
