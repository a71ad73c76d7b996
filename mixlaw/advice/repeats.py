"""What repeated data mean for a recommended mixture: epochs, what fresh tokens would gain, and the loss over epochs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mixlaw.advice.ask import law_of
from mixlaw.advice.constraints import RECOMMENDED
from mixlaw.advice.objective import Objective, as_mixture
from mixlaw.advice.optima import optimum
from mixlaw.advice.recommendation import Recommendation
from mixlaw.fitting.bootstrap import interval
from mixlaw.fitting.fitted import LEVEL
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.jacobian import Array
from mixlaw.laws.terms import TINY
from mixlaw.mixture import Mixture
from mixlaw.tables.available import UNLIMITED

FEWEST, FURTHER, N_POINTS = 0.5, 2.0, 61  # a curve: from half an epoch to twice those of h*, at so many shares


@dataclass(frozen=True)
class Scarcity:
    """What a law of repetition says of a big run whose data are scarce.

    Attributes
    ----------
    unlimited : the best mixture if all domains had unlimited tokens, under the same limits of weights
    gain : by how much its loss would be lower than that of h*
    fresh : per domain that h* repeats: domain, share, epochs, and by how much fresh tokens in place of repeated ones
        would lower the loss of h* (gain, low, high)
    curves : such a domain -> share, epochs, loss with low and high, and fresh, the loss if its tokens were unlimited;
        the other domains keep their proportions of h*
    """

    unlimited: Mixture
    gain: float
    fresh: pd.DataFrame
    curves: Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Repeats:
    """How a big run repeats its domains.

    Attributes
    ----------
    epochs : per domain that some mixture repeats: domain, available (tokens), and the epochs under the recommended
        mixture and every baseline
    scarcity : what it means; None if the law does not know repetition
    """

    epochs: pd.DataFrame
    scarcity: Scarcity | None


def repeats(laws: FittedLaws, answer: Recommendation) -> Repeats | None:
    """Return how the big run of a recommendation repeats its domains; None if no mixture repeats one.

    Raises
    ------
    ConfigError
        If the recommendation is by a law that is not among `laws`.
    """
    mixtures = {RECOMMENDED: answer.weights} | answer.baselines
    columns = {"available": answer.question.available} | {name: answer.epochs_of(h) for name, h in mixtures.items()}
    epochs = pd.DataFrame(columns).rename_axis("domain").reset_index()
    epochs = epochs[(epochs[[*mixtures]] > 1).any(axis=1)]
    if epochs.empty:
        return None
    objective = Objective(law_of(laws, answer.law), answer.question, laws.sizes)
    return Repeats(epochs, _scarcity(objective, answer) if "available" in objective.reads else None)


def _scarcity(objective: Objective, answer: Recommendation) -> Scarcity:
    domains, h = objective.fit.domains, answer.weights.array
    endless = _with_unlimited(objective, domains)
    free = optimum(endless, answer.baselines)
    repeated = {d: many for d, many in answer.epochs.items() if many > 1}
    fresh = [
        {"domain": d, "share": answer.weights[d], "epochs": many} | _gain(objective, _with_unlimited(objective, [d]), h)
        for d, many in repeated.items()
    ]
    return Scarcity(
        unlimited=as_mixture(domains, free),
        gain=objective.at(h) - endless.at(free),
        fresh=pd.DataFrame(fresh),
        curves={d: _curve(objective, d, h, many) for d, many in repeated.items()},
    )


def _with_unlimited(objective: Objective, domains: Iterable[str]) -> Objective:
    """Return the objective of the same question with unlimited tokens of some domains, and no limit of epochs."""
    question = objective.question
    available = question.available | dict.fromkeys(domains, UNLIMITED)
    return objective.asking(replace(question, available=available, max_epochs=None))


def _gain(objective: Objective, fresh: Objective, h: Array) -> dict[str, float]:
    """Return by how much the loss of a mixture (k,) is lower with fresh tokens, with an interval."""
    gain = objective.at(h) - fresh.at(h)
    low, high = interval(_by_law(objective, h[None]) - _by_law(fresh, h[None]), LEVEL)
    return {"gain": gain, "low": min(float(low[0]), gain), "high": max(float(high[0]), gain)}


def _curve(objective: Objective, domain: str, h: Array, epochs: float) -> pd.DataFrame:
    """Return the loss over the epochs of a domain, the others having their proportions in a mixture (k,)."""
    at = objective.fit.domains.index(domain)
    shares = np.geomspace(FEWEST * h[at] / epochs, min(1.0, FURTHER * h[at]), N_POINTS)
    others = np.where(np.arange(len(h)) == at, 0.0, np.maximum(h, TINY))
    mixtures = np.outer(1 - shares, others / others.sum())
    mixtures[:, at] = shares
    low, high = interval(_by_law(objective, mixtures), LEVEL)
    fresh = _with_unlimited(objective, [domain]).loss(mixtures)
    columns = {"share": shares, "epochs": shares * epochs / h[at], "loss": objective.loss(mixtures)}
    return pd.DataFrame(columns | {"low": low, "high": high, "fresh": fresh})


def _by_law(objective: Objective, mixtures: Array) -> Array:
    """Return the losses (b, n) of mixtures (n, k) under every resampled law."""
    drawn = objective.drawn()
    return np.column_stack([drawn.loss(np.tile(h, (drawn.count, 1))) for h in mixtures])
