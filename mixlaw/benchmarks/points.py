"""Losses and scores of runs: the points that a curve from loss to score is fitted to."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.errors import ConfigError, RunLogError
from mixlaw.laws.jacobian import Array
from mixlaw.tables.columns import LOSS, SCORE, SCORE_SE, unknown_column
from mixlaw.tables.factor_levels import levels
from mixlaw.tables.number_parsing import parse_numbers
from mixlaw.tables.table import Table

LEAST_QUESTIONS = 1.0
FEW = 0.2  # share of a column's scores; if no more lie above 1, they may be mistakes


@dataclass(frozen=True)
class Points:
    """Evaluations of runs, sorted by run and tokens.

    Attributes
    ----------
    loss : (n,) in the target's unit
    score : (n,) from 0 to 1
    run : (n,) index of the run, from 0
    n_params : (n,) N
    size : (n,) index of the level of N, from 0
    effort : (n,) number of questions of an evaluation, relative to that of the median one
    """

    loss: Array
    score: Array
    run: NDArray[np.int64]
    n_params: Array
    size: NDArray[np.int64]
    effort: Array

    @property
    def n_runs(self) -> int:
        """Number of runs."""
        return len(np.unique(self.run))

    @property
    def ends(self) -> "Points":
        """The last evaluation of every run."""
        return self.where(np.append(np.diff(self.run) != 0, True))

    def where(self, keep: NDArray[np.bool_]) -> "Points":
        """Return the points where `keep` (n,) is true; runs are numbered again."""
        parts = {name: getattr(self, name)[keep] for name in ("loss", "score", "n_params", "size", "effort")}
        return replace(self, run=pd.factorize(self.run[keep])[0].astype(np.int64), **parts)


def points_of(table: Table, loss: str, score: str, notes: list[str]) -> Points:
    """Return the evaluations of a table that have a loss and a score.

    Parameters
    ----------
    loss : name of the column loss_<target>
    score : name of the column of scores, in [0, 1] or in per cent; score_se_<name> beside score_<name>, if there is
        one, in the same unit, tells how many questions an evaluation had
    notes : gets a sentence if per cent are converted

    Raises
    ------
    ConfigError
        If the table has no such column, or the scores are losses.
    RunLogError
        If scores are no numbers, or lie outside of 0 to 1 and 0 to 100.
    """
    frame = table.frame
    for option, column in (("--loss", loss), ("--score", score)):
        if column not in frame:
            raise ConfigError(f"{option}: {unknown_column(column, list(map(str, frame.columns)))}")
    for other in (loss, *(LOSS + target for target in table.targets)):
        if frame[other].equals(frame[score]):
            raise ConfigError(f"--score {score} holds the losses of {other}: name the column of scores")
    frame = _in_shares(table, score, notes)
    frame = frame[frame[loss].notna() & frame[score].notna()].sort_values(["run_id", "n_tokens"], kind="stable")
    if frame.empty:
        raise RunLogError(f"{table.place(table.frame['row'])}: no row has both {loss} and {score}")
    return Points(
        loss=frame[loss].to_numpy(float),
        score=frame[score].to_numpy(float),
        run=pd.factorize(frame["run_id"])[0].astype(np.int64),
        n_params=frame["n_params"].to_numpy(float),
        size=levels(frame["n_params"]).astype(np.int64),
        effort=_effort(frame, score),
    )


def score_pairs(table: Table, losses: list[str], scores: list[str]) -> list[tuple[str, str]]:
    """Return pairs of a loss column and a score column: those named, or else every loss_<target> with its score.

    Raises
    ------
    ConfigError
        If losses and scores are not equally many, a score is named twice, or the table has none and none is named.
    """
    if not scores:
        scores = [SCORE + t for t in table.targets if SCORE + t in table.frame and LOSS + t in (losses or [LOSS + t])]
    if not losses:
        losses = [LOSS + name.removeprefix(SCORE) for name in scores]
    if not scores:
        wanted = (
            ", ".join(SCORE + loss.removeprefix(LOSS) for loss in losses) or "score_<target> beside a loss_<target>"
        )
        raise ConfigError(f"the table has no column {wanted}: name columns by --loss loss_x --score acc_x")
    if twice := [name for i, name in enumerate(scores) if name in scores[:i]]:
        raise ConfigError(f"--score names {twice[0]} twice: fit it by one loss at a time")
    if len(losses) == 1:
        losses = losses * len(scores)
    if len(losses) != len(scores):
        raise ConfigError(f"--loss names {len(losses)} columns and --score {len(scores)}: give one loss for each score")
    return list(zip(losses, scores, strict=True))


def _in_shares(table: Table, column: str, notes: list[str]) -> pd.DataFrame:
    """Return the table with scores, and their standard errors, as shares; per cent are converted with a note."""
    values = _scores(table, column)
    frame, errors = table.frame.assign(**{column: values}), _errors_of(column)
    above = values > 1
    if not above.any():
        return frame
    notes.append(f"{column} goes up to {values.max():g}: read as per cent, and divided by 100")
    if above.sum() <= FEW * values.notna().sum():
        where = table.place(table.frame["row"][above])
        notes.append(
            f"{where}: no other {column} lies above 1; correct these cells if the others are shares, not per cent"
        )
    if errors in frame:
        frame = frame.assign(**{errors: parse_numbers(frame[errors])[0] / 100})
    return frame.assign(**{column: values / 100})


def _scores(table: Table, column: str) -> pd.Series:
    """Return the scores of a column, all of them between 0 and 100."""
    values, bad = parse_numbers(table.frame[column])
    if bad.any():
        cell = table.frame.loc[bad, column].iloc[0]
        raise RunLogError(f"{table.place(table.frame['row'][bad])}: {column} is {cell!r}, not a number")
    outside = (values < 0) | (values > 100)
    if outside.any():
        where, found = table.place(table.frame["row"][outside]), values[outside].iloc[0]
        raise RunLogError(f"{where}: {column} is {found:g}; scores lie between 0 and 1, or 0 and 100 %")
    return values


def _errors_of(column: str) -> str:
    """Return the name of the column of a score's standard errors; empty for scores that are no score_<name>."""
    return SCORE_SE + column.removeprefix(SCORE) if column.startswith(SCORE) else ""


def _effort(frame: pd.DataFrame, score: str) -> Array:
    """Return the number of questions behind every score, relative to the median; ones where it is not known."""
    column = _errors_of(score)
    if column not in frame:
        return np.ones(len(frame))
    errors, _ = parse_numbers(frame[column])
    share = frame[score].to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        count = share * (1 - share) / errors.to_numpy(float) ** 2
    known = np.isfinite(count) & (count >= LEAST_QUESTIONS)
    if not known.any():
        return np.ones(len(frame))
    middle = float(np.median(count[known]))
    return np.where(known, count / middle, 1.0)
