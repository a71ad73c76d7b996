"""The schedule of a run whose mixture changes: phases, each with the schedule of its own mixture.

A phase begins with the first sequence of its own `MixtureSchedule`, so that any prefix of any phase is within two
sequences of its weights, whatever came before. The draws of a domain are numbered on through all phases, so no item
comes back before its epoch is over.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data.stream.schedule import MixtureSchedule
from mixlaw.errors import ConfigError

Ints = NDArray[np.int64]


class PhasedSchedule:
    """The sequence of domains that realises mixtures one after the other; the last one never ends.

    Parameters
    ----------
    phases : (first sequence, weights (k,)) of each phase; the first begins at 0

    Raises
    ------
    ConfigError
        If the phases do not begin at 0, or not one after the other.
    """

    def __init__(self, phases: Sequence[tuple[int, Sequence[float]]]) -> None:
        firsts = [first for first, _ in phases]
        if firsts[:1] != [0] or firsts != sorted(set(firsts)):
            raise ConfigError(f"phases begin at {firsts}; the first begins at 0, and each after the one before it")
        self._firsts = firsts
        self._stops = [*firsts[1:], None]
        self._schedules = [MixtureSchedule(list(weights)) for _, weights in phases]

    def block(self, start: int, stop: int) -> tuple[Ints, Ints]:
        """Return the domain of each sequence in [start, stop), and the number of the draw within that domain.

        Returns
        -------
        domain, draw : (stop - start,) each
        """
        parts = [self._schedules[0].block(start, start)]  # checks the range's start
        for first, end, schedule in zip(self._firsts, self._stops, self._schedules, strict=True):
            begin, finish = max(start, first), stop if end is None else min(stop, end)
            if begin < finish:
                domain, draw = schedule.block(begin - first, finish - first)
                parts.append((domain, draw + self.counts(first)[domain]))
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def counts(self, n: int) -> Ints:
        """Return the number of sequences of each domain (k,) among the first n, in closed form."""
        counts = np.zeros(self._schedules[0].n_domains, np.int64)
        for first, end, schedule in zip(self._firsts, self._stops, self._schedules, strict=True):
            counts += schedule.counts(max((n if end is None else min(n, end)) - first, 0))
        return counts
