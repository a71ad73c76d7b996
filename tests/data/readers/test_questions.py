"""Benchmark tasks are read from JSON lines in two formats; a fault is one sentence with file and line."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from data.readers.questions import Choice, Question, parse, questions_of
from mixlaw.errors import DataError

BEE = {"context": "Which one makes honey?", "choices": ["an ant", "a bee"], "answer": 1}
READ = Question(
    (Choice("Which one makes honey?", " an ant", 1), Choice("Which one makes honey?", " a bee", 1)), right=1
)


def read(*rows: Any) -> list[Question]:
    return parse([json.dumps(row) for row in rows], "bees.jsonl")


def request(doc: Any, idx: Any, continuation: str, label: Any = 1, context: str = "Which?") -> dict[str, Any]:
    """Return a line of an OLMES file."""
    asked = {"context": context, "continuation": continuation}
    return {"request_type": "loglikelihood", "request": asked, "doc_id": doc, "idx": idx, "label": label, "doc": {}}


@pytest.mark.parametrize("answer", [1, "a bee"])
def test_the_answer_is_a_number_or_a_text(answer: Any) -> None:
    assert read(BEE | {"answer": answer}) == [READ]


def test_a_question_without_choices_has_one_right_answer() -> None:
    [question] = read({"context": "def one():\n", "answer": "    return 1"})
    assert question == Question((Choice("def one():\n", "    return 1", 1),), 0)


@pytest.mark.parametrize(
    ("context", "answer", "joined"),
    [("Q:", "yes", " yes"), ("Q: ", "yes", "yes"), ("Q:", " yes", " yes"), ("Q:\n", "yes", "yes"), ("", "yes", "yes")],
)
def test_a_space_joins_context_and_answer_unless_one_is_there(context: str, answer: str, joined: str) -> None:
    [question] = read({"context": context, "answer": answer})
    assert (question.answer.context, question.answer.answer) == (context, joined)


def test_requests_of_one_question_are_collected_and_joined_as_they_are() -> None:
    rows = [request(0, 0, " an ant"), request(1, 0, "no", 0), request(0, 1, " a bee"), request(1, 1, " yes", 0)]
    assert read(*rows) == [
        Question((Choice("Which?", " an ant", 1), Choice("Which?", " a bee", 3)), 1),
        Question((Choice("Which?", "no", 2), Choice("Which?", " yes", 4)), 0),
    ]


def test_contexts_may_differ_between_choices() -> None:
    questions = read(request(0, 0, " fell", context="The cup"), request(0, 1, " fell", context="The table"))
    assert [choice.context for choice in questions[0].choices] == ["The cup", "The table"]


@pytest.mark.parametrize("label", ["18", None, ["18", "eighteen"]])
def test_a_request_whose_label_is_no_number_has_one_right_answer(label: Any) -> None:
    assert read(request(0, 0, " 18", label)) == [Question((Choice("Which?", " 18", 1),), 0)]


def test_requests_without_their_question_are_skipped() -> None:
    rows = [request(0, 0, " an ant"), request(0, 1, " a bee"), request(1_000_000, 0, " an ant")]
    assert len(read(*rows)) == 1


@pytest.mark.parametrize("name", ["bees.jsonl", "bees.jsonl.gz"])
def test_files_may_be_compressed(tmp_path: Path, name: str) -> None:
    text = f"\n{json.dumps(BEE)}\n".encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    [question] = questions_of(tmp_path / name)
    assert question.answer == Choice("Which one makes honey?", " a bee", 2)


def test_texts_are_in_the_form_of_training_texts() -> None:
    [question] = read({"context": "cafe\u0301?", "answer": "cafe\u0301"})
    assert question.answer == Choice("caf\u00e9?", " caf\u00e9", 1)


@pytest.mark.parametrize(
    ("second", "error"),
    [
        (
            BEE | {"answer": 2},
            "line 2 has no right answer: 'answer' is 2, neither the text of one of its 2 choices nor",
        ),
        (BEE | {"answer": True}, "line 2 has no right answer: 'answer' is True"),
        (BEE | {"answer": "a wasp"}, "line 2 has no right answer: 'answer' is 'a wasp'"),
        ({"context": "Which?", "choices": ["a", "b"]}, "line 2 has no right answer: 'answer' is missing"),
        ({"context": "Which?", "choices": ["a", "b"], "answer": None}, "line 2 has no right answer"),
        (BEE | {"choices": ["an ant", " "]}, "line 2: an answer is empty"),
        (BEE | {"choices": ["an ant"]}, r"line 2: 'choices' is \['an ant'\], expected a list of two or more texts"),
        (BEE | {"choices": ["an ant", 7]}, "line 2: 'choices' is 7, expected a text"),
        (BEE | {"choices": ["an ant"] * 2, "answer": "an ant"}, "line 2: 'answer' is 'an ant', the text of several"),
        (BEE | {"context": 7}, "line 2: 'context' is 7, expected a text"),
        ({"question": "Which?", "answer": "a bee"}, "line 2: 'context' is missing, expected a text"),
        (BEE | {"context": "\ud800"}, "line 2: 'context' is .*, expected a text"),
        ({"context": "Q:", "answer": 1}, "line 2: 'answer' is 1; without 'choices' it is the text of the answer"),
        ({"context": "Q:", "answer": "yes"}, "line 1 has choices and line 2 has one answer only: a task is scored in"),
        (["yes"], "line 2 is not a JSON object"),
        (request(0, 0, ""), "line 2: an answer is empty"),
        (request(0, 0, " a", 1), "line 2 has no right answer: 'label' is 1, which is none of the choices"),
        (request("0", 0, " a"), "line 2: a request needs 'request', and the numbers 'doc_id' and 'idx'"),
        ({"request": "a"}, "line 2: a request needs"),
    ],
)
def test_a_fault_is_named_with_its_line(second: Any, error: str) -> None:
    with pytest.raises(DataError, match=f"^bees.jsonl {error}"):
        read(BEE, second)


def test_files_that_hold_no_questions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^bees holds no question$"):
        parse(["", " "], "bees")
    with pytest.raises(
        DataError, match=r"^bees line 1 is not JSON: Expecting property name enclosed in double quotes$"
    ):
        parse(["{\n"], "bees")
    (tmp_path / "bees.jsonl").write_bytes(json.dumps(BEE).encode().replace(b"honey", b"h\xf6ney"))
    with pytest.raises(DataError, match=r"bees\.jsonl line 1 is not a JSON object in UTF-8"):
        questions_of(tmp_path / "bees.jsonl")
    with pytest.raises(DataError, match="line 2: question 0 has choice 0 twice"):
        read(request(0, 0, " a", 0), request(0, 0, " b", 0))
