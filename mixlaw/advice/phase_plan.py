"""Which mixtures should the big run read, one after the other, and what is that worth over the best single one?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.advice.constraints import RECOMMENDED, Question
from mixlaw.advice.gains import GAINS
from mixlaw.advice.objective import Mixtures, Objective, as_mixture
from mixlaw.advice.optima import optimum
from mixlaw.advice.phase_gains import losses_of, phase_gains
from mixlaw.advice.phase_search import MOST_PHASES, Course, best_courses
from mixlaw.advice.phased_objective import PhasedGoal, PhasedObjective
from mixlaw.advice.simplex import ROUGHLY
from mixlaw.errors import ConfigError
from mixlaw.fitting.bootstrap import interval
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.laws.jacobian import Array
from mixlaw.laws.terms import PHASES
from mixlaw.mixture import Mixture
from mixlaw.phased_mixture import PhasedMixture
from mixlaw.tables.phase_mixtures import ranges_by_phase
from mixlaw.tables.table import Table

SINGLE = "one mixture"  # name of the best single one where phases are compared with it
Ranges = Sequence[Mapping[str, tuple[float, float]]]  # per phase: domain -> (low, high) of its weights


@dataclass(frozen=True)
class PhasePlan:
    """The recommended phases of a big run.

    Attributes
    ----------
    until : (P,) where phases end, as shares of the run's tokens
    weights : (P,) the mixture of each phase
    table : phase, domain, weight, low, high (interval over resampled laws)
    predicted : loss of the run with these phases
    gains : target ("objective" first), gain, low, high: over a run on the best single mixture, as two runs would show
    switches : switch (end of the first phase, as a share of the tokens), switch_2, ... (of the next ones), predicted:
        what is minimised, at its lowest with these switches
    losses : target ("objective" first), predicted, low, high: of one run with these phases
    over : mixture, target, gain, low, high: over the question's baselines and the usual mixtures
    """

    until: list[float]
    weights: list[Mixture]
    table: pd.DataFrame
    predicted: float
    gains: pd.DataFrame
    switches: pd.DataFrame
    losses: pd.DataFrame = field(default_factory=pd.DataFrame)
    over: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=GAINS))

    @property
    def certain(self) -> bool:
        """Whether the interval of the objective's gain lies above 0."""
        return bool(self.gains["low"].iloc[0] > 0)

    @property
    def mixture(self) -> PhasedMixture:
        """The phases as one mixture that changes."""
        return PhasedMixture(self.until, self.weights)

    @property
    def override(self) -> str:
        """The phases as a Hydra override of the trainer; empty if Hydra cannot express the names."""
        return self.mixture.hydra_override()

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain data."""
        facts = {"phases": self.mixture.to_json(), "predicted": self.predicted, "certain": self.certain}
        return facts | {"override": self.override} | {n: getattr(self, n).to_dict("records") for n in TABLES}

    @classmethod
    def from_json(cls, facts: Any) -> "PhasePlan":
        """Return the plan of `to_json`; raises ValueError, TypeError or LookupError where it is damaged."""
        found = PhasedMixture.from_json(facts["phases"])
        tables = {name: pd.DataFrame(facts[name]) for name in TABLES if name in facts}
        return cls(list(found.ends), list(found.phases), predicted=float(facts["predicted"]), **tables)


TABLES = ("table", "gains", "switches", "losses", "over")


@dataclass(frozen=True)
class AskedPhases:
    """How many phases are wanted, and what is given of them.

    Attributes
    ----------
    count : number of phases P; 1 for a run on one mixture
    switches : (P - 1,) shares of the tokens at which phases end; searched by default
    seen : per phase of the runs: domain -> (low, high) of its weights, to which phases are limited; no limit if empty
    """

    count: int = 1
    switches: tuple[float, ...] | None = None
    seen: Ranges = ()

    def __post_init__(self) -> None:
        if self.count not in range(1, MOST_PHASES + 1):
            raise ConfigError(f"--phases must be 1 to {MOST_PHASES}, not {self.count}")
        if self.switches is None:
            return
        shown = ",".join(f"{switch:g}" for switch in self.switches)
        if len(self.switches) != self.count - 1:
            raise ConfigError(
                f"--switch {shown} needs --phases {len(self.switches) + 1}: one switch fewer than phases, not "
                f"--phases {self.count}"
            )
        if not all(a < b for a, b in pairwise((0.0, *self.switches, 1.0))):
            raise ConfigError(f"--switch {shown}: give shares of the run's tokens between 0 and 1, in increasing order")

    @classmethod
    def of(cls, count: int, switch: float | Sequence[float] | None, seen: Ranges) -> "AskedPhases":
        """Return the phases of the arguments of `recommend`."""
        if switch is None:
            return cls(count, None, seen)
        return cls(count, (switch,) if isinstance(switch, int | float) else tuple(switch), seen)


def require_phases(fit: FittedLaw, option: str = "--phases") -> None:
    """Raise ConfigError, which begins with the option that needs it, if a law does not tell phases apart."""
    if PHASES not in fit.law.uses:
        raise ConfigError(
            f"{option}: the {fit.name} law does not tell phases apart; take a law whose name has -phases "
            "(`mixlaw fit` considers it where runs change their mixture, --law names it)"
        )


def plan_phases(
    objective: Objective, static: Array, baselines: Mixtures, asked: AskedPhases, level: float
) -> PhasePlan:
    """Return the best phases of a big run, with intervals, and their gains over single mixtures.

    Parameters
    ----------
    objective : the mean over resampled laws
    static : (k,) the best single mixture
    baselines : other mixtures to compare with
    level : of intervals, in (0, 1)
    """
    domains = objective.fit.domains
    limited = objective.asking(within_seen(objective.question, domains, static, asked.seen))
    best, *others = best_courses(limited, static, asked.count, asked.switches)
    mixture = PhasedMixture(best.ends, [as_mixture(domains, h) for h in best.phases])
    phased = PhasedObjective(objective, best.ends)
    single = {SINGLE: as_mixture(domains, static)}
    gained = phase_gains(phased, {RECOMMENDED: mixture} | single | dict(baselines), level)
    to_single = gained["mixture"] == SINGLE
    return PhasePlan(
        until=list(best.ends),
        weights=list(mixture.phases),
        table=_table(mixture, interval(drawn_phases(limited, best), level)),
        predicted=phased.at(phased.point_of(best.phases)),
        gains=gained[to_single].drop(columns="mixture").reset_index(drop=True),
        switches=_switches([best, *others]),
        losses=losses_of(phased, mixture, level),
        over=gained[~to_single].reset_index(drop=True),
    )


def best_ends(fit: FittedLaw, question: Question, sizes: Mapping[str, float], table: Table) -> tuple[float, ...]:
    """Return where the best two phases of a big run end, within the weights that some phase of a table's runs had."""
    objective = Objective(fit, question, sizes)
    static = optimum(objective, {})
    limited = objective.asking(within_seen(question, fit.domains, static, ranges_by_phase(table)))
    return best_courses(limited, static, 2, None)[0].ends


def within_seen(question: Question, domains: Sequence[str], static: Array, seen: Ranges) -> Question:
    """Return the question with every phase limited to weights that some phase of the runs had.

    The best single mixture (k,) stays possible, so that phases are never worse than it.
    """
    if not seen:
        return question
    floors, caps = dict(question.floors), dict(question.caps)
    for domain, own in zip(domains, static.tolist(), strict=True):
        ends = [phase[domain] for phase in seen if domain in phase]
        if ends and domain not in question.pins:
            floors[domain] = max(floors.get(domain, 0.0), min(own, *(low for low, _ in ends)))
            caps[domain] = min(caps.get(domain, 1.0), max(own, *(high for _, high in ends)))
    return replace(question, floors=floors, caps=caps)


def drawn_phases(objective: Objective, best: Course) -> Array:
    """Return (b, P, k) the best phases of every resampled law, with the same switches."""
    drawn = PhasedObjective(objective, best.ends).drawn()
    start = np.tile(drawn.point_of(best.phases), (drawn.count, 1))
    return drawn.phases(PhasedGoal(drawn).minimise(start, drawn.limits, ROUGHLY)[0])


def _table(mixture: PhasedMixture, spread: tuple[Array, Array]) -> pd.DataFrame:
    low, high = spread
    rows = [
        (p + 1, d, h[d], min(low[p, i], h[d]), max(high[p, i], h[d]))
        for p, h in enumerate(mixture.phases)
        for i, d in enumerate(h)
    ]
    return pd.DataFrame(rows, columns=["phase", "domain", "weight", "low", "high"])


def _switches(courses: Sequence[Course]) -> pd.DataFrame:
    names = ["switch", *(f"switch_{p}" for p in range(2, len(courses[0].ends)))]
    rows = [(*course.ends[:-1], course.value) for course in courses]
    return pd.DataFrame(rows, columns=[*names, "predicted"]).sort_values(names, ignore_index=True)
