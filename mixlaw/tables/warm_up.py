"""Detect checkpoints in learning-rate warm-up: their losses lie above every law that fits the later checkpoints."""

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from mixlaw.tables.columns import LOSS
from mixlaw.tables.table import Array

EXPONENTS = np.linspace(0.01, 1, 100)  # of D, as laws allow them
WARM_UP = 0.25  # share of a run's tokens after which no checkpoint is in warm-up
EXCESS = 0.015  # relative, above all fitting laws; real curves without warm-up reach about half of it
LEVEL = 0.99  # of the prediction bound
SHARE = 1 / 8  # of the targets that must show the excess
MIN_CHECKPOINTS = 6  # the judged one and five others: three parameters, two degrees of freedom for the scatter


def mean_curves(group: pd.DataFrame, targets: list[str]) -> tuple[Array, Array]:
    """Return the tokens (m,) at which most runs were evaluated, and the mean losses (t, m) there.

    The mean is over runs without gaps for that target; NaN if there are none. A mean of power laws in D with one
    exponent is such a law too.

    Parameters
    ----------
    group : runs of one size with the same first and last checkpoint
    """
    counts = group["n_tokens"].value_counts()
    tokens = np.sort(counts.index[2 * counts > group["run_id"].nunique()].to_numpy(float))
    if len(tokens) < MIN_CHECKPOINTS:
        return tokens, np.empty((len(targets), 0))
    wide = group.groupby(["run_id", "n_tokens"])[[LOSS + t for t in targets]].mean().unstack("n_tokens")
    whole = [wide[LOSS + t][tokens].dropna().to_numpy(float) for t in targets]
    return tokens, np.stack([runs.mean(axis=0) if len(runs) else np.full(len(tokens), np.nan) for runs in whole])


def count_warm_up(tokens: Array, losses: Array) -> tuple[int, int, float]:
    """Return how many of the first checkpoints are in warm-up, the target with the largest excess, and that excess.

    For each checkpoint, E + B D^-beta is fitted by least squares to the later ones, for every beta in (0, 1] on a grid.
    The checkpoint is an outlier if, in an eighth of the targets, its loss is 1.5 % above the upper 99 % prediction
    bound of all beta that fit. Outliers are left out of further fits. As D^-beta is concave in 1/D for beta <= 1, a
    curve that follows a law has no outliers. Warm-up ends at the last checkpoint up to which at least half are
    outliers, and never after a quarter of the tokens.

    Parameters
    ----------
    tokens : (m,) ascending
    losses : (t, m) one curve per target; NaN where unknown
    """
    early = int((tokens <= WARM_UP * tokens[-1]).sum()) if len(tokens) >= MIN_CHECKPOINTS else 0
    excess, inlier = np.zeros((len(losses), early)), np.ones(len(tokens), bool)
    for i in reversed(range(early)):
        later = inlier & (np.arange(len(tokens)) > i)
        excess[:, i] = [_excess(tokens[i], y[i], tokens[later], y[later]) for y in losses]
        inlier[i] = (excess[:, i] > EXCESS).sum() < max(SHARE * len(losses), 1)
    outlier = ~inlier[:early]
    ends = np.flatnonzero(outlier & (2 * outlier.cumsum() > np.arange(early)))
    if not len(ends):
        return 0, 0, 0.0
    worst = excess[:, : ends[-1] + 1].max(axis=1)
    return int(ends[-1]) + 1, int(worst.argmax()), float(worst.max())


def _excess(tokens: float, loss: float, later_tokens: Array, later: Array) -> float:
    """Return the relative excess of a loss over the highest prediction of the laws that fit the later losses."""
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
    fits[1:] |= fits[:-1].copy()  # the true exponent lies between two grid points
    reach = (tokens / later_tokens[-1]) ** powers[:, 0] - x.mean(1)
    bound = later.mean() + slope * reach + quantile * np.sqrt(variance * (1 + 1 / m + reach**2 / spread))
    falls = np.isfinite(bound[fits]).all() and (slope[fits] > 0).all()  # else the laws do not extrapolate backwards
    return float(loss / bound[fits].max() - 1) if falls else 0.0
