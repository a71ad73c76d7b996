"""Held-out loss of every domain and target, on sequences that are the same for all runs."""

import torch
from torch import Tensor, nn

from data.shards import Manifest
from data.stream import evaluation_batches
from train.config import EvaluationConfig
from train.distributed import World
from train.preempt import StopRequest

Losses = dict[str, dict[str, float | int]]


class Evaluator:
    """Holds the evaluation sequences of all domains and measures a model on them.

    Parameters
    ----------
    batch_size : sequences per forward pass; changes no result beyond rounding
    """

    def __init__(self, manifest: Manifest, config: EvaluationConfig, seq_len: int, batch_size: int) -> None:
        self._seq_len = seq_len
        names = [*manifest.domains, *manifest.targets]
        self._batches = {
            name: evaluation_batches(manifest, name, config.split, seq_len, config.n_sequences, batch_size)
            for name in names
        }

    def measure(self, model: nn.Module, world: World, precision: str, stop: StopRequest | None = None) -> Losses | None:
        """Return per domain: loss [nats/token], its standard error over sequences, and the tokens it rests on.

        None, on all ranks, if a signal came before all was measured.
        """
        means = self.by_sequence(model, world, precision, stop)
        return None if means is None else {name: self._summary(losses) for name, losses in means.items()}

    @torch.no_grad()
    def by_sequence(
        self, model: nn.Module, world: World, precision: str, stop: StopRequest | None = None
    ) -> dict[str, Tensor] | None:
        """Return per domain the loss of every sequence [nats/token], float64 on the CPU; None if stopped."""
        model.train(False)
        losses = {}
        for name, batches in self._batches.items():
            measured = self._domain(model, batches, world, precision, stop)
            if measured is None:
                break
            losses[name] = measured
        model.train(True)
        return losses if len(losses) == len(self._batches) else None

    def _domain(
        self, model: nn.Module, batches: list[Tensor], world: World, precision: str, stop: StopRequest | None
    ) -> Tensor | None:
        """Measure one domain, each rank every world.size-th batch. All ranks run the model equally often: where the
        batches are used up, a rank repeats the last, because shards of a model meet in every forward pass."""
        sizes = [len(batch) for batch in batches]
        means = torch.zeros(sum(sizes), dtype=torch.float64, device=world.device)
        for turn in range(0, len(batches), world.size):
            if stop and world.maximum(stop.signal):
                return None
            i = turn + world.rank
            batch = batches[min(i, len(batches) - 1)].to(world.device)
            with autocast(world.device, precision):
                nll_BS = model(batch)
            if i < len(batches):
                first = sum(sizes[:i])
                means[first : first + sizes[i]] = nll_BS.double().mean(1)
        return world.total(means).cpu()

    def _summary(self, means: Tensor) -> dict[str, float | int]:
        n = len(means)
        spread = float(means.std()) / n**0.5 if n > 1 else 0.0
        return {"loss": float(means.mean()), "loss_se": spread, "n_eval_tokens": n * self._seq_len}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which matrix products run in the run's precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
