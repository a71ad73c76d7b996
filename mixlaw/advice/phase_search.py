"""The best phases of a run and where they end: a search over switches, and over all mixtures at given switches.

At given switches the loss of a law of phases is convex in all mixtures together, so that one start suffices. The
switches are searched on a grid, with every increasing combination, and refined by coordinate search with shorter and
shorter steps. The search with P phases starts from the best P - 1, one of them split, so it is never worse.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from mixlaw.advice.objective import Objective
from mixlaw.advice.phased_objective import PhasedGoal, PhasedObjective
from mixlaw.advice.sensitivity import inwards
from mixlaw.advice.simplex import CONVERGED, ROUGHLY, starts
from mixlaw.laws.jacobian import Array

MOST_PHASES = 4
GRID = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)  # switches, as shares of the run's tokens
STEPS = (0.05, 0.02)  # of the refinement
SHORTEST = 0.05  # share of the tokens of a phase
WORTH = 1e-5  # a move of a switch counts if it gains this [nats]
Ends = tuple[float, ...]


@dataclass(frozen=True)
class Course:
    """The mixtures of a run over its tokens.

    Attributes
    ----------
    ends : (P,) where phases end, as shares of the tokens, rising to 1
    phases : (P, k) their mixtures
    value : of what the question minimises
    """

    ends: Ends
    phases: Array
    value: float

    def over(self, ends: Ends) -> Array:
        """Return (Q, k) the mean mixtures of this run in the phases of other ends."""
        begins = np.array([0.0, *ends[:-1]])[:, None]
        own = np.array([0.0, *self.ends])
        shared = np.diff(np.clip(own[None], begins, np.array(ends)[:, None]), axis=1)
        mean: Array = shared @ self.phases / shared.sum(1, keepdims=True)
        return mean


def best_courses(objective: Objective, static: Array, count: int, switches: Sequence[float] | None) -> list[Course]:
    """Return the best run of every combination of switches that was tried, the best of all first.

    Parameters
    ----------
    objective : of one mixture
    static : (k,) the best single mixture
    count : number of phases P, at least 2
    switches : (P - 1,) shares of the tokens at which phases end; searched by default
    """
    start = Course((1.0,), static[None], np.inf)
    if switches is not None:
        return [best_at(objective, (*switches, 1.0), start)]
    for number in range(2, count + 1):
        tried = _search(objective, number, start)
        start = min(tried.values(), key=lambda course: course.value)
    tried = {ends: _better(course, best_at(objective, ends, start, ROUGHLY)) for ends, course in tried.items()}
    start = min(tried.values(), key=lambda course: course.value)
    best = best_at(objective, start.ends, start, CONVERGED)
    return [best, *(course for ends, course in tried.items() if ends != best.ends)]


def _better(one: Course, other: Course) -> Course:
    """Return the course with the lower value: rough minima depend on where the search began."""
    return min(one, other, key=lambda course: course.value)


def _search(objective: Objective, count: int, start: Course) -> dict[Ends, Course]:
    """Return the best runs of `count` phases by their ends, searched from the best run of fewer phases."""
    tried = {ends: best_at(objective, ends, start, ROUGHLY) for ends in _grid(count, start.ends)}
    for step in STEPS:
        moved = True
        while moved:
            best = min(tried.values(), key=lambda course: course.value)
            new = [ends for ends in _neighbours(best.ends, step) if ends not in tried]
            tried |= {ends: best_at(objective, ends, best, ROUGHLY) for ends in new}
            moved = any(tried[ends].value < best.value - WORTH for ends in new)
    return tried


def _grid(count: int, ends: Ends) -> list[Ends]:
    """Return all increasing combinations of the grid's switches, and those that split a phase of a run."""
    of_grid = [(*switches, 1.0) for switches in combinations(GRID, count - 1)]
    split = [tuple(sorted({*ends, switch})) for switch in GRID]
    return list(dict.fromkeys([*of_grid, *(each for each in split if len(each) == count)]))


def _neighbours(ends: Ends, step: float) -> Iterator[Ends]:
    """Yield the ends of phases with one switch moved by a step, where no phase becomes too short."""
    for i in range(len(ends) - 1):
        for sign in (-1, 1):
            moved = (*ends[:i], round(ends[i] + sign * step, 4), *ends[i + 1 :])
            if all(b - a >= SHORTEST - 1e-9 for a, b in pairwise((0.0, *moved))):
                yield moved


def best_at(objective: Objective, ends: Ends, start: Course, within: float = CONVERGED) -> Course:
    """Return the best run whose phases end there: at least as good as the start, where its phases are these or fewer.

    Parameters
    ----------
    start : a run within the limits; its mean mixture in each phase is where the search begins
    within : tolerance of the minimum
    """
    phased = PhasedObjective(objective, ends)
    goal, where = PhasedGoal(phased), phased.limits
    begin = phased.point_of(start.over(ends))
    centre, *corners = starts(where)
    points = np.stack([inwards(begin, centre), *([] if goal.convex else [centre, *corners])])
    found, values = goal.minimise(points, where, within)
    best, value = found[int(values.argmin())], float(values.min())
    if (at_start := goal.penalised(begin)) < value:
        best, value = begin, at_start
    return Course(ends, phased.phases(best[None])[0], value)
