"""What a mixture costs and tolerates: flat frontier, prices of limits, the path over scale, what other laws say."""

from dataclasses import replace

import numpy as np
import pandas as pd

from mixlaw.artefact import FittedLaws
from mixlaw.errors import FitError
from mixlaw.objective import Mixtures, Objective, clean, drawn_optima, optimum
from mixlaw.simplex import Limits, minimise_mixture, starts
from mixlaw.slopes import Array
from mixlaw.uncertainty import interval

PATH_POINTS = 5
PROFILE_POINTS = 17  # weights of a domain at which the best of the rest is looked for
ONE_DOMAIN = ("min", "max", "pin", "epochs")  # kinds of constraints on the weight of one domain
ACTIVE = 1e-7  # a constraint whose loss is above this [nats] has a price worth naming


def flat_frontier(objective: Objective, best: Array, noise: float) -> Array:
    """Return (k, 2): how far each weight can go, the others following, at a loss within the noise of the best.

    Each weight is held at some values between its limits while the rest is optimised; between them the loss is
    interpolated.
    """
    objective = objective.coarse()
    where, half = objective.limits, np.linspace(0, 1, PROFILE_POINTS // 2 + 1) ** 2
    grids = []
    for i, weight in enumerate(best):
        low, high = _reach(where, i)
        below, above = weight - (weight - low) * half[:0:-1], weight + (high - weight) * half
        grids.append(np.clip(np.append(below, above), low, high))
    held = [where.pinned(i, grid) for i, grid in enumerate(grids)]
    together = Limits(np.vstack([h.low for h in held]), np.vstack([h.high for h in held]), where.groups)
    h, _ = minimise_mixture(objective, np.tile(best, (len(together.low), 1)), together)
    losses, limit = objective.loss(h).reshape(len(best), -1), objective.at(best) + noise
    return np.array([_within(g, loss, limit, w) for g, loss, w in zip(grids, losses, best, strict=True)])


def _reach(where: Limits, i: int) -> tuple[float, float]:
    """Return the least and the most weight that a domain can have, given all limits."""
    low = max(where.low[i], 1 - np.delete(where.high, i).sum())
    high = min(where.high[i], 1 - np.delete(where.low, i).sum())
    for group in where.groups:
        if i in group.members:
            others = [m for m in group.members if m != i]
            low = max(low, group.low - where.high[others].sum())
            high = min(high, group.high - where.low[others].sum())
    return float(low), float(max(low, high))


def _within(grid: Array, loss: Array, limit: float, best: float) -> tuple[float, float]:
    """Return the ends of the stretch around `best` where the loss is below the limit, interpolated."""
    middle = int(np.abs(grid - best).argmin())
    ends = []
    for step in (-1, 1):
        i = middle
        while 0 <= i + step < len(grid) and loss[i + step] <= limit:
            i += step
        end = grid[i]
        if 0 <= i + step < len(grid) and loss[i + step] > loss[i]:
            part = np.clip((limit - loss[i]) / (loss[i + step] - loss[i]), 0, 1)
            end = grid[i] + part * (grid[i + step] - grid[i])
        ends.append(float(end))
    return min(ends[0], best), max(ends[1], best)


def prices(objective: Objective, best: Array, rivals: Mixtures) -> pd.DataFrame:
    """Return what each constraint that matters costs: the loss with it minus the loss without it alone [nats].

    Returns
    -------
    DataFrame of constraint, cost, and, where it is about one domain, its weight with and without it.
    """
    question, fit, rows = objective.question, objective.fit, []
    others = {name: question.without(name) for name in question.constraints()}
    if question.pull:
        others["prior"] = replace(question, pull=0.0)
    for name, other in others.items():
        free = objective.asking(other)
        there = optimum(free, rivals)
        cost = float(free(best[None])[0][0] - free(there[None])[0][0])
        if cost > ACTIVE:
            kind, _, domain = name.partition(" ")
            i = fit.domains_.index(domain) if kind in ONE_DOMAIN else None
            weights = {} if i is None else {"weight": float(best[i]), "weight_without": float(there[i])}
            rows.append({"constraint": name, "cost": cost} | weights)
    return pd.DataFrame(rows, columns=["constraint", "cost", "weight", "weight_without"])


def other_laws(laws: FittedLaws, objective: Objective, best: Array, rivals: Mixtures) -> pd.DataFrame:
    """Return what each of the other fitted laws would recommend, and what that costs by the law that is asked [nats].

    Returns
    -------
    DataFrame of law, predicted (by that law), regret, and weights (domain -> weight); laws that cannot answer are left
    out
    """
    rows, least = [], objective.at(best)
    for name, fit in laws.fits.items():
        if name == objective.fit.law:
            continue
        try:
            other = Objective(fit, objective.question, objective.sizes)
        except FitError:
            continue
        h = optimum(other, rivals)
        row = {"law": name, "predicted": other.at(h), "regret": max(objective.at(h) - least, 0.0)}
        rows.append(row | {"weights": dict(zip(fit.domains_, clean(h), strict=True))})
    return pd.DataFrame(rows, columns=["law", "predicted", "regret", "weights"])


def path(
    objective: Objective,
    start: tuple[float, float],
    best: Array,
    ends: tuple[Array, Array],
    rivals: Mixtures,
    level: float,
) -> pd.DataFrame:
    """Return h* from a small run to the asked one, and the regret of training the big run on each [nats].

    Between them N and D grow geometrically. Limits by epochs are those of the big run.

    Parameters
    ----------
    start : N and D of the small run
    best : (k,) h* of the big one
    ends : its interval, low and high (k,)
    level : of the others, which come from resampled laws, too

    Returns
    -------
    DataFrame of n_params, n_tokens, regret, weights (domain -> weight) and interval (domain -> [low, high])
    """
    question, least, domains = objective.question, objective.at(best), objective.fit.domains_
    caps = question.caps | {d: min(c, question.caps.get(d, 1.0)) for d, c in question.epoch_caps().items()}
    rows = []
    for part in np.linspace(0, 1, PATH_POINTS):
        n, d = (a ** (1 - part) * b**part for a, b in zip(start, (question.n_params, question.n_tokens), strict=True))
        here = replace(question, n_params=float(n), n_tokens=float(d), caps=caps, max_epochs=None)
        asked = objective.asking(here)
        h = best if part == 1 else optimum(asked, rivals)
        reached = [h, starts(asked.limits)[0]]
        low, high = ends if part == 1 else interval(drawn_optima(asked.drawn(), reached), level)
        between = zip(domains, np.minimum(low, h), np.maximum(high, h), strict=True)
        row = {"n_params": float(n), "n_tokens": float(d), "regret": max(objective.at(h) - least, 0.0)}
        shares = {"weights": dict(zip(domains, clean(h), strict=True))}
        rows.append(row | shares | {"interval": {name: [float(a), float(b)] for name, a, b in between}})
    return pd.DataFrame(rows)
