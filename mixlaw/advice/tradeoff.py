"""Trade-off curves: the lowest loss of one target at each loss of another, or at each distance from the baseline.

Each point solves one problem of the epsilon-constraint method (Haimes, Lasdon and Wismer 1971, IEEE Transactions on
Systems, Man and Cybernetics 1): minimise the one quantity while the other is at most a level. All levels are solved in
one batch by augmented Lagrangians. The distance is the total variation: the share of the tokens that moves to other
domains. Its corners are smoothed in the search; reported distances are exact.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mixlaw.advice.bounded import MET, ROUGHLY_MET, Functions, minimise_bounded
from mixlaw.advice.constraints import MEAN, RECOMMENDED
from mixlaw.advice.goal import Goal
from mixlaw.advice.objective import Mixtures, Objective, as_mixture, run_noise
from mixlaw.advice.optima import optimum
from mixlaw.advice.recommendation import Recommendation
from mixlaw.advice.simplex import ROUGHLY, Rows, project
from mixlaw.errors import ConfigError
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.jacobian import Array

LEVELS = 20  # points of a curve
SMOOTH = 1e-3  # weight below which differences from the baseline are smoothed
OF_OBJECTIVE = "objective"  # as the name of y
NO_DISTANCE = 1e-6  # smallest length of a curve from the baseline
DISTANCE = "distance"  # as the name of x
Loss = Callable[[Array], Array]  # mixtures (b, k) -> (b,)


@dataclass(frozen=True)
class Tradeoff:
    """A Pareto front between two quantities.

    Attributes
    ----------
    x, y : what the axes show: a target, `DISTANCE`, or `OF_OBJECTIVE`
    curve : DataFrame of x, y and weights (a `Mixture`), from the lowest x on
    marks : DataFrame of mixture, x, y: the recommended mixture and the baselines
    noise : sd of one run of y, in y's unit
    """

    x: str
    y: str
    curve: pd.DataFrame
    marks: pd.DataFrame
    noise: float


def tradeoff(laws: FittedLaws, answer: Recommendation) -> Tradeoff:
    """Return the trade-off between the question's two targets, or else between its objective and the distance.

    Raises
    ------
    ConfigError
        If the question has neither two targets nor a baseline.
    """
    question = answer.question
    targets = important(answer)
    objective = Objective(laws.fits[answer.law], question, laws.sizes)
    mixtures = {RECOMMENDED: answer.weights} | answer.baselines
    if len(targets) == 2:
        return between_targets(objective, (targets[0], targets[1]), mixtures, laws)
    if not has_tradeoff(answer):
        raise ConfigError(
            "a trade-off needs two targets (--target A:1,B:1), or a mixture to compare with (--baseline uniform or D=W)"
        )
    return from_baseline(objective, mixtures, laws)


def has_tradeoff(answer: Recommendation) -> bool:
    """Return whether a question has two targets, or a baseline."""
    return len(important(answer)) == 2 or bool(answer.question.baselines)


def important(answer: Recommendation) -> list[str]:
    """Return the targets that the objective counts."""
    return [target for target, weight in answer.question.targets.items() if weight > 0]


def between_targets(objective: Objective, targets: tuple[str, str], mixtures: Mixtures, laws: FittedLaws) -> Tradeoff:
    """Return the lowest loss of the second target at each loss of the first, under the question's limits."""
    plain = replace(objective.question, kl_penalty=0.0, stay_near=None, objective=MEAN)
    first, second = (objective.asking(replace(plain, targets={target: 1.0})) for target in targets)
    ends = [optimum(one, mixtures) for one in (first, second)]
    levels = np.maximum.accumulate(first.loss(_segment(*ends)))

    def beyond(h: Array, rows: Rows) -> tuple[Array, Array]:
        (value, slope), level = first(h), levels[rows % LEVELS]
        return (value / level - 1)[:, None], slope[:, None] / level[:, None, None]

    goal = Goal(second)
    front, convex = _front(goal, beyond, ends[0], ends[1]), goal.convex and first.convex
    return Tradeoff(
        *targets,
        curve=_points(front, first.loss(front), second.loss(front), objective.fit.domains, convex),
        marks=_marks(mixtures, first.loss, second.loss),
        noise=run_noise(second, laws.noise),
    )


def from_baseline(objective: Objective, mixtures: Mixtures, laws: FittedLaws) -> Tradeoff:
    """Return the lowest value of the objective at each distance from the first baseline, under all limits."""
    free = objective.asking(replace(objective.question, kl_penalty=0.0, stay_near=None))
    goal, in_use, best = Goal(free), free.question.in_use.array, optimum(free, mixtures)

    def distance(h: Array) -> Array:
        total: Array = np.abs(h - in_use).sum(1) / 2
        return total

    levels = max(float(distance(best[None])[0]), NO_DISTANCE) * np.linspace(0, 1, LEVELS + 1)[1:]

    def beyond(h: Array, rows: Rows) -> tuple[Array, Array]:
        root, level = np.sqrt((h - in_use) ** 2 + SMOOTH**2), 2 * levels[rows % LEVELS, None]
        return (root - SMOOTH).sum(1, keepdims=True) / level - 1, ((h - in_use) / root / level)[:, None]

    allowed = np.abs(project(in_use[None], free.limits)[0] - in_use).max() < MET and goal.excess(in_use[None])[0] < MET
    front = np.vstack([*([in_use] if allowed else []), _front(goal, beyond, in_use, best)])
    return Tradeoff(
        DISTANCE,
        OF_OBJECTIVE,
        curve=_points(front, distance(front), goal.value(front), objective.fit.domains, goal.convex),
        marks=_marks(mixtures, distance, goal.value),
        noise=run_noise(free, laws.noise) * goal.unit,
    )


def _front(goal: Goal, beyond: Functions, one: Array, other: Array) -> Array:
    """Return the optima (p, k) at all levels of one more bound, as far as it can be met.

    Parameters
    ----------
    beyond : by how much mixtures exceed the levels, row i the level i modulo `LEVELS`
    one, other : (k,) the ends of the front; the search begins on the line between them
    """

    def bounds(h: Array, rows: Rows) -> tuple[Array, Array]:
        (value, slope), (further, further_slope) = goal.bounds(h, rows), beyond(h, rows)
        return np.hstack([value, further]), np.concatenate([slope, further_slope], 1)

    even = np.tile(project(np.full((1, len(one)), 1 / len(one)), goal.objective.limits), (LEVELS, 1))
    begin = np.vstack([_segment(one, other), np.tile(one, (LEVELS, 1)), (_segment(one, other) + even) / 2])
    ends, values = minimise_bounded(goal.criteria, bounds, begin, goal.objective.limits, ROUGHLY)
    best = values.reshape(-1, LEVELS).argmin(0) * LEVELS + np.arange(LEVELS)
    met = bounds(ends[best], best)[0].max(1) <= ROUGHLY_MET
    return ends[best[met]]


def _segment(one: Array, other: Array) -> Array:
    """Return (LEVELS, k) mixtures on the straight line between two."""
    share = np.linspace(0, 1, LEVELS)[:, None]
    return (1 - share) * one + share * other


def _points(front: Array, x: Array, y: Array, domains: list[str], convex: bool) -> pd.DataFrame:
    """Return the points of a front (p, k) that no other point dominates, from the lowest x on.

    A point of a convex problem that lies above the chord of two others is left out: a mixture of theirs is better.
    """
    kept: list[int] = []
    for i in np.lexsort((y, x)):
        if kept and y[i] >= y[kept[-1]]:
            continue
        while convex and len(kept) > 1 and _above(x, y, kept[-2], kept[-1], i):
            kept.pop()
        kept.append(int(i))
    return pd.DataFrame({"x": x[kept], "y": y[kept], "weights": [as_mixture(domains, front[i]) for i in kept]})


def _above(x: Array, y: Array, before: int, point: int, after: int) -> bool:
    """Return whether a point lies above the chord from the point before it to the one after it."""
    return bool((y[point] - y[before]) * (x[after] - x[before]) > (y[after] - y[before]) * (x[point] - x[before]))


def _marks(mixtures: Mixtures, x: Loss, y: Loss) -> pd.DataFrame:
    """Return both quantities of named mixtures."""
    rows = [(name, float(x(h.array[None])[0]), float(y(h.array[None])[0])) for name, h in mixtures.items()]
    return pd.DataFrame(rows, columns=["mixture", "x", "y"])
