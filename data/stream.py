"""The weighted stream: global sequence index -> tokens, a pure function of the configuration.

Documents are packed end to end within their domain into sequences of `seq_len` tokens before any mixing, so the unit
of the schedule is a fixed number of tokens and h is a share of tokens. The stream's whole state is the number of the
next step.
"""

import signal
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from data.order import Draws, GlobalOrder
from data.shards import Manifest, TokenReader
from mixlaw.errors import ConfigError, DataError

Batch = dict[str, torch.Tensor]
_SEQUENCES_AHEAD = 8192  # drawn at a time: the order costs 10 times more one by one


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

    def sequences(self, items: NDArray[np.int64]) -> NDArray[Any]:
        """Return (n, seq_len + 1) tokens in the type that they are stored in."""
        return self._reader.windows(items * self._seq_len, self._seq_len + 1)


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
        self._packed = {
            i: PackedDomain(manifest, name, "train", seq_len) for i, (name, w) in enumerate(weights.items()) if w > 0
        }
        sizes = [self._packed[i].n_sequences if i in self._packed else 0 for i in range(len(self.names))]
        self._order = GlobalOrder(self.names, list(weights.values()), sizes, batch_size, seed)
        self._seq_len, self._batch_size = seq_len, batch_size
        self._rank, self._world_size = rank, world_size
        self._ahead = max(_SEQUENCES_AHEAD // batch_size, 1)
        self._draws, self._draws_from = self._order.steps(0, 0), 0

    def __getitem__(self, step: int) -> Batch:
        """Return `tokens` (B / world_size, seq_len + 1) and `domain` (B / world_size,), both int64."""
        draws, row = self._draws_of(step)
        mine = slice(self._rank, None, self._world_size)
        domain, item = draws.domain[row, mine], draws.item[row, mine]
        tokens = np.empty((len(domain), self._seq_len + 1), np.int64)
        for i in np.unique(domain):
            here = np.flatnonzero(domain == i)
            tokens[here] = self._packed[int(i)].sequences(item[here])
        return {"tokens": torch.from_numpy(tokens), "domain": torch.from_numpy(domain.copy())}

    def _draws_of(self, step: int) -> tuple[Draws, int]:
        """Return draws that hold a step's, and its row: some steps at a time, because each costs less then."""
        first = step - step % self._ahead
        if first != self._draws_from or not len(self._draws.domain):
            self._draws, self._draws_from = self._order.steps(first, self._ahead), first
        return self._draws, step - first

    def tokens_by_domain(self, n_steps: int) -> dict[str, int]:
        """Return how many tokens each domain has given after `n_steps` steps, over all ranks."""
        counts = self._order.counts(n_steps)
        return {name: int(c) * self._seq_len for name, c in zip(self.names, counts, strict=True)}

    def batches(self, start: int, stop: int, workers: int = 0) -> Iterator[Batch]:
        """Yield the batches of steps [start, stop); worker processes only read ahead."""
        loader = DataLoader(
            self,
            batch_size=None,
            sampler=range(start, stop),
            num_workers=workers,
            worker_init_fn=_ignore_signals if workers else None,
            pin_memory=torch.cuda.is_available(),
        )
        return iter(loader)


def _ignore_signals(worker: int) -> None:
    """Leave it to the run to decide: a scheduler's warning goes to all processes, and workers must outlive it."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


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
    rows = packed.sequences(np.arange(n) * packed.n_sequences // n)
    return list(torch.from_numpy(rows.astype(np.int64)).split(batch_size))
