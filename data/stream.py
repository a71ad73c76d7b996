"""The weighted stream: global sequence index -> tokens, a pure function of the configuration.

Documents are packed end to end within their domain into sequences of `seq_len` tokens before any mixing, so the unit
of the schedule is a fixed number of tokens and h is a share of tokens. The stream's whole state is the number of the
next step.
"""

import hashlib
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from data.schedule import MixtureSchedule, keyed_permutation
from data.shards import Manifest, TokenReader
from mixlaw.errors import ConfigError, DataError

Batch = dict[str, torch.Tensor]


def n_sequences(manifest: Manifest, domain: str, seq_len: int, split: str = "train") -> int:
    """Return how many packed sequences a domain has; each needs one token more, the last one's target."""
    return max(manifest.n_tokens(domain, split) - 1, 0) // seq_len


class PackedDomain:
    """One split of one domain as fixed-length sequences; neighbours share the token that is target and input."""

    def __init__(self, manifest: Manifest, domain: str, split: str, seq_len: int) -> None:
        self._reader = TokenReader(manifest, domain, split)
        self._seq_len = seq_len
        self.n_sequences = n_sequences(manifest, domain, seq_len, split)
        if self.n_sequences == 0:
            raise DataError(
                f"domain '{domain}' has {self._reader.n_tokens} {split} tokens, too few for a sequence of {seq_len}"
            )

    def sequence(self, item: int) -> NDArray[np.int64]:
        """Return (seq_len + 1,) tokens."""
        return self._reader.window(item * self._seq_len, self._seq_len + 1)


class WeightedStream(Dataset[Batch]):
    """Step -> this rank's share of the global batch. Order and content do not depend on ranks or workers.

    Parameters
    ----------
    weights : domain -> share of the training tokens
    batch_size : sequences per step over all ranks
    seed : of the order inside each domain; the mixture itself is not random
    rank, world_size : this process takes sequences rank, rank + world_size, ... of each batch
    """

    def __init__(
        self,
        manifest: Manifest,
        weights: Mapping[str, float],
        seq_len: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if batch_size % world_size:
            raise ConfigError(f"stream.batch_size {batch_size} is not a multiple of the {world_size} ranks")
        self.names = list(weights)
        self._packed = {n: PackedDomain(manifest, n, "train", seq_len) for n, w in weights.items() if w > 0}
        self._schedule = MixtureSchedule(list(weights.values()))
        self._seq_len, self._batch_size, self._seed = seq_len, batch_size, seed
        self._rank, self._world_size = rank, world_size

    def __getitem__(self, step: int) -> Batch:
        """Return `tokens` (B / world_size, seq_len + 1) and `domain` (B / world_size,), both int64."""
        first = step * self._batch_size
        domain, draw = self._schedule.block(first, first + self._batch_size)
        mine = self._order_in_batch(step)[self._rank :: self._world_size]
        rows = np.stack([self._sequence(self.names[domain[i]], int(draw[i])) for i in mine])
        return {"tokens": torch.from_numpy(rows), "domain": torch.from_numpy(domain[mine])}

    def _order_in_batch(self, step: int) -> NDArray[np.int64]:
        """Shuffle inside the batch, so that no rank sees a periodic part of the schedule; counts stay as they are."""
        return keyed_permutation(np.arange(self._batch_size), self._batch_size, derived_key(self._seed, "batch", step))

    def _sequence(self, name: str, draw: int) -> NDArray[np.int64]:
        packed = self._packed[name]
        epoch, place = divmod(draw, packed.n_sequences)
        item = keyed_permutation([place], packed.n_sequences, derived_key(self._seed, name, epoch))
        return packed.sequence(int(item[0]))

    def tokens_by_domain(self, n_steps: int) -> dict[str, int]:
        """Return how many tokens each domain has given after `n_steps` steps, over all ranks."""
        counts = self._schedule.counts(n_steps * self._batch_size)
        return {name: int(c) * self._seq_len for name, c in zip(self.names, counts, strict=True)}

    def batches(self, start: int, stop: int, workers: int = 0) -> Iterator[Batch]:
        """Yield the batches of steps [start, stop); worker processes only read ahead."""
        loader = DataLoader(self, batch_size=None, sampler=range(start, stop), num_workers=workers)
        return iter(loader)


def derived_key(seed: int, what: str, number: int) -> int:
    """Return a 64-bit key that differs for every (seed, purpose, number)."""
    digest = hashlib.blake2b(f"{seed}/{what}/{number}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def check_epochs(
    manifest: Manifest, weights: Mapping[str, float], n_tokens: int, seq_len: int, max_epochs: float
) -> None:
    """Refuse a mixture that would repeat a domain more often than allowed.

    Raises
    ------
    ConfigError
        With a table: domain, tokens needed, tokens available, epochs.
    """
    rows, worst = [], 0.0
    for name, weight in weights.items():
        available = n_sequences(manifest, name, seq_len) * seq_len
        epochs = weight * n_tokens / available if available else (np.inf if weight > 0 else 0.0)
        worst = max(worst, epochs)
        mark = "  <- too many" if epochs > max_epochs else ""
        rows.append(f"  {name:<16}{weight * n_tokens:>16,.0f}{available:>16,}{epochs:>9.2f}{mark}")
    if worst > max_epochs:
        head = f"  {'domain':<16}{'tokens needed':>16}{'available':>16}{'epochs':>9}"
        raise ConfigError(
            f"this mixture repeats a domain {worst:.2f} times, stream.max_epochs allows {max_epochs:g}. "
            "Lower its weight, shorten the run, or allow more:\n" + "\n".join([head, *rows])
        )


def evaluation_batches(
    manifest: Manifest, domain: str, split: str, seq_len: int, n_wanted: int, batch_size: int
) -> list[torch.Tensor]:
    """Return the fixed evaluation sequences of a domain, the same for every run: [(batch, seq_len + 1), ...].

    They are spread evenly over the split, so that they are the same documents whatever the run.
    """
    packed = PackedDomain(manifest, domain, split, seq_len)
    n = min(n_wanted, packed.n_sequences)
    items = np.arange(n) * packed.n_sequences // n
    rows = torch.from_numpy(np.stack([packed.sequence(int(i)) for i in items]))
    return list(rows.split(batch_size))
