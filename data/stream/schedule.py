"""The domain of each training sequence: a deterministic schedule of the mixture h.

Both functions here are closed forms of the global sequence number, without randomness or state. The stream can
therefore start anywhere, on any number of ranks and workers. h is the regressor of the law; with an independent random
draw per sequence, the worst of seven weights would be off by about 5 % after 20,000 sequences.

The schedule is a binary tree over the domains. Of its first n draws, a node passes L(n) = floor(n p + 1/2) to its left
child, where p is the left child's share, so the split at each node is within 1/2 of exact. The deviation of a child is
at most 1/2 plus its share times the deviation of its parent. The tree is balanced by weight: a node above two or more
domains has at most 2/3 of the weight of its parent. Inner nodes therefore deviate by at most 1.5, and leaves by 2:

    |count_i(n) - n h_i| <= 2 sequences, for every domain i and every prefix n.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mixlaw.errors import ConfigError
from mixlaw.mixture import round_to_sum

SCHEDULE_VERSION = 1  # part of the run id: another order makes another run
UNITS = 1 << 40  # weights are integer multiples of 1 / UNITS; rounding changes n h_i by less than n 2^-40
_BLOCK = 1 << 20  # length of a block; offset times weight must fit into 64 bits


@dataclass(frozen=True)
class _Node:
    """A domain (leaf) or an inner node with two children; `units` is the sum of the weights below it."""

    units: int
    domain: int = -1
    left: "_Node | None" = None
    right: "_Node | None" = None


class MixtureSchedule:
    """The infinite sequence of domains that realises a mixture.

    Parameters
    ----------
    weights : (k,) shares of the training sequences; domains of weight 0 are never drawn
    """

    def __init__(self, weights: NDArray[np.float64] | list[float]) -> None:
        array = np.asarray(weights, dtype=np.float64)
        if array.ndim != 1 or not np.isfinite(array).all() or (array < 0).any():
            raise ConfigError(f"the weights of a mixture must be finite numbers of at least 0, got {weights}")
        units = round_to_sum(array, UNITS)
        leaves = [_Node(u, domain=i) for i, u in enumerate(units) if u > 0]
        self.n_domains = len(units)
        self._root = _balanced(sorted(leaves, key=lambda leaf: (-leaf.units, leaf.domain)))

    def block(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the domain of each sequence in [start, stop), and the number of the draw within that domain.

        Returns
        -------
        domain, draw : (stop - start,) each
        """
        if not 0 <= start <= stop:
            raise ConfigError(f"[{start}, {stop}) is not a range of sequences: 0 <= start <= stop is required")
        parts = [self._block(a, min(a + _BLOCK, stop)) for a in range(start, stop, _BLOCK)] or [
            self._block(start, start)
        ]
        return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])

    def _block(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        domain = np.empty(stop - start, np.int64)
        draw = np.empty(stop - start, np.int64)
        _fill(self._root, start, np.arange(stop - start), domain, draw)
        return domain, draw

    def counts(self, n: int) -> NDArray[np.int64]:
        """Return the number of sequences of each domain (k,) among the first n, in closed form."""
        counts = np.zeros(self.n_domains, np.int64)
        todo = [(self._root, n)]
        while todo:
            node, n_here = todo.pop()
            if node.left is None or node.right is None:
                counts[node.domain] = n_here
            else:
                n_left = _handed_left(node, n_here)
                todo += [(node.left, n_left), (node.right, n_here - n_left)]
        return counts


def _balanced(leaves: list[_Node]) -> _Node:
    """Build the tree over leaves sorted by decreasing weight; each split is as even as possible."""
    if len(leaves) == 1:
        return leaves[0]
    sums = np.cumsum([leaf.units for leaf in leaves])
    cut = int(np.argmin(np.abs(2 * sums[:-1] - sums[-1]))) + 1
    return _Node(int(sums[-1]), left=_balanced(leaves[:cut]), right=_balanced(leaves[cut:]))


def _handed_left(node: _Node, n: int) -> int:
    """Return floor(n p + 1/2), p = left / node, in integer arithmetic."""
    left = node.left.units if node.left else 0
    return (2 * n * left + node.units) // (2 * node.units)


def _fill(
    node: _Node, first: int, places: NDArray[np.int64], domain: NDArray[np.int64], draw: NDArray[np.int64]
) -> None:
    """Assign the draws first, first + 1, ... of a node to domains; `places` are their positions in the block."""
    n = len(places)
    if node.left is None or node.right is None:
        domain[places] = node.domain
        draw[places] = np.arange(first, first + n)
        return
    left = node.left.units
    base, remainder = divmod(2 * first * left + node.units, 2 * node.units)  # exact for any `first`
    handed = base + (remainder + 2 * left * np.arange(n + 1, dtype=np.int64)) // (2 * node.units)
    to_left = np.diff(handed) > 0
    _fill(node.left, base, places[to_left], domain, draw)
    _fill(node.right, first - base, places[~to_left], domain, draw)


def keyed_permutation(
    items: NDArray[np.int64] | list[int], size: int, key: int | NDArray[np.uint64]
) -> NDArray[np.int64]:
    """Return the images of items under a keyed permutation of range(size), in constant memory.

    A Feistel network of six rounds over the next even number of bits, with cycle walking for values outside the range
    (Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).

    Parameters
    ----------
    items : (n,) numbers in [0, size)
    size : number of items
    key : 64-bit key, or (n,) one per item; different keys give independent permutations
    """
    half = max((max(size - 1, 1).bit_length() + 1) // 2, 1)
    values = np.array(items, dtype=np.uint64)
    keys = np.broadcast_to(np.asarray(key, dtype=np.uint64), values.shape)
    values = _feistel(values, half, keys)
    while (outside := np.flatnonzero(values >= size)).size:
        values[outside] = _feistel(values[outside], half, keys[outside])
    return values.astype(np.int64)


def _feistel(values: NDArray[np.uint64], half: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    mask, shift = np.uint64((1 << half) - 1), np.uint64(half)
    left, right = values >> shift, values & mask
    spread = keys * np.uint64(0x9E3779B97F4A7C15)
    for round_number in range(6):
        round_keys = spread + np.uint64(round_number * 0xD1B54A32D192ED03 & (1 << 64) - 1)
        left, right = right, left ^ (_mix(right + round_keys) & mask)
    return (left << shift) | right


def _mix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Hash 64-bit words with the finaliser of splitmix64 (Steele, Lea and Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
