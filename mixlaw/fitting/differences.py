"""The interval of a gain: the difference of two runs that have the same N and D and different mixtures.

Three things separate a measured difference from the predicted one.

* The parameters: the same resampled law predicts both runs, so that what it gets wrong for both cancels. The tails of
  resampled laws are those of the priors where runs are few, so the interval is that of a normal distribution with the
  quartiles of the resamples.
* The lack of fit of the law: a smooth function of the mixture, nearly the same for mixtures that are close. The part
  that all mixtures of one N and D share cancels.
* The seed noise of both runs.

The last two are estimated from the differences of residuals between runs of the same N and D. Over the distance d
between two mixtures (total variation), their variance is 2 seed^2 + 2 lack^2 (1 - exp(-d / length)), as in a variogram
with a nugget (Cressie 1993, Statistics for Spatial Data, section 2.3). Runs of equal N, D and mixture give the seed
noise directly.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import levene

from mixlaw.laws.jacobian import Array
from mixlaw.laws.terms import TINY
from mixlaw.tables.factor_levels import levels

SAME_SCALE = 0.01  # largest relative difference of N and of D between two runs that are compared
SAME_MIXTURE = 0.005  # total variation distance below which two runs are repeats
MOST_PAIRS = 20_000  # pairs of rows that are used; more are thinned evenly
FEWEST_PAIRS = 3
LENGTHS = (0.1, 0.2, 0.4, 0.8, 1.6)  # tried; total variation distances
NUGGETS = tuple(np.linspace(0, 1, 21))  # tried; shares of the mean
BIN = 0.02  # of distances
REFUTED = 2.7  # twice the log likelihood ratio, one-sided at 95 %
POOLED = 4  # degrees of freedom of the mean over targets in a target's seed noise
VARIES = 0.05  # p-value of Levene's test below which the seed noise depends on the mixture
FEWEST_SEEDS = 3  # runs of one mixture that show its own seed noise
SEED_LENGTH = 0.2  # total variation distance at which the seed noise of a mixture no longer applies
QUARTILE = float(ndtri(0.75))

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Scatter:
    """How single runs of one target scatter around their law, relative to the loss.

    Attributes
    ----------
    seed : sd over runs that differ only in their seed
    lack : sd of the lack of fit over mixtures that are far from each other
    length : total variation distance over which the lack of fit changes
    mixtures, seeds : (m, k) mixtures with a seed noise of their own, and their sds (m,); empty if it does not vary
    """

    seed: float
    lack: float = 0.0
    length: float = 1.0
    mixtures: tuple[tuple[float, ...], ...] = ()
    seeds: tuple[float, ...] = ()

    def sd(self, one: Array, other: Array) -> Array:
        """Return (n,) the sd of the difference between runs on the mixtures `one` (n, k) and `other` (n, k)."""
        apart = 1 - np.exp(-np.abs(one - other).sum(-1) / 2 / self.length)
        found: Array = np.sqrt(self._seed_variance(one) + self._seed_variance(other) + 2 * self.lack**2 * apart)
        return found

    def _seed_variance(self, h: Array) -> Array:
        """Return (n,) the variance between seeds at mixtures (n, k)."""
        if not self.seeds:
            return np.full(len(h), self.seed**2)
        distance = np.abs(h[:, None] - np.array(self.mixtures)).sum(-1) / 2
        near = np.exp(-distance / SEED_LENGTH)
        return (near @ np.square(self.seeds) + 0.1 * self.seed**2) / (near.sum(1) + 0.1)


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows of equal N and D, `first` (n,) and `second` (n,), and the distance (n,) of their mixtures."""

    first: Rows
    second: Rows
    distance: Array

    @classmethod
    def of(cls, frame: pd.DataFrame, mixtures: Array) -> "Pairs":
        """Return the pairs of a table's rows, thinned evenly if there are too many."""
        scale = [levels(frame[column], SAME_SCALE) for column in ("n_params", "n_tokens")]
        cells = pd.Series(np.arange(len(frame))).groupby(scale)
        corners = [(rows.to_numpy()[:, None], np.triu_indices(len(rows), 1)) for _, rows in cells]
        found = [np.column_stack([rows[at[0], 0], rows[at[1], 0]]) for rows, at in corners]
        pairs = np.concatenate([np.zeros((0, 2), np.int64), *found]).astype(np.int64)
        pairs = pairs[:: 1 + len(pairs) // MOST_PAIRS]
        first, second = pairs.T
        return cls(first, second, np.abs(mixtures[first] - mixtures[second]).sum(1) / 2)

    def where(self, chosen: NDArray[np.bool_]) -> "Pairs":
        """Return some of the pairs."""
        return Pairs(self.first[chosen], self.second[chosen], self.distance[chosen])

    def differences(self, values: Array) -> Array:
        """Return (n,) the differences of values between the first and the second rows."""
        difference: Array = values[self.first] - values[self.second]
        return difference


def estimate(
    residuals: Mapping[str, Array], frame: pd.DataFrame, mixtures: Array, inflation: Mapping[str, float] | None = None
) -> tuple[dict[str, Scatter | None], Array]:
    """Return the scatter of every target, and the correlations of their scatter (t, t).

    Parameters
    ----------
    residuals : target -> (n,) residuals relative to the loss, NaN where it is not known
    frame : run_id, n_params and n_tokens of the n rows
    mixtures : (n, k)
    inflation : target -> size of a run's error relative to its residual, see `mixlaw.fitting.error_scale`

    Returns
    -------
    target -> scatter, or None if too few runs have the same N and D
    """
    pairs = Pairs.of(frame, mixtures)
    apart = pairs.where(pairs.distance > SAME_MIXTURE)
    squares = {t: _known(apart, off * (inflation or {}).get(t, 1.0)) for t, off in residuals.items()}
    shown = {t: (d, z) for t, (d, z) in squares.items() if len(z) >= FEWEST_PAIRS and z.mean() > TINY}
    if not shown:
        return dict.fromkeys(residuals), np.ones((len(residuals), len(residuals)))
    distance, scaled = (np.concatenate(each) for each in zip(*map(_scaled, shown.values()), strict=True))
    length, nugget = variogram(distance, scaled, frame["run_id"].nunique())
    seeds = _Seeds.of(residuals, frame, mixtures, pairs.where(pairs.distance <= SAME_MIXTURE))
    ratio = seeds.ratio({t: float(z.mean()) / 2 for t, (_, z) in shown.items()}, nugget)
    found: dict[str, Scatter | None] = dict.fromkeys(residuals)
    for target, (distance, z) in shown.items():
        level = float(z.mean()) / 2
        seed, own = seeds.of_target(target, ratio * level)
        lack = max(level - seed**2, 0.0) / max(float((1 - np.exp(-distance / length)).mean()), TINY)
        found[target] = Scatter(seed, lack**0.5, length, *own)
    return found, correlations({t: apart.differences(off) for t, off in residuals.items()})


def _known(pairs: Pairs, off: Array) -> tuple[Array, Array]:
    """Return the distances and the squared differences of the pairs whose residuals are known."""
    squares = pairs.differences(off) ** 2
    known = np.isfinite(squares)
    return pairs.distance[known], squares[known]


def _scaled(shown: tuple[Array, Array]) -> tuple[Array, Array]:
    return shown[0], shown[1] / shown[1].mean()


def variogram(distance: Array, squares: Array, n_runs: int) -> tuple[float, float]:
    """Return the length of a variogram, and its nugget as a share of the mean.

    Pairs of close mixtures are few, so least squares do not decide the nugget. Of all variograms that the runs do not
    refute (likelihood ratio, each run an observation), it is the one with the largest nugget: the intervals of close
    mixtures are rather too wide.

    Parameters
    ----------
    distance, squares : (n,) of pairs; the mean of the squares is 1
    """
    bins = np.minimum((distance / BIN).astype(int), round(1 / BIN))
    count = np.maximum(np.bincount(bins), TINY)
    middle, mean = np.bincount(bins, distance) / count, np.bincount(bins, squares) / count
    within = float((squares**2).sum() - (count * mean**2).sum())
    tried = [(within + _error(count, middle, mean, *at), *at) for at in product(LENGTHS, NUGGETS)]
    least = min(tried)[0]
    allowed = [at for error, *at in tried if n_runs * np.log(error / max(least, TINY)) <= REFUTED or error == least]
    length, nugget = max(allowed, key=lambda at: at[1])
    return length, nugget


def _error(count: Array, distance: Array, mean: Array, length: float, nugget: float) -> float:
    """Return the sum of squared errors of a variogram with the best slope, at the means of bins."""
    shape = 1 - np.exp(-distance / length)
    slope = max(float((count * shape * (mean - nugget)).sum() / max((count * shape**2).sum(), TINY)), 0.0)
    return float((count * (mean - nugget - slope * shape) ** 2).sum())


def correlations(differences: Mapping[str, Array]) -> Array:
    """Return the correlations (t, t) between targets of the differences of residuals (n,), unknown ones left out."""
    values = np.nan_to_num(np.stack(list(differences.values())))
    norm = np.sqrt((values**2).sum(1))
    found: Array = (values @ values.T) / np.maximum(norm[:, None] * norm, TINY)
    np.fill_diagonal(found, 1.0)
    return found


@dataclass(frozen=True)
class _Seeds:
    """What repeated runs show: target -> variance (relative to the loss), and degrees of freedom.

    `varying` has the targets whose variance depends on the mixture: (m, k) mixtures, variances (m,), runs (m,).
    """

    variance: dict[str, float]
    freedom: int
    varying: dict[str, tuple[Array, Array, Array]]

    @classmethod
    def of(cls, residuals: Mapping[str, Array], frame: pd.DataFrame, mixtures: Array, repeats: Pairs) -> "_Seeds":
        """Return the seed noise of the pairs of equal N, D and mixture."""
        run = pd.factorize(frame["run_id"])[0]
        groups = _groups(run, repeats)
        variance = {t: float(z.mean()) / 2 for t, off in residuals.items() if len(z := _known(repeats, off)[1])}
        last = pd.Series(frame["n_tokens"].to_numpy(float)).groupby(run).idxmax().to_numpy(np.int64)  # row of each run
        many = [last[group].tolist() for group in groups if len(group) >= FEWEST_SEEDS]
        varying = {t: v for t, off in residuals.items() if (v := _by_mixture(off, mixtures, many)) is not None}
        return cls(variance, sum(len(group) - 1 for group in groups), varying)

    def ratio(self, level: Mapping[str, float], nugget: float) -> float:
        """Return the share of seed noise in the scatter (target -> variance): measured, or else the nugget."""
        shares = [self.variance[t] / level[t] for t in level if t in self.variance]
        return min(float(np.mean(shares)), 1.0) if shares else nugget

    def of_target(
        self, target: str, usual: float
    ) -> tuple[float, tuple[tuple[tuple[float, ...], ...], tuple[float, ...]]]:
        """Return the seed noise of a target, and its mixtures and sds where it varies.

        Parameters
        ----------
        usual : variance of a target with this scatter; it counts as much as a few repeats
        """
        if target not in self.variance:
            return usual**0.5, ((), ())
        pooled = (self.freedom * self.variance[target] + POOLED * usual) / (self.freedom + POOLED)
        if target not in self.varying:
            return pooled**0.5, ((), ())
        h, own, count = self.varying[target]
        shrunk = ((count - 1) * own + POOLED * pooled) / (count - 1 + POOLED)
        return pooled**0.5, (tuple(map(tuple, h.tolist())), tuple(np.sqrt(shrunk).tolist()))


def _groups(run: Rows, repeats: Pairs) -> list[list[int]]:
    """Return the groups of runs that repeat each other."""
    found: dict[int, set[int]] = {}
    for a, b in {(int(a), int(b)) for a, b in zip(run[repeats.first], run[repeats.second], strict=True) if a != b}:
        joined = found.get(a, {a}) | found.get(b, {b})
        found |= dict.fromkeys(joined, joined)
    return [sorted(group) for group in {id(g): g for g in found.values()}.values()]


def _by_mixture(off: Array, mixtures: Array, groups: Sequence[Sequence[int]]) -> tuple[Array, Array, Array] | None:
    """Return mixtures (m, k), variances (m,) and numbers of runs (m,) if the variance differs between them."""
    known = [rows for rows in groups if np.isfinite(off[list(rows)]).all()]
    samples = [off[list(rows)] for rows in known]
    if len(samples) < 2 or not min(s.var() for s in samples) > 0 or levene(*samples).pvalue > VARIES:
        return None
    own = np.array([s.var(ddof=1) for s in samples])
    return mixtures[[rows[0] for rows in known]], own, np.array([len(s) for s in samples], float)


def gain_interval(gain: Array, drawn: Array, sd: Array, level: float) -> tuple[Array, Array]:
    """Return the ends (n,) of the interval of gains.

    Parameters
    ----------
    gain : (n,) of the fit
    drawn : (b, n) of resampled laws
    sd : (n,) of the scatter of both runs [same unit]
    level : such as 0.9
    """
    low, middle, high = np.percentile(drawn, [25, 50, 75], axis=0)
    normal = float(ndtri(0.5 + level / 2))
    below = np.maximum(gain - middle + normal / QUARTILE * (middle - low), 0.0)
    above = np.maximum(middle - gain + normal / QUARTILE * (high - middle), 0.0)
    return gain - np.hypot(below, normal * sd), gain + np.hypot(above, normal * sd)
