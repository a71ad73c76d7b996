"""`PhasedMixture`: the weights of a run whose mixture changes, by phase and in the whole run."""

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mixlaw.errors import ConfigError
from mixlaw.mixture import Mixture, phases_override

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class PhasedMixture(Mixture):
    """A mixture that changes during a run. As a mapping it has the weights of the whole run.

    Two of them are equal if their phases are.

    Parameters
    ----------
    ends : (P,) where phases end, as shares of the run's tokens
    phases : (P,) their mixtures, of the same domains in the same order

    Raises
    ------
    ConfigError
        If there are not as many ends as mixtures, the ends do not increase to 1, or the domains differ.
    """

    __slots__ = ("ends", "phases")
    ends: tuple[float, ...]
    phases: tuple[Mixture, ...]

    def __init__(self, ends: Iterable[float], phases: Iterable[Mixture]) -> None:
        object.__setattr__(self, "ends", tuple(map(float, ends)))
        object.__setattr__(self, "phases", tuple(phases))
        if len(self.ends) != len(self.phases) or not self.phases:
            raise ConfigError(f"{len(self.phases)} phases need as many ends, not {len(self.ends)}")
        if any(not a < b for a, b in pairwise((0.0, *self.ends))) or self.ends[-1] != 1:
            shown = ", ".join(f"{end:g}" for end in self.ends)
            raise ConfigError(
                f"phases end at {shown} of the run: the ends must increase from above 0, and the last be 1"
            )
        first = self.phases[0]
        if any(list(phase) != list(first) for phase in self.phases):
            raise ConfigError("all phases must have the same domains")
        whole = [sum(s * phase[d] for s, phase in zip(self.shares, self.phases, strict=True)) for d in first]
        super().__init__(first, [min(weight, 1.0) for weight in whole])

    @classmethod
    def parse_phases(cls, mixtures: Sequence[Mixture], until: Sequence[float]) -> Mixture:
        """Return the mixture of `--mixture A --until SHARE --mixture B ...`: a plain one without shares.

        Raises
        ------
        ConfigError
            If there is not one share fewer than mixtures, or the shares do not increase within the run.
        """
        if not mixtures or len(until) != len(mixtures) - 1:
            raise ConfigError(
                f"{len(mixtures)} times --mixture and {len(until)} times --until: give --until, the share of the run's "
                "tokens, after every mixture but the last"
            )
        return cls([*until, 1.0], mixtures) if until else mixtures[0]

    @property
    def shares(self) -> list[float]:
        """(P,) the phases' shares of the run's tokens."""
        return [b - a for a, b in pairwise((0.0, *self.ends))]

    @property
    def by_phase(self) -> "NDArray[np.float64]":
        """(P, k) weights."""
        import numpy as np

        return np.stack([phase.array for phase in self.phases])

    def at(self, share: float) -> Mixture:
        """Return the mixture of the run so far, when it has read this share of its tokens.

        Above 1 the last phase goes on.
        """
        begun = sum(end < share for end in self.ends[:-1]) + 1
        ends = [*(end / share for end in self.ends[: begun - 1]), 1.0]
        return PhasedMixture(ends, self.phases[:begun]) if begun > 1 else self.phases[0]

    def hydra_override(self, digits: int = 4) -> str:
        """Return the trainer's override of `mixture.phases`; empty if Hydra cannot express the names."""
        return phases_override(zip(self.ends, self.phases, strict=True), digits)

    def to_yaml(self) -> str:
        """Return a configuration of the trainer's group `mixture`, with weights of four digits that sum to one."""
        rows = [
            f"  - {{until: {end:.12g}, weights: {json.dumps(_rounded(phase), ensure_ascii=False)}}}\n"
            for end, phase in zip(self.ends, self.phases, strict=True)
        ]
        return f"named: natural # phases take precedence\nphases:\n{''.join(rows)}"

    def to_json(self) -> list[dict[str, Any]]:
        """Return the phases as plain data: until, weights."""
        return [{"until": end, "weights": dict(h)} for end, h in zip(self.ends, self.phases, strict=True)]

    @classmethod
    def from_json(cls, facts: Iterable[Mapping[str, Any]]) -> "PhasedMixture":
        """Return the mixture of `to_json`; raises ValueError, TypeError or LookupError where it is damaged."""
        rows = list(facts)
        return cls([float(r["until"]) for r in rows], [Mixture.of(r["weights"], where="phases") for r in rows])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PhasedMixture):
            return False
        return (self.ends, self.phases) == (other.ends, other.phases)

    def __hash__(self) -> int:
        return hash((self.ends, self.phases))

    def __repr__(self) -> str:
        return f"PhasedMixture({self.ends!r}, {self.phases!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.ends, self.phases)


def _rounded(mixture: Mixture) -> dict[str, float]:
    return {name: unit / 10_000 for name, unit in mixture.rounded(10_000).items()}
