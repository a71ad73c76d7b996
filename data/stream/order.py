"""The global order: sequence i -> (domain, epoch, item), a pure function of weights, sizes and seed.

`schedule.py` says which domain comes when; here each domain's draws walk through a keyed permutation of its items,
another one every epoch, and the sequences of a step are shuffled among themselves. Nothing is remembered, so a stream
is entered at any step in the same time. Whatever has numbered items can be read in this order: token windows, samples
of tar shards. Where a domain's items are of several kinds, another schedule deals its draws to the kinds in proportion
to their items, so that any stretch holds its fair share of each.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.stream.schedule import MixtureSchedule, keyed_permutation

Ints = NDArray[np.int64]
Keys = NDArray[np.uint64]


def derived_key(seed: int, what: str, number: int) -> int:
    """Return a 64-bit key that differs for every (seed, purpose, number)."""
    digest = hashlib.blake2b(f"{seed}/{what}/{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


@dataclass(frozen=True)
class Draws:
    """What some steps consume, each array (n_steps, batch_size), in the global order.

    Attributes
    ----------
    domain : number of the domain
    epoch : how often all items of that domain were drawn before
    item : number of the item within its domain
    """

    domain: Ints
    epoch: Ints
    item: Ints


class GlobalOrder:
    """The infinite sequence of draws that a mixture, its domains' sizes and a seed define.

    Parameters
    ----------
    names : of the k domains; the order inside a domain depends on its name, not on its place
    weights : (k,) shares of the sequences; zeros are allowed and never drawn
    n_items : (k,) items of each domain, at least one wherever the weight is not zero; or its items of each kind, which
        are numbered kind after kind
    batch_size : sequences per step, over all ranks
    seed : of the order inside domains and batches; the mixture itself is not random
    """

    def __init__(
        self,
        names: Sequence[str],
        weights: Sequence[float],
        n_items: Sequence[int] | Sequence[Ints],
        batch_size: int,
        seed: int,
    ) -> None:
        self.names, self._n_items = list(names), [np.atleast_1d(np.asarray(n, np.int64)) for n in n_items]
        self._schedule = MixtureSchedule(list(weights))
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
        """Shuffle inside each step, so that no rank sees a periodic part of the schedule; counts stay as they are."""
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
        """Return (k,) how many sequences of each domain the first `n_steps` steps hold."""
        return self._schedule.counts(n_steps * self._batch_size)

    def counts_by_kind(self, n_steps: int) -> list[Ints]:
        """Return for each domain (n_kinds,) how many items of each kind the first `n_steps` steps hold."""
        counts = self.counts(n_steps).tolist()
        return [np.array([n]) if s is None else s.counts(n) for n, s in zip(counts, self._kinds, strict=True)]


def _keys(numbers: Iterable[int]) -> Keys:
    return np.fromiter(numbers, dtype=np.uint64)
