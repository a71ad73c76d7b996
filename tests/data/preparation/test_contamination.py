"""Answers are found in documents wherever they stand, and nothing else is found."""

from unittest.mock import patch

from hypothesis import given
from hypothesis import strategies as st

from data.preparation import contamination
from data.preparation.contamination import LEAST, Answers, contaminated
from data.preparation.tasks import Task
from data.readers.questions import Choice, Question

letters = st.text("ab", min_size=LEAST - 2, max_size=LEAST + 8)


def task(*answers: str) -> Task:
    return Task(["bees.jsonl"], [(0, Question((Choice("Q:", f" {a}", i),), 0)) for i, a in enumerate(answers, 1)])


@given(st.lists(letters, min_size=1, max_size=4), st.text("ab", max_size=60), st.text("ab", max_size=60), st.booleans())
def test_found_is_what_a_search_for_each_answer_finds(answers: list[str], before: str, after: str, hold: bool) -> None:
    document = (before + (answers[0] if hold else "") + after).encode()
    expected = {("t", i) for i, a in enumerate(answers) if len(a) >= LEAST and a.encode() in document}
    with patch.object(contamination, "CHUNK", 24):  # documents are several chunks, and answers lie across them
        assert Answers({"t": task(*answers)}).within(document) == expected


def test_documents_are_counted_by_domain_and_answers_once() -> None:
    answer = "a bee that makes honey from the flowers of the lime"
    documents = [("web", b"x"), ("web", f"It is {answer}.".encode()), ("books", answer.encode() * 2), ("web", b"")]
    found = contaminated({"bees": task("short", answer), "wasps": task("other " * 9)}, documents)
    assert found == {"bees": {"n_questions": 1, "documents": {"web": 1, "books": 1}, "example": "bees.jsonl line 2"}}


def test_answers_are_compared_in_the_form_of_clean_documents() -> None:
    answer = "a bee  \r\nthat makes honey\x07 from the flowers of the lime"
    clean = b"a bee\nthat makes honey from the flowers of the lime"
    assert Answers({"bees": task(answer)}).within(b"They say: " + clean) == {("bees", 0)}
