"""Held-out loss of every domain and target, on sequences that are the same for all runs."""

import torch
from torch import Tensor, nn

from data.shards import Manifest
from data.stream import evaluation_batches
from train.config import EvaluationConfig
from train.distributed import World

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

    def measure(self, model: nn.Module, world: World, precision: str) -> Losses:
        """Return per domain: loss [nats/token], its standard error over sequences, and the tokens it rests on."""
        return {name: self._summary(means) for name, means in self.by_sequence(model, world, precision).items()}

    @torch.no_grad()
    def by_sequence(self, model: nn.Module, world: World, precision: str) -> dict[str, Tensor]:
        """Return per domain the loss of every sequence [nats/token], float64 on the CPU."""
        model.train(False)
        losses = {name: self._domain(model, batches, world, precision) for name, batches in self._batches.items()}
        model.train(True)
        return losses

    def _domain(self, model: nn.Module, batches: list[Tensor], world: World, precision: str) -> Tensor:
        means = torch.zeros(sum(len(b) for b in batches), dtype=torch.float64, device=world.device)
        first = 0
        for i, batch in enumerate(batches):
            if i % world.size == world.rank:
                with autocast(world.device, precision):
                    nll_BS = model(batch.to(world.device))
                means[first : first + len(batch)] = nll_BS.double().mean(1)
            first += len(batch)
        return world.total(means).cpu()

    def _summary(self, means: Tensor) -> dict[str, float | int]:
        n = len(means)
        spread = float(means.std()) / n**0.5 if n > 1 else 0.0
        return {"loss": float(means.mean()), "loss_se": spread, "n_eval_tokens": n * self._seq_len}


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context in which matrix products run in the run's precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")
