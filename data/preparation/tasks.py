"""Prepares benchmark tasks: reads their questions, tokenises every choice behind its context, and writes them.

Context and answer are tokenised as one text, as a model would meet them. The answer begins with the first token that
differs from those of the context alone, so a token that spans both counts for the answer. For contexts that do not end
in white space, that is the rule of lm-evaluation-harness (`TemplateLM._encode_pair`) wherever no token spans both. A
sequence begins with the end token, as every document of the training stream does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.config import DataConfig, SourceConfig
from data.demo_corpora.task_wheels import questions_in_wheel
from data.preparation.sources import licence, origin, unreadable_files_named
from data.readers.questions import Choice, Question, questions_of, refuse_mixed
from data.store.questions import SPLIT, StoredChoice, write_choices
from data.store.tokens import SPLITS, token_dtype, write_split
from data.tokenizers import Ids, Tokenizer
from mixlaw.errors import DataError

BATCH = 4096  # choices that are tokenised at a time
COUNTED = ("n_empty", "n_short", "n_duplicate", "n_in_other_domain", "n_bad")  # of documents; questions have none


@dataclass(frozen=True)
class Task:
    """The questions of a task.

    Attributes
    ----------
    files : names of its files, for messages
    questions : number of the file, and a question
    """

    files: list[str]
    questions: list[tuple[int, Question]]

    @property
    def texts(self) -> list[str]:
        """Contexts with their choices."""
        choices = (choice for _, question in self.questions for choice in question.choices)
        return [choice.context + choice.answer for choice in choices]

    def place(self, file: int, choice: Choice) -> str:
        """Return file and line of a choice."""
        return f"{self.files[file]} line {choice.line}"


def read_task(source: SourceConfig, files: Sequence[Path]) -> Task:
    """Return the questions of a task's files, or of a file in its wheel.

    Raises
    ------
    DataError
        Naming file and line; see `data.readers.questions.parse`. Or if a file cannot be read.
    """
    names, read = [], []
    for path in files:
        with unreadable_files_named(path, source.reader):
            names.append(f"{path.name}: {source.member}" if source.member else str(path))
            read.append(questions_in_wheel(path, source.member) if source.member else questions_of(path))
    questions = [(number, question) for number, several in enumerate(read) for question in several]
    refuse_mixed((question for _, question in questions), ", ".join(names))
    return Task(names, questions)


def write_task(
    config: DataConfig, name: str, task: Task, paths: Sequence[Path], tokenizer: Tokenizer, folder: Path
) -> dict[str, Any]:
    """Write a task into its folder of the prepared folder, and return its manifest entry.

    Parameters
    ----------
    paths : of the files that it was read from

    Raises
    ------
    DataError
        With file and line, for an answer that the tokenizer cannot represent.
    """
    dtype = token_dtype(tokenizer.vocab_size)
    splits = {split: write_split(folder, split, [], dtype) | {"n_bytes": 0} for split in SPLITS}
    splits[SPLIT] = write_choices(folder, list(_stored(task, tokenizer)), dtype)
    source, n = config.targets[name], len(task.questions)
    return {
        "role": "target",
        "reader": source.reader,
        "origin": f"{origin(source)}: {source.member}" if source.member else origin(source),
        "licence": licence(source, list(paths)),
        "counts": dict.fromkeys(COUNTED, 0) | {"n_read": n, "n_documents": n},
        "questions": {"n_questions": n, "files": task.files},
        "splits": splits,
    }


def _stored(task: Task, tokenizer: Tokenizer) -> Iterator[StoredChoice]:
    """Yield the choices of all questions, tokenised."""
    flat = [
        (file, number, choice, place == question.right)
        for number, (file, question) in enumerate(task.questions)
        for place, choice in enumerate(question.choices)
    ]
    for first in range(0, len(flat), BATCH):
        part = flat[first : first + BATCH]
        joined = tokenizer.encode_batch([choice.context + choice.answer for _, _, choice, _ in part])
        contexts = tokenizer.encode_batch([choice.context for _, _, choice, _ in part])
        for (file, number, choice, right), ids, context in zip(part, joined, contexts, strict=True):
            _require_represented(choice, ids, tokenizer, task.place(file, choice))
            tokens = np.concatenate([[tokenizer.end_id], ids])
            n_bytes = len(choice.answer.encode())
            yield StoredChoice(tokens, number, file, choice.line, len(ids) - _shared(ids, context), n_bytes, right)


def _shared(ids: Ids, context: Ids) -> int:
    """Return how many tokens two sequences share at their beginning."""
    n = min(len(ids), len(context))
    differ = np.flatnonzero(ids[:n] != context[:n])
    return int(differ[0]) if len(differ) else n


def _require_represented(choice: Choice, ids: Ids, tokenizer: Tokenizer, place: str) -> None:
    """Raise DataError unless the tokens stand for the answer, and none of them is the end token."""
    if (ids == tokenizer.end_id).any():
        raise DataError(f"{place}: its context or answer holds the end token of the tokenizer: remove it there")
    read_back = tokenizer.decode(ids)
    if not read_back.endswith(choice.answer):
        tail = read_back[-len(choice.answer) :]
        raise DataError(
            f"{place}: the tokenizer cannot represent the answer {choice.answer!r:.60}, which it reads back as "
            f"{tail!r:.60}"
        )
