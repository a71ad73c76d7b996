"""The phases of a run: parts with one mixture each, as shares of the run's tokens, and as whole steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from mixlaw.errors import ConfigError
from mixlaw.mixture import Mixture
from train.config import PhaseConfig


class Part(NamedTuple):
    """A part of a run in which the mixture, and so the mean number of tokens per step, is constant.

    Attributes
    ----------
    first : steps of the run before it
    start : tokens of the run before it
    per_step : mean tokens of a step
    """

    first: int
    start: float
    per_step: float

    def tokens_after(self, step: int) -> float:
        """Return the tokens of the run after a step of this part."""
        return self.start + (step - self.first) * self.per_step

    def steps_within(self, n_tokens: float) -> int:
        """Return the steps of the run that end before or at `n_tokens`."""
        return self.first + int((n_tokens - self.start) // self.per_step)

    def steps_to(self, n_tokens: float) -> int:
        """Return the steps of the run that have at least `n_tokens`."""
        return self.first - int(-(n_tokens - self.start) // self.per_step)


@dataclass(frozen=True)
class Phase:
    """A part of a run with one mixture.

    Attributes
    ----------
    until : share of the run's tokens at its end
    weights : requested, of all domains
    part : its first step, and its pace
    end : its last step
    """

    until: float
    weights: Mixture
    part: Part
    end: int

    @property
    def n_steps(self) -> int:
        """The number of its steps."""
        return self.end - self.part.first


def requested(phases: Sequence[PhaseConfig], n_tokens: int, domains: Sequence[str]) -> list[tuple[float, Mixture]]:
    """Return (share of the run's tokens at its end, mixture) of each phase; neighbours of equal weights are one phase.

    Parameters
    ----------
    n_tokens : of the run
    domains : all training domains

    Raises
    ------
    ConfigError
        If phases do not follow each other, do not end with the run, or their weights are not mixtures.
    """
    found: list[tuple[float, Mixture]] = []
    before = 0.0
    for number, phase in enumerate(phases, 1):
        where = f"mixture.phases: phase {number}"
        until = phase.until if phase.until <= 1 else phase.until / n_tokens
        if until > 1:
            raise ConfigError(
                f"{where} ends after {phase.until:,.0f} tokens, and the run after {n_tokens:,}: lower its `until`, or "
                "raise schedule.n_tokens"
            )
        if not until > before:
            raise ConfigError(f"{where} ends at {until:g} of the run, and must end after {before:g}: raise its `until`")
        mixture = Mixture.of(phase.weights, domains, where)
        found = [*(found[:-1] if found and found[-1][1] == mixture else found), (until, mixture)]
        before = until
    if before != 1:
        raise ConfigError(
            f"mixture.phases: the last phase ends at {before:g} of the run: its `until` must be 1 or schedule.n_tokens"
        )
    return found


def mean_weights(phases: Sequence[tuple[float, Mixture]]) -> dict[str, float]:
    """Return domain -> its mean weight over the run, for phases as `requested` returns them."""
    ends = [0.0, *(until for until, _ in phases)]
    lengths = [end - begin for begin, end in pairwise(ends)]
    pairs = list(zip(lengths, (weights for _, weights in phases), strict=True))
    return {domain: sum(length * weights[domain] for length, weights in pairs) for domain in phases[0][1]}


def in_steps(phases: Sequence[tuple[float, Mixture]], per_step: Sequence[float], n_tokens: int) -> tuple[Phase, ...]:
    """Return phases in whole steps: each ends with the step whose end is nearest to its share of the tokens.

    Parameters
    ----------
    phases : as `requested` returns them
    per_step : mean tokens of a step, for each phase
    n_tokens : of the run; the last phase ends with the first step that reaches them

    Raises
    ------
    ConfigError
        If a phase would be shorter than a step.
    """
    found: list[Phase] = []
    first = 0
    start: float = 0  # an integer as long as steps have whole numbers of tokens
    for number, ((until, mixture), pace) in enumerate(zip(phases, per_step, strict=True), 1):
        part = Part(first, start, pace)
        last = number == len(phases)
        end = part.steps_to(n_tokens) if last else part.steps_within(until * n_tokens + pace / 2)
        if end <= first:
            length = until * n_tokens - start
            raise ConfigError(
                f"mixture.phases: phase {number} has {max(length, 0):,.0f} tokens, and a step has {pace:,.0f}: make it "
                "longer"
            )
        found.append(Phase(until, mixture, part, end))
        first, start = end, part.tokens_after(end)
    return tuple(found)
