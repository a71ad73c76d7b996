"""Held-out loss of every domain and target, on sequences that are the same for all runs."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from data.store.tokens import Manifest
from data.stream.items import Layout
from data.stream.loader import Batch, evaluation_set
from mixlaw.errors import ConfigError
from train.config import EvaluationConfig
from train.distributed import World
from train.precision import autocast
from train.preempt import StopRequest
from train.standard_error import Ints, standard_error

Losses = dict[str, dict[str, float | int]]
Sums = dict[str, Tensor]  # kind of loss -> (n_sequences, 2): sum and number of the losses of each sequence


class Evaluator:
    """Holds the evaluation sequences of all domains and measures a model on them.

    Parameters
    ----------
    batch_size : sequences per forward pass; affects results by rounding only
    """

    def __init__(self, manifest: Manifest, config: EvaluationConfig, layout: Layout, batch_size: int) -> None:
        self._passes: list[tuple[slice, Batch]] = []  # positions of a batch among all sequences, and the batch
        self._places: dict[str, slice] = {}
        self._documents: dict[str, Ints] = {}
        n = 0
        for name in (*manifest.domains, *manifest.targets):
            first = n
            batches, self._documents[name] = evaluation_set(
                manifest, name, config.split, layout, config.n_sequences, batch_size
            )
            for batch in batches:
                size = len(next(iter(batch.values())))
                self._passes.append((slice(n, n + size), batch))
                n += size
            self._places[name] = slice(first, n)
        self._n_sequences = n

    def measure(self, model: nn.Module, world: World, precision: str, stop: StopRequest | None = None) -> Losses | None:
        """Return for each domain its loss, standard error over documents, and number of tokens (or patches).

        For models that predict images, the loss of a domain is the weighted sum of the losses `<domain>-<kind>`, which
        are returned too. Returns None on all ranks if a signal arrives first.
        """
        sums = self.by_sequence(model, world, precision, stop)
        return None if sums is None else summaries(sums, model.loss_weights, self._documents)  # type: ignore[arg-type]

    @torch.no_grad()
    def by_sequence(
        self, model: nn.Module, world: World, precision: str, stop: StopRequest | None = None
    ) -> dict[str, Sums] | None:
        """Return for each domain the losses of every sequence, float64 on the CPU; None if stopped by a signal."""
        model.train(False)
        sums = self._sums(model, world, precision, stop)
        model.train(True)
        if sums is None:
            return None
        return {name: {kind: values[place] for kind, values in sums.items()} for name, place in self._places.items()}

    def _sums(self, model: nn.Module, world: World, precision: str, stop: StopRequest | None) -> Sums | None:
        """Evaluate all sequences; rank r takes the batches r, r + world.size, ... of all domains.

        With FSDP, all ranks must take part in every forward pass, so in the last turn, ranks without a batch repeat the
        last one.
        """
        kinds = list(model.loss_weights)  # type: ignore[arg-type]
        sums = {kind: torch.zeros(self._n_sequences, 2, dtype=torch.float64, device=world.device) for kind in kinds}
        for turn in range(0, len(self._passes), world.size):
            if stop and world.maximum(stop.signal):
                return None
            mine = turn + world.rank
            if mine < len(self._passes) or isinstance(model, FSDPModule):
                place, batch = self._passes[min(mine, len(self._passes) - 1)]
                found = _measured(model, batch, world, precision)
                for kind in kinds if mine < len(self._passes) else ():
                    sums[kind][place] = found[kind]
        return {kind: world.total(values).cpu() for kind, values in sums.items()}


def _measured(model: nn.Module, batch: Batch, world: World, precision: str) -> Sums:
    """Return the sums (n_sequences, 2) of one batch by kind of loss."""
    batch = inputs_of(model, batch, world.device)
    with autocast(world.device, precision):
        losses = model(batch)
    counts = model.predicted(batch)  # type: ignore[operator]
    return {kind: torch.stack([losses[kind].double().sum(1), n.double()], 1) for kind, n in counts.items()}


def summaries(
    sums: Mapping[str, Sums], weights: Mapping[str, float], documents: Mapping[str, Ints] | None = None
) -> Losses:
    """Return the losses of domains, computed from those of their sequences.

    Parameters
    ----------
    documents : domain -> all pairs (sequence, document), as (2, m)

    Raises
    ------
    ConfigError
        If the evaluation sequences of a domain have nothing to predict.
    """
    losses: Losses = {}
    for domain, by_kind in sums.items():
        empty = [kind for kind, values in by_kind.items() if not values[:, 1].any()]
        if empty:
            raise ConfigError(f"domain '{domain}': its evaluation sequences hold no {empty[0]} to predict")
        held = documents[domain] if documents else None
        losses[domain] = summary(by_kind, weights, held)
        if list(weights) != ["text"]:
            losses |= {f"{domain}-{kind}": summary({kind: by_kind[kind]}, {kind: 1.0}, held) for kind in weights}
    return losses


def summary(by_kind: Sums, weights: Mapping[str, float], documents: Ints | None = None) -> dict[str, float | int]:
    """Return the weighted sum of the mean losses of each kind, and its standard error over documents.

    Parameters
    ----------
    documents : all pairs (sequence, document), as (2, m); None: each sequence is a separate document
    """
    loss, n_tokens = 0.0, 0
    residuals = torch.zeros(())
    for kind, values in by_kind.items():
        total = float(values[:, 1].sum())
        mean = float(values[:, 0].sum()) / total
        loss += weights[kind] * mean
        n_tokens += int(total)
        residuals = residuals + weights[kind] * (values[:, 0] - mean * values[:, 1]) / total
    return {"loss": loss, "loss_se": standard_error(residuals.numpy(), documents), "n_eval_tokens": n_tokens}


def inputs_of(model: nn.Module, batch: Batch, device: torch.device) -> Batch:
    """Return the inputs of the model from a batch, on its device."""
    return {name: batch[name].to(device, non_blocking=True) for name in model.inputs}  # type: ignore[union-attr]
