"""The global order: sequence i -> (domain, epoch, item), a pure function of weights, sizes and seed.

`schedule.py` says which domain comes when; here each domain's draws walk through a keyed permutation of its items,
another one every epoch, and the sequences of a step are shuffled among themselves. Nothing is remembered, so a stream
is entered at any step in the same time. Whatever has numbered items can be read in this order: token windows, samples
of tar shards.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data.schedule import MixtureSchedule, keyed_permutation

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
    n_items : (k,) items of each domain, at least one wherever the weight is not zero
    batch_size : sequences per step, over all ranks
    seed : of the order inside domains and batches; the mixture itself is not random
    """

    def __init__(
        self, names: Sequence[str], weights: Sequence[float], n_items: Sequence[int], batch_size: int, seed: int
    ) -> None:
        self.names, self.n_items = list(names), [int(n) for n in n_items]
        self._schedule = MixtureSchedule(list(weights))
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
        size, name = self.n_items[domain], self.names[domain]
        epoch, place = np.divmod(draw, size)
        epochs, which = np.unique(epoch, return_inverse=True)
        keys = _keys(derived_key(self._seed, name, int(e)) for e in epochs)
        return epoch, keyed_permutation(place, size, keys[which])

    def counts(self, n_steps: int) -> Ints:
        """Return (k,) how many sequences of each domain the first `n_steps` steps hold."""
        return self._schedule.counts(n_steps * self._batch_size)


def _keys(numbers: Iterable[int]) -> Keys:
    return np.fromiter(numbers, dtype=np.uint64)
