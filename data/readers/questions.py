"""Reads benchmark tasks: questions with their possible answers, from JSON lines in two formats.

    {"context": "Question: ...\\nAnswer:", "choices": ["an ant", "a bee"], "answer": 1}         a question a line
    {"request": {"context": ..., "continuation": " a bee"}, "doc_id": 0, "idx": 1, "label": 1}  OLMES: a choice a line

In the first format, our own, `answer` is the number of the right choice, from 0, or its text. A question without
`choices` has one right answer, such as a solution that a model would have to write. A space joins context and answer
unless one of them has white space there (the default `target_delimiter` of lm-evaluation-harness). Request files of
OLMES (Gu et al. 2024, arXiv:2406.08446) state contexts and continuations that are joined as they are.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.readers.records import lines, not_utf8
from mixlaw.errors import DataError

UNCONDITIONAL = 1_000_000  # OLMES: requests from this doc_id on ask for answers without their question


@dataclass(frozen=True)
class Choice:
    """A possible answer: the context, the text that follows it, and the line that states it."""

    context: str
    answer: str
    line: int


@dataclass(frozen=True)
class Question:
    """A question of a task.

    Attributes
    ----------
    choices : the possible answers; only one, the right answer, if there is nothing to choose from
    right : number of the right one
    """

    choices: tuple[Choice, ...]
    right: int

    @property
    def answer(self) -> Choice:
        """The right answer."""
        return self.choices[self.right]


@dataclass
class Requests:
    """The lines of an OLMES file that belong to one question."""

    choices: dict[int, Choice] = field(default_factory=dict)  # by `idx`
    label: Any = None


def questions_of(path: Path) -> list[Question]:
    """Return the questions of a file of JSON lines, compressed or not.

    Raises
    ------
    DataError
        If the file cannot be read; see `parse`.
    """
    return parse(lines(path), str(path))


def parse(rows: Iterable[str], where: str) -> list[Question]:
    """Return the questions in JSON lines.

    Parameters
    ----------
    where : the file, for messages

    Raises
    ------
    DataError
        With the line: no JSON object, a question without a right answer, an empty answer, or questions with and
        without choices in one file.
    """
    requests: dict[Any, Requests] = {}
    found: list[Question] = []
    for line, row in _objects(rows, where):
        place = f"{where} line {line}"
        if "request" in row:
            _add_request(requests, row, line, place)
        else:
            found.append(_question(row, line, place))
    found += [_requested(several, where) for several in requests.values()]
    if not found:
        raise DataError(f"{where} holds no question")
    refuse_mixed(found, where)
    return found


def refuse_mixed(questions: Iterable[Question], where: str) -> None:
    """Raise DataError unless all questions have choices, or none has: one task has one kind of score."""
    first: dict[bool, int] = {}
    for question in questions:
        first.setdefault(len(question.choices) > 1, question.answer.line)
    if len(first) == 2:
        raise DataError(
            f"{where} line {first[True]} has choices and line {first[False]} has one answer only: a task is scored in "
            "one unit, so make two tasks of them"
        )


def _objects(rows: Iterable[str], where: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, text in enumerate(rows, 1):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except (ValueError, RecursionError) as error:
            what = str(error).split(": line", maxsplit=1)[0]
            raise DataError(f"{where} line {line} is not JSON: {what}") from None
        if not isinstance(row, dict) or not_utf8(text):
            raise DataError(f"{where} line {line} is not a JSON object in UTF-8")
        yield line, row


def _question(row: Mapping[str, Any], line: int, place: str) -> Question:
    """Return the question in a line of our own format."""
    context = _text(row.get("context"), "context", place)
    answer, choices = row.get("answer"), row.get("choices")
    if choices is None:
        if not isinstance(answer, str):
            raise DataError(f"{place}: 'answer' is {_shown(answer)}; without 'choices' it is the text of the answer")
        return Question((_joined(context, answer, line, place),), 0)
    if not isinstance(choices, list) or len(choices) < 2:
        raise DataError(f"{place}: 'choices' is {_shown(choices)}, expected a list of two or more texts")
    parts = tuple(_joined(context, _text(choice, "choices", place), line, place) for choice in choices)
    return Question(parts, _right(answer, choices, place))


def _right(answer: Any, choices: list[Any], place: str) -> int:
    """Return the number of the right choice."""
    if isinstance(answer, str) and choices.count(answer) == 1:
        return choices.index(answer)
    if type(answer) is int and 0 <= answer < len(choices):
        return answer
    if answer in choices:
        raise DataError(f"{place}: 'answer' is {_shown(answer)}, the text of several choices: state its number, from 0")
    raise DataError(
        f"{place} has no right answer: 'answer' is {_shown(answer)}, neither the text of one of its {len(choices)} "
        f"choices nor a number from 0 to {len(choices) - 1}"
    )


def _joined(context: str, answer: str, line: int, place: str) -> Choice:
    """Return an answer with the space before it, unless white space is there already."""
    space = " " if context and not context[-1:].isspace() and not answer[:1].isspace() else ""
    return _choice(context, space + answer, line, place)


def _choice(context: str, answer: str, line: int, place: str) -> Choice:
    if not answer.strip():
        raise DataError(f"{place}: an answer is empty")
    return Choice(unicodedata.normalize("NFC", context), unicodedata.normalize("NFC", answer), line)


def _add_request(requests: dict[Any, Requests], row: Mapping[str, Any], line: int, place: str) -> None:
    """Add one line of an OLMES file to its question."""
    request, number = row["request"], row.get("doc_id")
    if not isinstance(request, dict) or type(number) is not int or type(row.get("idx")) is not int:
        raise DataError(f"{place}: a request needs 'request', and the numbers 'doc_id' and 'idx'")
    if number >= UNCONDITIONAL:
        return
    context, answer = (_text(request.get(key), key, place) for key in ("context", "continuation"))
    several = requests.setdefault(number, Requests(label=row.get("label")))
    if row["idx"] in several.choices:
        raise DataError(f"{place}: question {number} has choice {row['idx']} twice")
    several.choices[row["idx"]] = _choice(context, answer, line, place)


def _requested(several: Requests, where: str) -> Question:
    """Return a question of an OLMES file; one with a single continuation has no choices, whatever its label."""
    numbers = sorted(several.choices)
    choices = tuple(several.choices[number] for number in numbers)
    if len(choices) == 1 and type(several.label) is not int:
        return Question(choices, 0)
    if type(several.label) is not int or several.label not in numbers:
        raise DataError(
            f"{where} line {choices[0].line} has no right answer: 'label' is {_shown(several.label)}, which is none of "
            f"the choices {numbers}"
        )
    return Question(choices, numbers.index(several.label))


def _text(value: Any, key: str, place: str) -> str:
    if not isinstance(value, str) or re.search("[\ud800-\udfff]", value):  # JSON can state half of a character
        raise DataError(f"{place}: '{key}' is {_shown(value)}, expected a text")
    return value


def _shown(value: Any) -> str:
    return "missing" if value is None else f"{value!r:.60}"
