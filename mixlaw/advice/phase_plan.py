"""Which two mixtures should the big run read, one after the other, and what is that worth over the best single one?"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.advice.constraints import MEAN, limits
from mixlaw.advice.gains import OBJECTIVE, Gain, scatter_at
from mixlaw.advice.objective import Objective, as_mixture
from mixlaw.advice.phased_loss import PhasedLoss
from mixlaw.advice.simplex import ROUGHLY, Limits
from mixlaw.errors import ConfigError
from mixlaw.fitting.bootstrap import interval
from mixlaw.fitting.differences import gain_interval
from mixlaw.laws.jacobian import Array
from mixlaw.laws.terms import PHASES
from mixlaw.mixture import Mixture, phases_override
from mixlaw.tables.phase_mixtures import Phases

SWITCHES = (0.5, 0.6, 0.7, 0.8, 0.9)  # tried, as shares of the run's tokens
START = 0.1  # share of the uniform mixture in the start


@dataclass(frozen=True)
class PhasePlan:
    """The recommended phases of a big run.

    Attributes
    ----------
    until : where phases end, as shares of the run's tokens
    weights : the mixture of each phase
    table : phase, domain, weight, low, high (interval over resampled laws)
    predicted : loss of the run with these phases
    gains : target ("objective" first), gain, low, high: over a run on the best single mixture, as two runs would show
    switches : switch (share of the tokens), predicted: lowest loss with this switch
    """

    until: list[float]
    weights: list[Mixture]
    table: pd.DataFrame
    predicted: float
    gains: pd.DataFrame
    switches: pd.DataFrame

    @property
    def certain(self) -> bool:
        """Whether the interval of the objective's gain lies above 0."""
        return bool(self.gains["low"].iloc[0] > 0)

    @property
    def override(self) -> str:
        """The phases as a Hydra override of the trainer; empty if Hydra cannot express the names."""
        return phases_override(zip(self.until, self.weights, strict=True))

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        phases = [{"until": end, "weights": dict(h)} for end, h in zip(self.until, self.weights, strict=True)]
        tables = {name: getattr(self, name).to_dict("records") for name in ("table", "gains", "switches")}
        facts = {"phases": phases, "predicted": self.predicted, "certain": self.certain, "override": self.override}
        return facts | tables

    @classmethod
    def from_json(cls, facts: Any) -> "PhasePlan":
        """Return the plan of `to_json`; raises ValueError, TypeError or LookupError where it is damaged."""
        until = [float(phase["until"]) for phase in facts["phases"]]
        weights = [Mixture.of(phase["weights"], where="phases") for phase in facts["phases"]]
        tables = {name: pd.DataFrame(facts[name]) for name in ("table", "gains", "switches")}
        return cls(until=until, weights=weights, predicted=float(facts["predicted"]), **tables)


def plan_phases(objective: Objective, static: Array, switch: float | None, level: float) -> PhasePlan:
    """Return the best two phases of a big run, with intervals, and their gain over the best single mixture.

    Parameters
    ----------
    objective : the mean over resampled laws
    static : (k,) the best single mixture
    switch : share of the tokens at which the second phase begins; the best of `SWITCHES` by default
    level : of intervals, in (0, 1)
    """
    each, most = _limits(objective)
    ends = SWITCHES if switch is None else (switch,)
    tried = {end: _best(PhasedLoss(objective, (end, 1.0)), static, each, most) for end in ends}
    end = min(tried, key=lambda s: tried[s][1])
    loss, (point, predicted) = PhasedLoss(objective, (end, 1.0)), tried[end]
    drawn = PhasedLoss(objective.drawn(), (end, 1.0))
    cloud = drawn.phases(drawn.minimise(np.tile(point, (drawn.objective.count, 1)), each, most, ROUGHLY)[0])
    phases = loss.phases(point[None])[0]
    domains = objective.fit.domains
    weights = [as_mixture(domains, h) for h in phases]
    return PhasePlan(
        until=[float(end), 1.0],
        weights=weights,
        table=_table(domains, weights, interval(cloud, level)),
        predicted=predicted,
        gains=_gains(objective, end, np.stack([h.array for h in weights]), static, level),
        switches=pd.DataFrame([{"switch": s, "predicted": found[1]} for s, found in tried.items()]),
    )


def require_phases(objective: Objective, switch: float | None) -> None:
    """Raise if phases cannot be recommended.

    Raises
    ------
    ConfigError
        If the law does not tell phases apart, the switch is not inside the run, or the question has limits that do not
        apply to phases.
    """
    fit, question = objective.fit, objective.question
    if PHASES not in fit.law.uses:
        raise ConfigError(
            f"--phases: the {fit.name} law does not tell phases apart; take a law whose name has -phases "
            "(`mixlaw fit` considers it where runs change their mixture, --law names it)"
        )
    if switch is not None and not 0 < switch < 1:
        raise ConfigError(f"--switch must be a share of the run's tokens between 0 and 1, not {switch:g}")
    other = {
        "--group": question.groups,
        "--stay-near": question.stay_near,
        "--not-worse": question.not_worse,
        "--objective worst": question.objective != MEAN,
    }
    if used := [name for name, value in other.items() if value]:
        raise ConfigError(f"--phases cannot be combined with {used[0]}: it knows floors, caps, pins and epochs")


def _limits(objective: Objective) -> tuple[Limits, Array]:
    """Return the limits of every phase, and the largest weights in the whole run (k,)."""
    question, domains = objective.question, objective.fit.domains
    plain = replace(question, max_epochs=None)
    caps = question.epoch_caps()
    return limits(domains, plain), np.array([min(caps.get(d, 1.0), 1.0) for d in domains])


def _best(loss: PhasedLoss, static: Array, each: Limits, most: Array) -> tuple[Array, float]:
    """Return the best point (P k,) and its loss; it starts near the best single mixture, the best of equal phases."""
    start = loss.point(np.tile((1 - START) * static + START / loss.k, (len(loss.ends), 1)))
    points, values = loss.minimise(start[None], each, most)
    return points[0], float(values[0])


def _table(domains: list[str], weights: list[Mixture], spread: tuple[Array, Array]) -> pd.DataFrame:
    low, high = spread
    rows = [
        (p + 1, d, h[d], min(low[p, i], h[d]), max(high[p, i], h[d]))
        for p, h in enumerate(weights)
        for i, d in enumerate(domains)
    ]
    return pd.DataFrame(rows, columns=["phase", "domain", "weight", "low", "high"])


def _gains(objective: Objective, end: float, phases: Array, static: Array, level: float) -> pd.DataFrame:
    """Return the gain of phases (P, k) over a run on one mixture (k,), of the objective and of every target."""
    asked = {OBJECTIVE: objective} | {t: objective.of(t) for t in objective.fit.targets}
    rows = [(name, *_gain(one, end, phases, static, level)) for name, one in asked.items()]
    return pd.DataFrame(rows, columns=["target", "gain", "low", "high"])


def _gain(objective: Objective, end: float, phases: Array, static: Array, level: float) -> Gain:
    mean, drawn = (PhasedLoss(each, (end, 1.0)) for each in (objective, objective.drawn()))
    points = np.stack([mean.point(np.tile(static, (2, 1))), mean.point(phases)])
    gain = -float(np.diff(mean(points)[0])[0])
    cloud = [drawn(np.tile(point, (drawn.objective.count, 1)))[0] for point in points]
    halves = Phases(phases[None], np.array([[end, 1.0]])).halves()[0]
    sd = scatter_at(objective, halves, static, {t: objective.of(t).at(static) for t in objective.question.targets})
    low, high = gain_interval(np.array([gain]), (cloud[0] - cloud[1])[:, None], sd, level)
    return gain, float(low[0]), float(high[0])
