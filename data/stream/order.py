"""The global order: sequence i -> (domain, epoch, item), a pure function of weights, sizes and seed.

`schedule.py` and `phased.py` choose the domain of each sequence. Here, each domain draws its items in the order of a
keyed permutation, a different one in each epoch, and the sequences of a step are shuffled. There is no state, so the
stream can start at any step in constant time. If a domain has items of several kinds (lengths), a second schedule
distributes its draws over the kinds in proportion to their numbers of items.

A pool limits a domain to the first n draws of its first epoch, so that a smaller pool is a prefix of a larger one.
Every later epoch repeats these draws in another order: draw j of epoch e is item P_0(P_e(j)), where P_e permutes the
pool, and P_0 the whole domain.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
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
    pools : number of a domain -> items of each kind in its pool, as `first_items` returns them
    """

    def __init__(
        self,
        names: Sequence[str],
        weights: Sequence[float],
        n_items: Sequence[int] | Sequence[Ints],
        batch_size: int,
        seed: int,
        changes: Sequence[tuple[int, Sequence[float]]] = (),
        pools: Mapping[int, Ints] | None = None,
    ) -> None:
        self.names, self._n_items = list(names), [np.atleast_1d(np.asarray(n, np.int64)) for n in n_items]
        self._schedule = PhasedSchedule([(0, weights), *((step * batch_size, after) for step, after in changes)])
        self._kinds, self._pools = [_schedule_of_kinds(n) for n in self._n_items], dict(pools or {})
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
        """Return epoch and item of draws of a domain, which are a range of numbers in any order."""
        n_items, pool = self._n_items[domain], self._pools.get(domain)
        kind, draw_of_kind = self._by_kind(domain, draw)
        epoch, item = np.empty_like(draw), np.empty_like(draw)
        begins = np.cumsum(n_items) - n_items
        for i in np.unique(kind):
            here, size = kind == i, int(n_items[i])
            name = f"{self.names[domain]}/{i}" if len(n_items) > 1 else self.names[domain]
            epoch[here], place = np.divmod(draw_of_kind[here], size if pool is None else pool[i])
            if pool is None:
                place = self._permuted(name, size, epoch[here], place)
            else:
                place = self._permuted_pool(name, size, int(pool[i]), epoch[here], place)
            item[here] = begins[i] + place
        return epoch, item

    def _by_kind(self, domain: int, draw: Ints) -> tuple[Ints, Ints]:
        """Return the kind of each draw of a domain, and the number of the draw within that kind.

        Every epoch of a pool repeats the kinds of the first one.
        """
        schedule, pool = self._kinds[domain], self._pools.get(domain)
        first, stop = int(draw.min()), int(draw.max()) + 1
        size = stop if pool is None else int(pool.sum())
        begin, n = first % size, min(stop - first, size)
        to_end, from_start = schedule.block(begin, min(begin + n, size)), schedule.block(0, max(begin + n - size, 0))
        kind, number = (np.concatenate(part)[(draw - first) % size] for part in zip(to_end, from_start, strict=True))
        return kind, number if pool is None else number + draw // size * pool[kind]

    def _permuted_pool(self, name: str, size: int, pool: int, epoch: Ints, place: Ints) -> Ints:
        """Return the items of places in a pool, which is the first `pool` of `size` items in their first epoch."""
        later = epoch > 0
        place[later] = self._permuted(name, pool, epoch[later], place[later])
        return self._permuted(name, size, np.zeros_like(place), place)

    def _permuted(self, name: str, size: int, epoch: Ints, place: Ints) -> Ints:
        """Permute places in [0, size), in each epoch by a key of its own."""
        epochs, which = np.unique(epoch, return_inverse=True)
        keys = _keys(derived_key(self._seed, name, int(e)) for e in epochs)
        return keyed_permutation(place, size, keys[which])

    def counts(self, n_steps: int) -> Ints:
        """Return the number of sequences of each domain (k,) in the first `n_steps` steps."""
        return self._schedule.counts(n_steps * self._batch_size)

    def counts_by_kind(self, n_steps: int) -> list[Ints]:
        """Return for each domain the number of items of each kind (n_kinds,) in the first `n_steps` steps."""
        counts = self.counts(n_steps).tolist()
        return [self._counts_by_kind(domain, n) for domain, n in enumerate(counts)]

    def _counts_by_kind(self, domain: int, n: int) -> Ints:
        pool = self._pools.get(domain)
        if pool is None:
            return self._kinds[domain].counts(n)
        epochs, rest = divmod(n, int(pool.sum()))
        return epochs * pool + self._kinds[domain].counts(rest)


def first_items(n_items: Ints, n: int) -> Ints:
    """Return the number of items of each kind (n_kinds,) among the first n draws of a domain.

    Parameters
    ----------
    n_items : (n_kinds,) items of each kind
    n : at most the number of items of the domain, so that no item comes twice
    """
    return _schedule_of_kinds(n_items).counts(n)


def _schedule_of_kinds(n_items: Ints) -> MixtureSchedule:
    return MixtureSchedule(n_items / n_items.sum() if len(n_items) > 1 else [1.0])


def _keys(numbers: Iterable[int]) -> Keys:
    return np.fromiter(numbers, dtype=np.uint64)
