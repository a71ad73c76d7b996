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
        one, tells how many questions an evaluation had
    notes : gets a sentence if per cent are converted

    Raises
    ------
    ConfigError
        If the table has no such column, or both are the same.
    RunLogError
        If scores are no numbers, or lie outside of 0 to 1 and 0 to 100.
    """
    frame = table.frame
    for option, column in (("--loss", loss), ("--score", score)):
        if column not in frame:
            raise ConfigError(f"{option}: {unknown_column(column, list(map(str, frame.columns)))}")
    if loss == score or frame[loss].equals(frame[score]):
        raise ConfigError(f"--score {score} holds the losses of --loss {loss}: name the column of scores")
    frame = frame.assign(**{score: _shares(table, score, notes)})
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
        If losses and scores are not equally many, or the table has no scores and none are named.
    """
    if not scores:
        scores = [SCORE + t for t in table.targets if SCORE + t in table.frame and LOSS + t in (losses or [LOSS + t])]
    if not losses:
        losses = [LOSS + name.removeprefix(SCORE) for name in scores]
    if not scores:
        raise ConfigError("the table has no column score_<target>: name columns by --loss loss_x --score acc_x")
    if len(losses) == 1:
        losses = losses * len(scores)
    if len(losses) != len(scores):
        raise ConfigError(f"--loss names {len(losses)} columns and --score {len(scores)}: give one loss for each score")
    return list(zip(losses, scores, strict=True))


def _shares(table: Table, column: str, notes: list[str]) -> pd.Series:
    """Return scores as shares; per cent are converted with a note."""
    values, bad = parse_numbers(table.frame[column])
    if bad.any():
        cell = table.frame.loc[bad, column].iloc[0]
        raise RunLogError(f"{table.place(table.frame['row'][bad])}: {column} is {cell!r}, not a number")
    outside = (values < 0) | (values > 100)
    if outside.any():
        where, found = table.place(table.frame["row"][outside]), values[outside].iloc[0]
        raise RunLogError(f"{where}: {column} is {found:g}; scores lie between 0 and 1, or 0 and 100 %")
    if not values.max() > 1:
        return values
    notes.append(f"{column} goes up to {values.max():g}: read as per cent, and divided by 100")
    return values / 100


def _effort(frame: pd.DataFrame, score: str) -> Array:
    """Return the number of questions behind every score, relative to the median; ones where it is not known."""
    column = SCORE_SE + score.removeprefix(SCORE)
    if column not in frame or not score.startswith(SCORE):
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
