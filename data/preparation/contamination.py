"""Finds answers of benchmark tasks in training documents."""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.preparation.corpus import clean
from data.preparation.tasks import Task

LEAST = 32  # bytes: shorter answers, such as "an ant", also occur in documents that never saw the task
PRIME = 0x100000001B3  # odd, so that it has an inverse modulo 2^64
CHUNK = 1 << 20  # bytes that are hashed at a time

Hashes = NDArray[np.uint64]


class Answers:
    """The right answers of all tasks that are long enough to be found in documents.

    A document is searched for all of them at once: by the hash of every run of `LEAST` bytes (Karp and Rabin 1987,
    IBM J. Res. Dev. 31:249), then by the bytes themselves.
    """

    def __init__(self, tasks: Mapping[str, Task]) -> None:
        self._by_hash: dict[int, list[tuple[bytes, str, int]]] = {}
        for name, task in tasks.items():
            for number, (_, question) in enumerate(task.questions):
                text = clean(question.answer.answer).strip().encode()
                if len(text) >= LEAST:
                    first = int(_hashes(text[:LEAST])[0])
                    self._by_hash.setdefault(first, []).append((text, name, number))
        self._known = np.array(sorted(self._by_hash), np.uint64)

    def within(self, document: bytes) -> set[tuple[str, int]]:
        """Return (task, number of the question) of every answer that the document holds."""
        starts = range(0, len(document) - LEAST + 1, CHUNK) if len(self._known) else ()
        seen = {value for start in starts for value in self._known_in(document[start : start + CHUNK + LEAST - 1])}
        candidates = (answer for value in seen for answer in self._by_hash[value])
        return {(name, number) for text, name, number in candidates if text in document}

    def _known_in(self, part: bytes) -> list[int]:
        """Return the hashes of answers that occur in a part of a document."""
        hashes = _hashes(part)
        place = np.searchsorted(self._known, hashes).clip(max=len(self._known) - 1)
        found: list[int] = np.unique(self._known[place[self._known[place] == hashes]]).tolist()
        return found


def _hashes(text: bytes) -> Hashes:
    """Return (n - LEAST + 1,) the hash of each run of LEAST bytes."""
    values = np.frombuffer(text, np.uint8).astype(np.uint64)
    n = CHUNK + LEAST
    powers, back = _powers(PRIME, n), _powers(pow(PRIME, -1, 1 << 64), n)
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(values * powers[: len(values)], dtype=np.uint64)])
    hashes: Hashes = (sums[LEAST:] - sums[:-LEAST]) * back[: len(values) - LEAST + 1]
    return hashes


@cache
def _powers(base: int, n: int) -> Hashes:
    """Return the first n powers of a number modulo 2^64."""
    powers: Hashes = np.cumprod(np.array([1] + [base] * (n - 1), np.uint64), dtype=np.uint64)
    return powers


def contaminated(tasks: Mapping[str, Task], documents: Iterable[tuple[str, bytes]]) -> dict[str, dict[str, Any]]:
    """Return task -> what its training documents give away; nothing for tasks whose answers occur nowhere.

    Parameters
    ----------
    documents : domain and bytes of every training document

    Returns
    -------
    For each task: `n_questions`, whose answers of at least 32 bytes occur; `documents`, domain -> documents with one;
    `example`, the place of one such answer
    """
    answers, found = Answers(tasks), dict[str, dict[str, Any]]()
    questions: dict[str, set[int]] = {}
    for domain, document in documents:
        hits = answers.within(document)
        for name, number in hits:
            questions.setdefault(name, set()).add(number)
            file, question = tasks[name].questions[number]
            found.setdefault(name, {"documents": Counter(), "example": tasks[name].place(file, question.answer)})
        for name in {name for name, _ in hits}:
            found[name]["documents"][domain] += 1
    return {
        name: facts | {"n_questions": len(questions[name]), "documents": dict(facts["documents"])}
        for name, facts in found.items()
    }


def contamination_note(name: str, facts: Mapping[str, Any], n_questions: int) -> str:
    """Return what `contaminated` found for a task as a sentence."""
    where = ", ".join(f"{n:,} of '{domain}'" for domain, n in facts["documents"].items())
    return (
        f"{name}: the answers of {facts['n_questions']:,} of {n_questions:,} questions occur in training documents "
        f"({where}), such as that of {facts['example']}"
    )
