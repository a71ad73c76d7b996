"""The phases of a run: parts of its tokens with mixtures of their own, as run.json states them.

run.json of a run with phases holds a list `phases`: until (share of the run's tokens at which the phase ends), step
(its last one), weights (requested), and tokens_by_domain (from the start of the run to the end of the phase).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from mixlaw.errors import RunLogError

MAX_PHASES = 1000
KEYS = ("until", "step", "weights", "tokens_by_domain")


@dataclass(frozen=True)
class PhaseSoFar:
    """A phase that has begun.

    Attributes
    ----------
    number : of the phase, from 1
    spent : domain -> tokens read in it
    until : total tokens of the run at its end, or so far
    """

    number: int
    spent: Mapping[str, int]
    until: int


def check_phases(facts: Mapping[str, Any], path: Path) -> None:
    """Raise RunLogError if run.json states phases in another form."""
    phases = facts.get("phases", [])
    if not isinstance(phases, list) or len(phases) > MAX_PHASES:
        raise RunLogError(f"{path}: 'phases' is not a list of at most {MAX_PHASES} phases")
    for number, phase in enumerate(phases, 1):
        if not (isinstance(phase, dict) and set(KEYS) <= set(phase) and _is_phase(phase, set(facts["mixture"]))):
            raise RunLogError(f"{path}: phase {number} is {phase!r:.60}, expected {', '.join(KEYS)} of all domains")
    if any(a["step"] >= b["step"] for a, b in pairwise(phases)):
        raise RunLogError(f"{path}: the steps at which phases end do not increase")


def _is_phase(phase: Mapping[str, Any], domains: set[str]) -> bool:
    numbers = [phase["until"], phase["step"]]
    for values in (phase["weights"], phase["tokens_by_domain"]):
        if not isinstance(values, dict) or set(values) != domains:
            return False
        numbers += values.values()
    return all(type(number) in (int, float) and number >= 0 for number in numbers)


def phase_at(step: int, facts: Mapping[str, Any]) -> int:
    """Return the number, from 1, of the phase that a step belongs to; 1 for a run without phases."""
    return 1 + sum(step > phase["step"] for phase in facts.get("phases", [])[:-1])


def phases_so_far(step: int, spent: Mapping[str, int], facts: Mapping[str, Any]) -> Iterator[PhaseSoFar]:
    """Yield the phases that have begun at a step; none for a run without phases.

    Parameters
    ----------
    step : last step so far
    spent : domain -> tokens from the start of the run to this step
    facts : contents of run.json
    """
    before: Mapping[str, int] = {}
    for number, phase in enumerate(facts.get("phases", [])[: phase_at(step, facts)], 1):
        now = phase["tokens_by_domain"] if step > phase["step"] else spent
        yield PhaseSoFar(number, {d: n - before.get(d, 0) for d, n in now.items()}, sum(now.values()))
        before = now
