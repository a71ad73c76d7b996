"""Held-out loss of every domain and target, and of benchmark tasks, on sequences that are the same for all runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from data.store.questions import Choices, task_names
from data.store.tokens import Manifest
from data.stream.items import Layout
from data.stream.loader import Batch, evaluation_set
from data.stream.questions import task_facts, task_set
from mixlaw.errors import ConfigError
from train.config import EvaluationConfig, TrainConfig
from train.distributed import World
from train.precision import autocast
from train.preempt import StopRequest
from train.standard_error import Ints, standard_error
from train.task_losses import group_row, task_row

Losses = dict[str, dict[str, float | int]]
Sums = dict[str, Tensor]  # kind of loss -> (n_sequences, 2): sum and number of the losses of each sequence


class Evaluator:
    """Holds the evaluation sequences of all domains and measures a model on them.

    Parameters
    ----------
    batch_size : sequences per forward pass; affects results by rounding only
    groups : target -> task -> weight, for targets that are means of tasks
    """

    def __init__(
        self,
        manifest: Manifest,
        config: EvaluationConfig,
        layout: Layout,
        batch_size: int,
        groups: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        self._passes: list[tuple[slice, Batch]] = []  # positions of a batch among all sequences, and the batch
        self._places: dict[str, slice] = {}
        self._documents: dict[str, Ints] = {}
        self._tasks: dict[str, Choices] = {}
        self._groups = groups or {}
        self._n_sequences = 0
        tasks = task_names(manifest)
        for name in (*manifest.domains, *manifest.targets):
            if name in tasks:
                task = task_set(manifest, name, layout, config.max_questions, batch_size)
                batches, self._tasks[name] = task.batches, task.choices
            else:
                batches, self._documents[name] = evaluation_set(
                    manifest, name, config.split, layout, config.n_sequences, batch_size
                )
            self._places[name] = self._add(batches)

    def _add(self, batches: Sequence[Batch]) -> slice:
        """Add batches to those to evaluate; return the positions of their sequences."""
        first = self._n_sequences
        for batch in batches:
            size = len(next(iter(batch.values())))
            self._passes.append((slice(self._n_sequences, self._n_sequences + size), batch))
            self._n_sequences += size
        return slice(first, self._n_sequences)

    def measure(self, model: nn.Module, world: World, precision: str, stop: StopRequest | None = None) -> Losses | None:
        """Return for each domain its loss, standard error over documents, and number of tokens (or patches).

        For models that predict images, the loss of a domain is the weighted sum of the losses `<domain>-<kind>`, which
        are returned too. For tasks and groups of tasks, see `train.task_losses`. Returns None on all ranks if a signal
        arrives first.
        """
        sums = self.by_sequence(model, world, precision, stop)
        if sums is None:
            return None
        texts = {name: of_domain for name, of_domain in sums.items() if name not in self._tasks}
        losses = summaries(texts, model.loss_weights, self._documents)  # type: ignore[arg-type]
        losses |= {name: task_row(sums[name]["text"][:, 0].numpy(), task) for name, task in self._tasks.items()}
        return losses | {name: group_row(losses, weights) for name, weights in self._groups.items()}

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
    """Return the sums (n_sequences, 2) of one batch by kind of loss; those of tasks are of their answers only."""
    inputs = inputs_of(model, batch, world.device)
    with autocast(world.device, precision):
        losses = model(inputs)
    counts = model.predicted(inputs)  # type: ignore[operator]
    if "answer" in batch:
        losses, counts = _of_answers(losses, counts, batch["answer"].to(world.device))
    return {kind: torch.stack([losses[kind].double().sum(1), n.double()], 1) for kind, n in counts.items()}


def _of_answers(losses: Sums, counts: Sums, answer_B: Tensor) -> tuple[Sums, Sums]:
    """Return losses (B, S) and counts (B,) of predicted tokens without those of the contexts.

    Parameters
    ----------
    answer_B : place of the first token of each answer; the token before it predicts it
    """
    places_S = torch.arange(losses["text"].shape[1], device=answer_B.device)
    is_answer_BS = places_S >= answer_B[:, None] - 1
    return {"text": losses["text"] * is_answer_BS}, {"text": counts["text"] - (answer_B - 1)}


def evaluation_costs(config: TrainConfig, manifest: Manifest, n_evaluations: int) -> dict[str, Any]:
    """Return what the evaluations of a run take.

    Returns
    -------
    n_evaluations; n_tokens, of all of them, with padding (an upper bound where domains have little text); tasks, where
    there are any: task -> its facts of one evaluation (`data.stream.questions.task_facts`)
    """
    layout, evaluation = config.layout(), config.evaluation
    tasks = task_facts(manifest, layout, evaluation.max_questions, config.stream.batch_size)
    n_texts = len(manifest.domains) + len(manifest.targets) - len(tasks)
    once = n_texts * evaluation.n_sequences * layout.seq_len + sum(task["n_tokens"] for task in tasks.values())
    costs = {"n_evaluations": n_evaluations, "n_tokens": n_evaluations * once}
    return costs | ({"tasks": tasks} if tasks else {})


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
