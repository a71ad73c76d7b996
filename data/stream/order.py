"""The global order: sequence i -> (domain, epoch, item), a pure function of weights, sizes and seed.

`schedule.py` and `phased.py` choose the domain of each sequence. Here, each domain draws its items in the order of a
keyed permutation, a different one in each epoch, and the sequences of a step are shuffled. There is no state, so the
stream can start at any step in constant time. If a domain has items of several kinds (lengths), a second schedule
distributes its draws over the kinds in proportion to their numbers of items.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.stream.phased import PhasedSchedule
from data.stream.schedule import MixtureSchedule, keyed_permutation

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]


def derived_key(seed: int, what: str, number: int) -> int:
    """Return a 64-bit key, a hash of (seed, what, number)."""
    digest = hashlib.blake2b(f"{seed}/{what}/{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


@dataclass(frozen=True)
class Draws:
    """The draws of several steps, arrays (n_steps, batch_size), in the global order.

    Attributes
    ----------
    domain : number of the domain
    epoch : number of complete passes over the domain before this draw
    item : number of the item within its domain
    """

    domain: Ints
    epoch: Ints
    item: Ints


class GlobalOrder:
    """The infinite sequence of draws defined by a mixture, the sizes of its domains, and a seed.

    Parameters
    ----------
    names : of the k domains; the order within a domain depends on its name, not on its position
    weights : (k,) shares of the sequences; domains of weight 0 are never drawn
    n_items : (k,) items of each domain, at least one if its weight is not zero; or items of each kind of a domain,
        numbered kind after kind
    batch_size : sequences per step, over all ranks
    seed : of the order within domains and batches; the mixture itself is not random
    changes : (step, weights) pairs, if the mixture changes: from this step (counted from 0) on, these weights hold
    """

    def __init__(
        self,
        names: Sequence[str],
        weights: Sequence[float],
        n_items: Sequence[int] | Sequence[Ints],
        batch_size: int,
        seed: int,
        changes: Sequence[tuple[int, Sequence[float]]] = (),
    ) -> None:
        self.names, self._n_items = list(names), [np.atleast_1d(np.asarray(n, np.int64)) for n in n_items]
        self._schedule = PhasedSchedule([(0, weights), *((step * batch_size, after) for step, after in changes)])
        self._kinds = [MixtureSchedule(n / n.sum()) if len(n) > 1 else None for n in self._n_items]
        self._batch_size, self._seed = batch_size, seed

    def steps(self, first: int, n_steps: int) -> Draws:
        """Return the draws of the steps first, ..., first + n_steps - 1."""
        shape = (n_steps, self._batch_size)
        domain, draw = self._schedule.block(first * self._batch_size, (first + n_steps) * self._batch_size)
        shuffled = self._shuffle(first, n_steps)
        domain, draw = domain[shuffled], draw[shuffled]
        epoch, item = np.empty_like(draw), np.empty_like(draw)
        for i in np.unique(domain):
            here = domain == i
            epoch[here], item[here] = self._items(int(i), draw[here])
        return Draws(domain.reshape(shape), epoch.reshape(shape), item.reshape(shape))

    def _shuffle(self, first: int, n_steps: int) -> Ints:
        """Return a shuffled order within each step, so that no rank reads a periodic part of the schedule."""
        size = self._batch_size
        keys = _keys(derived_key(self._seed, "batch", step) for step in range(first, first + n_steps))
        places = keyed_permutation(np.tile(np.arange(size), n_steps), size, np.repeat(keys, size))
        return places + np.repeat(np.arange(n_steps) * size, size)

    def _items(self, domain: int, draw: Ints) -> tuple[Ints, Ints]:
        schedule, name = self._kinds[domain], self.names[domain]
        if schedule is None:
            return self._items_of(name, int(self._n_items[domain][0]), draw)
        first = int(draw.min())
        kind, draw_of_kind = (part[draw - first] for part in schedule.block(first, int(draw.max()) + 1))
        epoch, item = np.empty_like(draw), np.empty_like(draw)
        begins = np.cumsum(self._n_items[domain]) - self._n_items[domain]
        for i in np.unique(kind):
            here = kind == i
            epoch[here], place = self._items_of(f"{name}/{i}", int(self._n_items[domain][i]), draw_of_kind[here])
            item[here] = begins[i] + place
        return epoch, item

    def _items_of(self, name: str, size: int, draw: Ints) -> tuple[Ints, Ints]:
        epoch, place = np.divmod(draw, size)
        epochs, which = np.unique(epoch, return_inverse=True)
        keys = _keys(derived_key(self._seed, name, int(e)) for e in epochs)
        return epoch, keyed_permutation(place, size, keys[which])

    def counts(self, n_steps: int) -> Ints:
        """Return the number of sequences of each domain (k,) in the first `n_steps` steps."""
        return self._schedule.counts(n_steps * self._batch_size)

    def counts_by_kind(self, n_steps: int) -> list[Ints]:
        """Return for each domain the number of items of each kind (n_kinds,) in the first `n_steps` steps."""
        counts = self.counts(n_steps).tolist()
        return [np.array([n]) if s is None else s.counts(n) for n, s in zip(counts, self._kinds, strict=True)]


def _keys(numbers: Iterable[int]) -> Keys:
    return np.fromiter(numbers, dtype=np.uint64)
