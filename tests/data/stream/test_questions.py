"""Sequences of tasks: whole answers, contexts that are cut from the left, and what they cost."""

import numpy as np
import pytest

from data.prepare import prepare
from data.store.questions import read_choices
from data.store.tokens import Manifest
from data.stream.items import IGNORED, Layout
from data.stream.questions import check_tasks, task_facts, task_set
from mixlaw.errors import ConfigError, DataError
from tests.data.preparation.test_tasks import quiet, with_tasks, write_task

SEQ_LEN = 12


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Return data with a task of 30 questions, whose contexts have 0 to 29 bytes and whose answers 1 to 6."""
    root = tmp_path_factory.mktemp("tasks")
    rows = [{"context": "q" * i, "choices": ["a" * (1 + i % 5), "bb", "c"], "answer": i % 3} for i in range(30)]
    return prepare(with_tasks(root, numbers=write_task(root / "numbers.jsonl", rows)), quiet)


@pytest.mark.parametrize("batch_size", [1, 7, 1000])
def test_sequences_hold_the_whole_answer_behind_as_much_context_as_fits(manifest: Manifest, batch_size: int) -> None:
    task = task_set(manifest, "numbers", Layout(SEQ_LEN), 0, batch_size)
    choices, reader = task.choices, read_choices(manifest, "numbers")[1]
    rows = [
        (row.tolist(), int(first))
        for batch in task.batches
        for row, first in zip(batch["tokens"], batch["answer"], strict=True)
    ]
    assert len(rows) == len(choices.question) == 90
    for i, (row, first) in enumerate(rows):
        n = int(choices.stop[i] - choices.start[i])
        whole = reader.windows(choices.start[i][None], n)[0].tolist()
        kept = whole[-(SEQ_LEN + 1) :]
        assert row == kept + [IGNORED] * (len(row) - len(kept))
        assert kept[first:] == whole[n - choices.n_tokens[i] :]
        assert first >= 1
    assert {batch["tokens"].shape[1] - 1 for batch in task.batches} <= {3, 6, 9, 12}


@pytest.mark.parametrize(("most", "batch_size"), [(0, 7), (10, 4), (1, 90), (1000, 1)])
def test_costs_are_those_of_the_sequences(manifest: Manifest, most: int, batch_size: int) -> None:
    layout = Layout(SEQ_LEN)
    task = task_set(manifest, "numbers", layout, most, batch_size)
    n = min(most or 30, 30)
    lengths = task.choices.stop - task.choices.start
    assert task_facts(manifest, layout, most, batch_size) == {
        "numbers": {
            "n_questions": n,
            "n_sequences": 3 * n,
            "n_contexts_cut": int((lengths > SEQ_LEN + 1).sum()),
            "n_tokens": sum(batch["tokens"][:, 1:].numel() for batch in task.batches),
            "chance": pytest.approx(1 / 3, abs=1e-6),
        }
    }


def test_some_questions_are_evenly_spaced_with_all_their_choices(manifest: Manifest) -> None:
    choices = task_set(manifest, "numbers", Layout(SEQ_LEN), 3, 8).choices
    assert np.unique(choices.question, return_counts=True)[0].tolist() == [0, 10, 20]
    assert len(choices.question) == 9


def test_an_answer_that_is_longer_than_a_sequence_is_refused(manifest: Manifest) -> None:
    check_tasks(manifest, Layout(6))  # the longest answer, with the space before it
    with pytest.raises(DataError, match=r"numbers\.jsonl line 5: an answer has 6 tokens, and a sequence 5: raise"):
        check_tasks(manifest, Layout(5))


def test_models_of_images_are_not_measured_on_tasks(manifest: Manifest) -> None:
    with pytest.raises(ConfigError, match="'numbers' is a task, which only text models are measured on"):
        check_tasks(manifest, Layout(SEQ_LEN, "multimodal", 4))
