"""Benchmark tasks in a prepared folder: the tokens of every choice, and a table of the choices.

<task>/eval-00000.tokens, .starts    one document per choice: the end token, its context, its answer
<task>/eval-00000.choices            little-endian int64 (n_choices, 6): question, source file, line, tokens and bytes
                                     of the answer, 1 if it is the right one
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from data.store.tokens import Manifest, TokenReader, write_split
from mixlaw.errors import DataError
from mixlaw.fileio import file_sha256

Ints = NDArray[np.int64]
SPLIT = "eval"
BITS_PER_BYTE = "bits/byte"


class StoredChoice(NamedTuple):
    """A choice of a question.

    Attributes
    ----------
    tokens : (n,) end token, context and answer
    question : its number within the task
    file, line : where it is stated; `file` is a number in the manifest's `questions.files`
    n_tokens : of the answer, the last ones
    n_bytes : of the answer's text in UTF-8
    right : whether it is the right answer
    """

    tokens: NDArray[Any]
    question: int
    file: int
    line: int
    n_tokens: int
    n_bytes: int
    right: bool


def write_choices(folder: Path, choices: Sequence[StoredChoice], dtype: np.dtype[Any]) -> dict[str, Any]:
    """Write the choices of a task and return the manifest entry of its split."""
    entry = write_split(folder, SPLIT, (choice.tokens for choice in choices), dtype)
    rows = np.array([choice[1:] for choice in choices], "<i8")
    path = folder / f"{SPLIT}-00000.choices"
    path.write_bytes(rows.tobytes())
    entry["files"].append({"name": path.name, "n_bytes": rows.nbytes, "sha256": file_sha256(path)})
    return entry | {"n_bytes": int(rows[:, 4].sum())}


@dataclass(frozen=True)
class Choices:
    """The choices of a task, or of some of its questions.

    Attributes
    ----------
    name : of the task
    question, file, line, n_tokens, n_bytes, right : (n,) see `StoredChoice`
    start, stop : (n,) the tokens of each choice in the split
    """

    name: str
    question: Ints
    file: Ints
    line: Ints
    n_tokens: Ints
    n_bytes: Ints
    right: Ints
    start: Ints
    stop: Ints

    @property
    def n_questions(self) -> int:
        """The number of questions."""
        return int(self.right.sum())

    @property
    def have_alternatives(self) -> bool:
        """Whether questions have several choices, so that there is an accuracy."""
        return len(self.question) > self.n_questions

    @property
    def chance(self) -> float:
        """The accuracy of guessing: the mean over questions of 1 / number of choices."""
        return float((1 / np.unique(self.question, return_counts=True)[1]).mean())

    def take(self, rows: Ints | NDArray[np.bool_]) -> "Choices":
        """Return some of the choices."""
        columns = {name: values[rows] for name, values in vars(self).items() if name != "name"}
        return Choices(self.name, **columns)

    def of_questions(self, most: int) -> "Choices":
        """Return all choices of at most this many questions, evenly spaced in the task; 0: of all."""
        numbers = np.unique(self.question)
        n = min(most or len(numbers), len(numbers))
        return self.take(np.isin(self.question, numbers[np.arange(n) * len(numbers) // n]))


def read_choices(manifest: Manifest, task: str) -> tuple[Choices, TokenReader]:
    """Return the choices of a task, and the reader of their tokens.

    Raises
    ------
    DataError
        If the table does not fit the tokens.
    """
    reader = TokenReader(manifest, task, SPLIT)
    bounds = reader.document_bounds()
    path = manifest.folder / task / f"{SPLIT}-00000.choices"
    question, file, line, n_tokens, n_bytes, right = np.fromfile(path, "<i8").reshape(-1, 6).T
    if len(question) != len(bounds) - 1:
        raise DataError(f"{path} has {len(question)} choices for {len(bounds) - 1} documents: prepare the data again")
    return Choices(task, question, file, line, n_tokens, n_bytes, right, bounds[:-1], bounds[1:]), reader


def task_names(manifest: Manifest) -> list[str]:
    """Return the targets that are benchmark tasks."""
    return [name for name in manifest.targets if "questions" in manifest.entry(name)]


def place_of(manifest: Manifest, choices: Choices, row: int) -> str:
    """Return file and line of a choice, for messages."""
    files: list[str] = manifest.entry(choices.name)["questions"]["files"]
    return f"{files[int(choices.file[row])]} line {int(choices.line[row])}"
