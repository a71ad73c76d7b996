"""Compute-equivalent gains: how many times the tokens, or the compute, a baseline needs to match a mixture's loss.

A gain in nats means little to the person who pays for a run. The same gain as a factor of compute says what it is
worth: at 1.20x, the baseline needs 20 % more. Two factors are computed for every baseline and target:

* *tokens*: D'/D at fixed N, where the baseline at D' tokens has the mixture's loss at D;
* *flops*: C'/C along the compute-optimal path, where both mixtures are trained at the N that minimises the loss at
  their compute C = 6 N D (Hoffmann et al. 2022, arXiv 2203.15556, approach 3).

Every resampled law gives a factor of its own, for both mixtures at once, and the interval is that of these factors. Its
slopes over N and D are its own. Its gain is moved, ranks kept, so that all gains together have the interval that
`mixlaw.advice.gains` gives two real runs. Losses are evaluated on one grid of scales for all laws, and crossings are
interpolated in log compute.

Legend of shapes: b laws, u factors of compute, v model sizes at one compute.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtri

from mixlaw.advice.constraints import RECOMMENDED, Question
from mixlaw.advice.gains import OBJECTIVE
from mixlaw.advice.objective import Mixtures, Objective
from mixlaw.fitting.bootstrap import interval
from mixlaw.laws.jacobian import Array
from mixlaw.mixture import Mixture

MOST = 1000.0  # largest factor that is looked for; it stands for any larger one, and 1 / MOST for any smaller one
TOKEN_STEPS, PATH_STEPS, SIZE_STEPS = 100, 40, 16  # of the grids, on either side of the big run
PATH_DRAWS = 50  # resampled laws for the factors of compute, which need a grid of model sizes as well
EQUIVALENTS = ["mixture", "target", "by", "factor", "low", "high"]


@dataclass(frozen=True)
class Scales:
    """A way to spend more compute: N and D (u, v) for log factors (u,), whose middle one is 0, the big run."""

    by: str
    log_factor: Array
    n_params: Array
    n_tokens: Array

    @property
    def middle(self) -> int:
        """Index of the factor 1."""
        return len(self.log_factor) // 2


def more_tokens(question: Question) -> Scales:
    """Return more and fewer tokens at the N of the big run."""
    factor = _around(TOKEN_STEPS, power=2)
    tokens = question.n_tokens * np.exp(factor)[:, None]
    return Scales("tokens", factor, np.full(tokens.shape, question.n_params), tokens)


def more_compute(question: Question) -> Scales:
    """Return more and less compute, each spent on models of all sizes."""
    factor, size = _around(PATH_STEPS, power=2)[:, None], _around(SIZE_STEPS, power=1)
    n_params, n_tokens = (
        count * np.exp(factor / 2 + side * size) for count, side in ((question.n_params, 1), (question.n_tokens, -1))
    )
    return Scales("flops", factor[:, 0], n_params, n_tokens)


def _around(steps: int, power: int) -> Array:
    """Return log factors from 1 / MOST to MOST, exactly 0 in the middle, and denser there if power is above 1."""
    even = np.arange(-steps, steps + 1) / steps
    factors: Array = np.log(MOST) * np.sign(even) * np.abs(even) ** power
    return factors


def equivalents(objective: Objective, mixtures: Mixtures, gained: pd.DataFrame, level: float) -> pd.DataFrame:
    """Return the compute-equivalent gain of the recommended mixture over every other one.

    Parameters
    ----------
    objective : the big run, the importance of its targets, and the mean over resampled laws
    mixtures : by name; "recommended" is compared with all others
    gained : the gains over them, of `mixlaw.advice.gains.gains`
    level : of the intervals, in (0, 1)

    Returns
    -------
    DataFrame of mixture, target (or "objective"), by ("tokens" or "flops"), factor, low and high; 1000 stands for 1000
    or more and 0.001 for that or less. Empty if the law does not depend on D; without "flops" if not on both N and D.
    """
    ways = [more_tokens(objective.question)] if "D" in objective.reads else []
    ways += [more_compute(objective.question)] if {"N", "D"} <= objective.reads else []
    rows = [row for scales in ways for row in _by_one_way(objective, mixtures, gained, scales, level)]
    return pd.DataFrame(rows, columns=EQUIVALENTS)


def _by_one_way(
    objective: Objective, mixtures: Mixtures, gained: pd.DataFrame, scales: Scales, level: float
) -> Iterator[dict[str, str | float]]:
    """Yield the rows of the table for one way to spend more compute."""
    drawn = objective.drawn(PATH_DRAWS if scales.by == "flops" else None)
    mean, many = ({name: frontiers(laws, h, scales) for name, h in mixtures.items()} for laws in (objective, drawn))
    for gain in gained.to_dict("records"):
        name, target = gain["mixture"], gain["target"]
        gaps, each = ((found[name][target] - found[RECOMMENDED][target])[:, scales.middle] for found in (mean, many))
        moved = gaps + spread_of(each, (gain["low"] - gain["gain"], gain["high"] - gain["gain"]), level)
        (value,), draws = fallen(mean[name][target], gaps, scales), fallen(many[name][target], moved, scales)
        low, high = interval(draws, level)
        factors = np.exp([value, min(low, value), max(high, value)]).tolist()
        known = {"mixture": name, "target": target, "by": scales.by}
        yield known | dict(zip(EQUIVALENTS[3:], factors, strict=True))


def spread_of(values: Array, ends: tuple[float, float], level: float) -> Array:
    """Return deviations (b,) with the ranks of some values, whose interval at a level has these ends (split normal)."""
    normal = ndtri((values.argsort().argsort() + 0.5) / len(values)) / ndtri(0.5 + level / 2)
    return np.where(normal < 0, -normal * ends[0], normal * ends[1])


def frontiers(objective: Objective, mixture: Mixture, scales: Scales) -> dict[str, Array]:
    """Return the losses (b, u) of a mixture at the best size for every factor of compute, by target."""
    n_params, n_tokens = scales.n_params.ravel(), scales.n_tokens.ravel()
    total, found = np.zeros(1), dict[str, Array]()
    for target in objective.fit.targets:
        loss = objective.of(target).curve(mixture, n_params, n_tokens).reshape(-1, *scales.n_params.shape)
        total = total + objective.question.targets.get(target, 0.0) * loss
        found[target] = lowest_over_sizes(loss)[0]
    return {OBJECTIVE: lowest_over_sizes(total)[0]} | found


def lowest_over_sizes(loss: Array) -> tuple[Array, Array]:
    """Return (b, u) the minima of losses (b, u, v) over v and their places, by a parabola through three neighbours."""
    if loss.shape[-1] < 3:
        return loss.min(-1), loss.argmin(-1).astype(float)
    lowest = loss.argmin(-1)
    at = np.clip(lowest, 1, loss.shape[-1] - 2)
    left, middle, right = (np.take_along_axis(loss, at[..., None] + i, -1)[..., 0] for i in (-1, 0, 1))
    bend, tilt = left - 2 * middle + right, (left - right) / 2
    inside = (at == lowest) & (bend > 0)
    offset = np.where(inside, tilt / np.where(inside, bend, 1.0), lowest - at)
    return np.where(inside, middle - tilt * offset / 2, loss.min(-1)), at + offset


def fallen(loss: Array, by: Array, scales: Scales) -> Array:
    """Return (b,) the log factors at which losses (b, u) lie `by` (b,) below those of the big run."""
    return crossing(loss, loss[:, scales.middle] - by, scales)


def crossing(loss: Array, goal: Array, scales: Scales) -> Array:
    """Return (b,) the log factors at which losses (b, u) first meet a goal (b,), searched from the factor 1.

    A baseline that is worse is searched with more compute, one that is better with less. Where the goal is not met
    within the grid, the factor is the last one of the grid.
    """
    gap, start = loss - goal[:, None], scales.middle
    worse = gap[:, start] > 0
    rest = np.where(worse[:, None], gap[:, start:], -gap[:, start::-1])
    first = np.where((rest <= 0).any(1), np.maximum((rest <= 0).argmax(1), 1), rest.shape[1] - 1)
    before, after = (np.take_along_axis(rest, (first - i)[:, None], 1)[:, 0] for i in (1, 0))
    fall = before - after
    part = np.where(fall > 0, np.clip(before / np.where(fall > 0, fall, 1.0), 0.0, 1.0), 0.0)
    steps = np.where(after <= 0, first - 1 + part, first)
    size: Array = np.interp(steps, np.arange(start + 1), scales.log_factor[start:])  # the same on both sides
    return np.where(worse, size, -size)
