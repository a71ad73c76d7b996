"""The optimal mixture of a question, and of every resampled law; limits on losses that no mixture meets."""

import numpy as np

from mixlaw.advice.bounded import MET, minimise_bounded
from mixlaw.advice.goal import Goal, RelativeLosses
from mixlaw.advice.loss_limits import limits_text
from mixlaw.advice.objective import Mixtures, Objective
from mixlaw.advice.simplex import ROUGHLY, Rows, starts
from mixlaw.errors import ConfigError
from mixlaw.laws.jacobian import Array


def optimum(objective: Objective, baselines: Mixtures) -> Array:
    """Return (k,) the optimal mixture: the best minimum from several starts; global if the problem is convex.

    If it is not convex, the loss of the best fit is minimised first, from all starts; the mean over resampled laws is
    minimised from that minimum and from the baselines. If no mixture meets the limits on losses, the result is one that
    exceeds them little; `require_met` tells.
    """
    goal, where = Goal(objective), objective.limits
    plain = [m.array for m in baselines.values()]
    if goal.convex:
        return goal.lowest(np.vstack([starts(where)[0], *plain]), where)
    single = Goal(objective.best_fit()).lowest(np.vstack([starts(where), *plain]), where)
    return goal.lowest(np.vstack([single, starts(where)[0], *plain]), where)


def drawn_optima(draws: Objective, points: list[Array], goal: Goal | None = None) -> Array:
    """Return (b, k) the optimum of every drawn law: the best minimum from a few starts (k,) or (b, k).

    Parameters
    ----------
    goal : what is minimised, by default the question of `draws`
    """
    goal, where = goal or Goal(draws), draws.limits
    points = [p for i, p in enumerate(points) if not any(np.array_equal(p, q) for q in points[:i])]
    begin = np.stack([np.broadcast_to(p, (draws.count, p.shape[-1])) for p in points])
    ends, values = goal.minimise(begin.reshape(-1, begin.shape[-1]), where, ROUGHLY)
    which = values.reshape(begin.shape[:2]).argmin(0)
    best: Array = ends.reshape(begin.shape)[which, np.arange(draws.count)]
    return best


def require_met(objective: Objective, best: Array) -> None:
    """Raise if the best mixture (k,) exceeds limits on losses.

    Raises
    ------
    ConfigError
        Names the limits that are exceeded where the largest excess is lowest, and the losses that are possible there.
    """
    question = objective.question
    if Goal(objective).excess(best[None])[0] <= MET:
        return
    ratios = RelativeLosses(objective, question.not_worse)
    most = np.array([1 + percent / 100 for percent in question.not_worse.values()])
    nearest = _least_excess(ratios, most, np.vstack([best, starts(objective.limits)]), objective)
    reached = dict(zip(ratios.targets, ratios(nearest[None])[0][0], strict=True))
    asked = {t: p for t, p in question.not_worse.items() if reached[t] > (1 + p / 100) * (1 + MET)}
    possible = {t: _rounded_up(100 * (reached[t] - 1)) for t in asked}
    said = "contradict each other" if len(asked) > 1 else "cannot be met"
    said += " within the limits of weights" if len(question.constraints()) > len(question.not_worse) else ""
    nearest_text = f"the nearest that can be met is {limits_text(possible)}"
    raise ConfigError(f"--not-worse {limits_text(asked)} {said}: {nearest_text}")


def _least_excess(ratios: RelativeLosses, most: Array, points: Array, objective: Objective) -> Array:
    """Return (k,) the mixture whose largest loss, relative to its limit, is lowest."""

    def relative(h: Array, rows: Rows) -> tuple[Array, Array]:
        value, slope = ratios(h, rows)
        return value / most, slope / most[:, None]

    none = RelativeLosses(objective, ())
    ends, values = minimise_bounded(relative, none, points, objective.limits)
    best: Array = ends[int(values.argmin())]
    return best


def _rounded_up(percent: float) -> float:
    """Return a percentage rounded up to two decimals, and 0.01 more, so that rounding cannot make it infeasible."""
    return float(np.ceil(100 * percent + 0.01) / 100)
