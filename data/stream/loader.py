"""The weighted stream: step -> batch, a pure function of the configuration.

Documents are packed within their domain before mixing. The schedule therefore distributes items of known length, and h
is a share of tokens (or of samples). The only state of the stream is the number of the next step.
"""

import signal
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from data.store.tokens import Manifest
from data.stream.items import Arrays, Kinds, Layout, open_items
from data.stream.order import Draws, GlobalOrder
from mixlaw.errors import ConfigError
from mixlaw.mixture import Mixture

Batch = dict[str, torch.Tensor]
_SEQUENCES_AHEAD = 8192  # drawn at a time; 10 times faster than one at a time
_COUNTED = ("n_tokens", "n_image_tokens", "n_loss_tokens", "n_samples")


def shares_of_items(weights: Mapping[str, float], kinds: Mapping[str, Kinds], unit: str) -> Mixture:
    """Convert weights, as shares of tokens or samples, to shares of items.

    Parameters
    ----------
    weights : domain -> share of the tokens (unit "tokens") or of the documents ("samples")

    Raises
    ------
    ConfigError
        If the items do not count documents; text windows do not.
    """
    means = {name: kinds[name].per_item(f"n_{unit}") for name, w in weights.items() if w > 0}
    if not all(means.values()):
        raise ConfigError(f"stream.unit={unit}: this model family does not count {unit}: use stream.unit=tokens")
    if len(set(means.values())) == 1:
        return Mixture.of(weights)
    parts = {name: w / means[name] if w > 0 else 0.0 for name, w in weights.items()}
    return Mixture.proportional(parts)


class WeightedStream(Dataset[Batch]):
    """Step -> this rank's part of the global batch. Order and content do not depend on ranks or workers.

    Parameters
    ----------
    weights : domain -> share of the training tokens, or of the samples
    layout : how the model reads documents
    batch_size : sequences per step over all ranks
    seed : of the order within each domain and of image augmentation; the mixture itself is not random
    rank, world_size : this process reads sequences rank, rank + world_size, ... of each batch
    unit : "tokens" or "samples", of which weights are shares
    changes : (step, mixture) pairs, if the mixture changes: after this many steps, this mixture of the same domains
        holds
    pools : domain -> kinds of its pool, as `pools_of` returns them; a domain without one is read as a whole
    """

    def __init__(
        self,
        manifest: Manifest,
        weights: Mapping[str, float],
        layout: Layout,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        unit: str = "tokens",
        changes: Sequence[tuple[int, Mapping[str, float]]] = (),
        pools: Mapping[str, Kinds] | None = None,
    ) -> None:
        if batch_size % world_size:
            raise ConfigError(f"stream.batch_size {batch_size} is not a multiple of the {world_size} ranks")
        self.names = list(weights)
        mixtures = [weights, *(mixture for _, mixture in changes)]
        drawn = {i: name for i, name in enumerate(self.names) if any(m[name] > 0 for m in mixtures)}
        self._items = {i: open_items(manifest, name, "train", layout) for i, name in drawn.items()}
        limited = {i: pools[name] for i, name in drawn.items() if name in pools} if pools else {}
        kinds = {name: limited.get(i, self._items[i].kinds) for i, name in drawn.items()}
        first, *later = [list(shares_of_items(m, kinds, unit).values()) for m in mixtures]
        sizes = [self._items[i].kinds.n_items if i in drawn else np.zeros(1, np.int64) for i in range(len(weights))]
        after = [(step, mixture) for (step, _), mixture in zip(changes, later, strict=True)]
        counts = {i: pool.n_items for i, pool in limited.items()}
        self._order = GlobalOrder(self.names, first, sizes, batch_size, seed, after, counts)
        self._batch_size, self._seed = batch_size, seed
        self._rank, self._world_size = rank, world_size
        self._ahead = max(_SEQUENCES_AHEAD // batch_size, 1)
        self._draws, self._draws_from = self._order.steps(0, 0), 0

    def __getitem__(self, step: int) -> Batch:
        """Return the arrays of the layout, each (B / world_size, ...), and `domain` (B / world_size,)."""
        draws, row = self._draws_of(step)
        mine = slice(self._rank, None, self._world_size)
        domain, epoch, item = draws.domain[row, mine], draws.epoch[row, mine], draws.item[row, mine]
        batch: Arrays = {}
        for i in np.unique(domain):
            here = np.flatnonzero(domain == i)
            for name, part in self._items[int(i)].arrays(item[here], epoch[here], self._seed).items():
                if name not in batch:
                    batch[name] = np.empty((len(domain), *part.shape[1:]), stored_type(part))
                batch[name][here] = part
        return {name: torch.from_numpy(array) for name, array in batch.items()} | {
            "domain": torch.from_numpy(domain.copy())
        }

    def _draws_of(self, step: int) -> tuple[Draws, int]:
        """Return the draws of several steps at once, for speed, and the row of this step."""
        first = step - step % self._ahead
        if first != self._draws_from or not len(self._draws.domain):
            self._draws, self._draws_from = self._order.steps(first, self._ahead), first
        return self._draws, step - first

    def tokens_by_domain(self, n_steps: int) -> dict[str, int]:
        """Return the tokens of each domain in the first `n_steps` steps, over all ranks, without padding."""
        counts = self._order.counts_by_kind(n_steps)
        return {
            name: int(counts[i] @ self._items[i].kinds.n_tokens) if i in self._items else 0
            for i, name in enumerate(self.names)
        }

    def totals(self, n_steps: int) -> dict[str, int]:
        """Return totals over all domains: n_tokens, n_image_tokens, n_loss_tokens, n_samples."""
        counts = self._order.counts_by_kind(n_steps)
        return {
            what: sum(int(counts[i] @ getattr(items.kinds, what)) for i, items in self._items.items())
            for what in _COUNTED
        }

    def batches(self, start: int, stop: int, workers: int = 0) -> Iterator[Batch]:
        """Yield the batches of steps [start, stop), prefetched by worker processes."""
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
    """Ignore signals in workers: a scheduler signals all processes, and the trainer decides when to stop."""
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def stored_type(array: np.ndarray) -> np.dtype:
    """Return the type of an array in a batch: int64 for token ids, uint8 for pixels."""
    return array.dtype if array.dtype == np.uint8 else np.dtype(np.int64)


def check_epochs(kinds: Mapping[str, Kinds], tokens: Mapping[str, float], max_epochs: float, pools: str = "") -> None:
    """Refuse a mixture that would repeat a domain more than `max_epochs` times.

    Parameters
    ----------
    kinds : domain -> the items that the run may read, of its pool if it has one
    tokens : domain -> tokens that the run reads
    pools : name of the setting that limits the items, for the message

    Raises
    ------
    ConfigError
        With a table: domain, tokens needed, tokens available, epochs.
    """
    rows, worst = [], 0.0
    for name, needed in tokens.items():
        available = kinds[name].total("n_tokens")
        epochs = needed / available if available else (np.inf if needed > 0 else 0.0)
        worst = max(worst, epochs)
        mark = "  <- too many" if epochs > max_epochs else ""
        rows.append(f"  {name:<16}{needed:>16,.0f}{available:>16,}{epochs:>9.2f}{mark}")
    if worst > max_epochs:
        head = f"  {'domain':<16}{'tokens needed':>16}{'available':>16}{'epochs':>9}"
        raise ConfigError(
            f"this mixture repeats a domain {worst:.2f} times, stream.max_epochs allows {max_epochs:g}. "
            f"Lower its weight, {f'raise its tokens in {pools}' if pools else 'shorten the run'}, or allow more:\n"
            + "\n".join([head, *rows])
        )


def evaluation_batches(
    manifest: Manifest, domain: str, split: str, layout: Layout, n_wanted: int, batch_size: int
) -> list[Batch]:
    """Return the evaluation sequences of a domain as batches; evenly spaced in the split, the same for every run."""
    return evaluation_set(manifest, domain, split, layout, n_wanted=n_wanted, batch_size=batch_size)[0]


def evaluation_set(
    manifest: Manifest, domain: str, split: str, layout: Layout, n_wanted: int, batch_size: int
) -> tuple[list[Batch], NDArray[np.int64]]:
    """Return `evaluation_batches`, and all pairs (sequence, document) as (2, m)."""
    items = open_items(manifest, domain, manifest.measured_split(domain, split), layout)
    n_items = items.kinds.size
    chosen = np.arange(min(n_wanted, n_items)) * n_items // min(n_wanted, n_items)
    parts = np.array_split(chosen, range(batch_size, len(chosen), batch_size))
    read = (items.arrays(part, np.zeros_like(part), None) for part in parts)
    batches = [{k: torch.from_numpy(v.astype(stored_type(v), copy=False)) for k, v in part.items()} for part in read]
    return batches, items.documents(chosen)
