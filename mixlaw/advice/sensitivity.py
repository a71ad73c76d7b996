"""Sensitivity of h*: flat directions, costs of constraints, its path over scale, and optima of other laws."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.advice.bounded import MET
from mixlaw.advice.goal import Goal
from mixlaw.advice.objective import Mixtures, Objective, as_mixture
from mixlaw.advice.optima import drawn_optima, optimum
from mixlaw.advice.simplex import ROUGHLY, Limits, starts
from mixlaw.errors import FitError
from mixlaw.fitting.bootstrap import interval
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.jacobian import Array
from mixlaw.laws.terms import TINY

PATH_POINTS = 5
PATH_DRAWS = 50  # resampled laws for the intervals at intermediate points
INWARDS = 0.1  # share of the central mixture in a start
PROFILE_STEPS = 8  # values of a weight on either side of the best one, in its profile
PATH = ["n_params", "n_tokens", "regret", "weights", "interval"]
ONE_DOMAIN = ("min", "max", "pin", "epochs")  # kinds of constraints on the weight of one domain
ACTIVE = 1e-7  # smallest reported cost of a constraint [nats]


def flat_frontier(objective: Objective, best: Array, noise: float) -> Array:
    """Return (k, 2): the range of each weight in which the profile loss is within `noise` of the lowest.

    The profile of a weight is computed outwards from the best mixture: the weight is fixed at successive values and the
    others are reoptimised, until the loss exceeds the limit. The end of the range is interpolated; where limits on
    losses cannot be met, the range ends at the last value.
    """
    goal, k = Goal(objective.coarse()).loosened(best), len(best)
    where, loss_at_best = objective.limits, float(goal.loss(best[None])[0])
    limit, domain = loss_at_best + noise, np.repeat(np.arange(k), 2)  # one row per weight and direction
    far = np.array([_reach(where, i) for i in range(k)]).ravel()
    ends, loss, h = best[domain], np.full(2 * k, loss_at_best), np.tile(best, (2 * k, 1))
    going = np.flatnonzero(far != best[domain])
    for part in np.linspace(0, 1, PROFILE_STEPS + 1)[1:] ** 2:
        if not len(going):
            break
        weight = best[domain[going]] + part * (far - best[domain])[going]
        h[going] = _held(goal, where.pinned(domain[going], weight), h[going], best)
        there, here = goal.loss_within(h[going]), loss[going]
        share = np.where(there > limit, (limit - here) / np.maximum(there - here, TINY), 1.0)
        ends[going] += share * (weight - ends[going])
        loss[going] = there
        going = going[there <= limit]
    return np.clip(ends.reshape(k, 2), 0.0, 1.0)


def inwards(h: Array, middle: Array) -> Array:
    """Return starts near mixtures (b, k) with all weights above 0: mirror descent never leaves a weight of 0."""
    return INWARDS * middle + (1 - INWARDS) * h


def _held(goal: Goal, where: Limits, nearest: Array, best: Array) -> Array:
    """Return the optima (b, k) under limits of their own, started from `nearest` (b, k) and from `best` (k,)."""
    if goal.convex:
        return goal.minimise(inwards(nearest, starts(goal.objective.limits)[0]), where, ROUGHLY)[0]
    points, twice = np.vstack([nearest, np.tile(best, (len(nearest), 1))]), np.tile(np.arange(len(nearest)), 2)
    ends, values = goal.minimise(points, where.rows(twice), ROUGHLY)
    (near, far), (near_value, far_value) = np.split(ends, 2), np.split(values, 2)
    return np.where((near_value <= far_value)[:, None], near, far)


def _reach(where: Limits, i: int) -> tuple[float, float]:
    """Return the minimum and maximum feasible weight of a domain."""
    low = max(where.low[i], 1 - np.delete(where.high, i).sum())
    high = min(where.high[i], 1 - np.delete(where.low, i).sum())
    for group in where.groups:
        if i in group.members:
            others = [m for m in group.members if m != i]
            low = max(low, group.low - where.high[others].sum())
            high = min(high, group.high - where.low[others].sum())
    return float(low), float(max(low, high))


def prices(objective: Objective, best: Array, points: Array) -> pd.DataFrame:
    """Return the cost of each active constraint: the lowest loss with it minus the lowest loss without it [nats].

    Parameters
    ----------
    best : (k,) h* under all constraints
    points : (p, k) further starts of the search without a constraint; the unconstrained h* among them

    Returns
    -------
    DataFrame of constraint, cost and, if it is about one domain, the domain's weight with and without it.
    """
    question, fit, rows = objective.question, objective.fit, []
    slack = {f"not worse {t}" for t in question.not_worse} - {f"not worse {t}" for t in Goal(objective).binding(best)}
    names = [name for name in question.constraints() if name not in slack]
    others = {name: Goal(objective.asking(question.without(name))) for name in names}
    if question.kl_penalty:
        others["stay near"] = Goal(objective.asking(replace(question, kl_penalty=0.0)))
    there = _optima(others, np.vstack([best, points]))
    for name, free in others.items():
        cost = free.penalised(best) - free.penalised(there[name])
        if cost > ACTIVE:
            kind, _, domain = name.partition(" ")
            i = fit.domains.index(domain) if kind in ONE_DOMAIN else None
            weights = {} if i is None else {"weight": float(best[i]), "weight_without": float(there[name][i])}
            rows.append({"constraint": name, "cost": cost} | weights)
    return pd.DataFrame(rows, columns=["constraint", "cost", "weight", "weight_without"])


def _optima(asked: Mapping[str, Goal], points: Array) -> dict[str, Array]:
    """Return the optimum (k,) of each goal, started from every point (p, k).

    Goals that differ only in limits of single domains are minimised in one batch.
    """
    alike: dict[Any, list[str]] = {}
    for name, goal in asked.items():
        question, groups = goal.objective.question, goal.objective.limits.groups
        key = question.kl_penalty, tuple(question.not_worse), tuple((tuple(g.members), g.low, g.high) for g in groups)
        alike.setdefault(key, []).append(name)
    found = {}
    for names in alike.values():
        where = [asked[name].objective.limits for name in names]
        low, high = (np.repeat([getattr(w, side) for w in where], len(points), 0) for side in ("low", "high"))
        together = Limits(low, high, where[0].groups)
        ends, values = asked[names[0]].minimise(np.tile(points, (len(names), 1)), together)
        for i, name in enumerate(names):
            own = slice(i * len(points), (i + 1) * len(points))
            found[name] = ends[own][int(values[own].argmin())]
    return found


def other_laws(laws: FittedLaws, objective: Objective, best: Array, baselines: Mixtures) -> pd.DataFrame:
    """Return h* of each other fitted law, and its regret under the law of the objective [nats].

    Returns
    -------
    DataFrame of law, predicted (by that law), regret, and weights (a `Mixture`); without laws that cannot recommend,
    or by which no mixture meets the limits on losses
    """
    rows, goal = [], Goal(objective)
    least = float(goal.loss(best[None])[0])
    for name, fit in laws.fits.items():
        if name == objective.fit.name:
            continue
        try:
            other = Objective(fit, objective.question, objective.sizes)
        except FitError:
            continue
        h = optimum(other, baselines)
        if Goal(other).excess(h[None])[0] > MET:
            continue
        row = {"law": name, "predicted": other.at(h), "regret": max(float(goal.loss(h[None])[0]) - least, 0.0)}
        rows.append(row | {"weights": as_mixture(fit.domains, h)})
    return pd.DataFrame(rows, columns=["law", "predicted", "regret", "weights"])


def path(
    objective: Objective,
    start: tuple[float, float],
    best: Array,
    ends: tuple[Array, Array],
    baselines: Mixtures,
    level: float,
) -> pd.DataFrame:
    """Return h* between a small run and the big run, and the regret of training the big run on it [nats].

    N and D are spaced geometrically, as far as the law depends on them; a law that depends on neither has no path.
    Epoch limits are those of the big run.

    Parameters
    ----------
    start : N and D of the small run
    best : (k,) h* of the big run
    ends : its interval, low and high (k,)
    level : of the other intervals, which use fewer resampled laws

    Returns
    -------
    DataFrame of n_params, n_tokens, regret, weights (a `Mixture`) and interval (domain -> [low, high])
    """
    if not objective.reads & {"N", "D"}:
        return pd.DataFrame(columns=PATH)
    question, goal, domains = objective.question, Goal(objective), objective.fit.domains
    least = float(goal.loss(best[None])[0])
    ends_at = (question.n_params, question.n_tokens)
    begins = [a if letter in objective.reads else b for a, b, letter in zip(start, ends_at, "ND", strict=True)]
    caps = question.caps | {d: min(c, question.caps.get(d, 1.0)) for d, c in question.epoch_caps().items()}
    rows = []
    for part in np.linspace(0, 1, PATH_POINTS):
        n, d = (a ** (1 - part) * b**part for a, b in zip(begins, ends_at, strict=True))
        here = replace(question, n_params=float(n), n_tokens=float(d), caps=caps, max_epochs=None)
        asked = objective.asking(here)
        h = best if part == 1 else optimum(asked, baselines)
        reached = [h, starts(asked.limits)[0]]
        low, high = ends if part == 1 else interval(drawn_optima(asked.drawn(PATH_DRAWS), reached), level)
        between = zip(domains, np.minimum(low, h), np.maximum(high, h), strict=True)
        row = {"n_params": float(n), "n_tokens": float(d), "regret": max(float(goal.loss(h[None])[0]) - least, 0.0)}
        shares = {"weights": as_mixture(domains, h)}
        rows.append(row | shares | {"interval": {name: [float(a), float(b)] for name, a, b in between}})
    return pd.DataFrame(rows)
