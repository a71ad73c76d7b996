"""Evaluation batches of benchmark tasks: one sequence per choice of a question, padded.

The context is cut from the left where context and answer are longer than a sequence; the answer is never cut. Sequences
are sorted by their length, and each batch is as long as its longest, rounded up to a quarter of `seq_len`, so that
little is padding and compiled code meets four shapes at most.
"""

from dataclasses import dataclass

import numpy as np
import torch

from data.store.questions import Choices, place_of, read_choices, task_names
from data.store.tokens import Manifest
from data.stream.items import IGNORED, Ints, Layout
from data.stream.loader import Batch
from mixlaw.errors import ConfigError, DataError

SHAPES = 4  # lengths of batches


@dataclass(frozen=True)
class TaskSet:
    """The evaluation sequences of a task.

    Attributes
    ----------
    choices : of the questions, in the order of the sequences
    batches : `tokens` (B, T + 1), IGNORED after their ends, and `answer` (B,), the place of the answer's first token
    """

    choices: Choices
    batches: list[Batch]


def check_tasks(manifest: Manifest, layout: Layout) -> None:
    """Refuse tasks that the model cannot be measured on.

    Raises
    ------
    ConfigError
        If it is no text model.
    DataError
        Naming file and line, if an answer is longer than a sequence.
    """
    for name in task_names(manifest):
        if layout.family != "text":
            raise ConfigError(f"target '{name}' is a task, which only text models are measured on: model.family=text")
        choices, _ = read_choices(manifest, name)
        row = int(choices.n_tokens.argmax())
        if choices.n_tokens[row] > layout.seq_len:
            raise DataError(
                f"{place_of(manifest, choices, row)}: an answer has {choices.n_tokens[row]} tokens, and a sequence "
                f"{layout.seq_len}: raise stream.seq_len, or leave the question out"
            )


def task_set(manifest: Manifest, name: str, layout: Layout, most: int, batch_size: int) -> TaskSet:
    """Return the evaluation sequences of a task, the same for every run.

    Parameters
    ----------
    most : number of questions, evenly spaced in the task; 0: all
    batch_size : sequences per forward pass
    """
    choices, reader = read_choices(manifest, name)
    choices = choices.of_questions(most)
    choices = choices.take(np.argsort(choices.stop - choices.start, kind="stable"))
    kept = np.minimum(choices.stop - choices.start, layout.seq_len + 1)
    batches = []
    for first in range(0, len(kept), batch_size):
        rows = slice(first, first + batch_size)
        tokens = np.full((len(kept[rows]), _padded(int(kept[rows].max()) - 1, layout.seq_len) + 1), IGNORED, np.int64)
        for row, stop, n in zip(tokens, choices.stop[rows], kept[rows], strict=True):
            row[:n] = reader.windows(stop[None] - n, int(n))[0]
        answer = kept[rows] - choices.n_tokens[rows]
        batches.append({"tokens": torch.from_numpy(tokens), "answer": torch.from_numpy(answer)})
    return TaskSet(choices, batches)


def _padded(length: int, seq_len: int) -> int:
    """Return the inputs of each sequence of a batch whose longest has this many, or more than a sequence has."""
    step = -(-seq_len // SHAPES)
    return min(-(-length // step) * step, seq_len)


def task_facts(manifest: Manifest, layout: Layout, most: int, batch_size: int) -> dict[str, dict[str, float]]:
    """Return what one evaluation of each task takes, and what guessing would score.

    Parameters
    ----------
    most, batch_size : see `task_set`

    Returns
    -------
    task -> n_questions, n_sequences, n_contexts_cut (sequences whose context is cut), n_tokens (places, with padding),
    and where there are choices, chance (the accuracy of guessing)
    """
    facts: dict[str, dict[str, float]] = {}
    for name in task_names(manifest):
        choices = read_choices(manifest, name)[0].of_questions(most)
        whole: Ints = np.sort(choices.stop - choices.start - 1)
        parts = np.array_split(whole, range(batch_size, len(whole), batch_size))
        facts[name] = {
            "n_questions": choices.n_questions,
            "n_sequences": len(whole),
            "n_contexts_cut": int((whole > layout.seq_len).sum()),
            "n_tokens": sum(len(part) * _padded(int(part[-1]), layout.seq_len) for part in parts),
            **({"chance": round(choices.chance, 6)} if choices.have_alternatives else {}),
        }
    return facts
