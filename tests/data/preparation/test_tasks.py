"""Benchmark tasks become tokens: every choice behind its context, the answer's tokens and bytes, and the right one."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from data.config import DataConfig, SourceConfig, TokenizerConfig
from data.prepare import prepare, table
from data.store.questions import BITS_PER_BYTE, read_choices, task_names
from data.store.tokens import open_manifest
from data.tokenizers import load_tokenizer
from mixlaw.errors import ConfigError, DataError
from mixlaw.tables import units
from mixlaw.tables.units import canonical_unit
from tests.data.tiny import tiny_config, write_jsonl, write_wheel

BEES = [
    {"context": "Which one makes honey?", "choices": ["an ant", "a bee"], "answer": 1},
    {"context": "Which has most legs?", "choices": ["an ant", "a spider", "a café"], "answer": "a spider"},
]
SOLUTIONS = [{"context": "def one():\n", "answer": "    return 1"}]
BPE = TokenizerConfig("bpe", vocab_size=300)


def quiet(line: str) -> None:
    """Say nothing."""


def write_task(path: Path, rows: list[dict[str, Any]]) -> SourceConfig:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return SourceConfig("tasks", path=str(path))


def save_small_tokenizer(folder: Path) -> None:
    """Write a tokenizer of single letters of ASCII, which has one token for all other letters."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    symbols = ["<end>", "<other>", *map(chr, range(32, 127)), "\n"]
    backend = Tokenizer(models.BPE({symbol: i for i, symbol in enumerate(symbols)}, [], unk_token="<other>"))
    backend.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>").save_pretrained(folder)


def with_tasks(root: Path, tokenizer: TokenizerConfig | None = None, **tasks: SourceConfig) -> DataConfig:
    """Return a configuration of two domains and some tasks."""
    return replace(tiny_config(root, 60, tokenizer), targets=tasks)


@pytest.mark.parametrize("tokenizer", [TokenizerConfig(), BPE], ids=["bytes", "bpe"])
def test_every_choice_is_tokenised_behind_its_context(tmp_path: Path, tokenizer: TokenizerConfig) -> None:
    bees = write_task(tmp_path / "bees.jsonl", BEES)
    manifest = prepare(with_tasks(tmp_path, tokenizer, bees=bees), quiet)
    tokens = load_tokenizer(manifest.folder, manifest.facts["tokenizer"])
    choices, reader = read_choices(manifest, "bees")
    assert task_names(manifest) == ["bees"]
    assert (choices.n_questions, choices.have_alternatives) == (2, True)
    assert choices.question.tolist() == [0, 0, 1, 1, 1]
    assert choices.right.tolist() == [0, 1, 0, 1, 0]
    assert choices.line.tolist() == [1, 1, 2, 2, 2]
    answers = [" an ant", " a bee", " an ant", " a spider", " a café"]
    assert choices.n_bytes.tolist() == [len(answer.encode()) for answer in answers]
    for row, answer in enumerate(answers):
        context = BEES[choices.question[row]]["context"]
        start, n = choices.start[row], int(choices.stop[row] - choices.start[row])
        [ids] = reader.windows(start[None], n)
        assert ids[0] == tokens.end_id
        assert tokens.decode(ids[1:]) == context + answer
        assert tokens.decode(ids[n - choices.n_tokens[row] :]) == answer


def test_a_token_that_spans_context_and_answer_counts_for_the_answer(tmp_path: Path) -> None:
    request = {"request": {"context": "The tr", "continuation": "ee"}, "doc_id": 0, "idx": 0, "label": None}
    manifest = prepare(with_tasks(tmp_path, BPE, spans=write_task(tmp_path / "spans.jsonl", [request])), quiet)
    tokens = load_tokenizer(manifest.folder, manifest.facts["tokenizer"])
    choices, reader = read_choices(manifest, "spans")
    assert tokens.decode(tokens.encode("The tree")[-1:]) == " tree"
    assert choices.n_tokens.tolist() == [1]
    assert choices.n_bytes.tolist() == [2]
    assert reader.windows(choices.stop - 1, 1)[0].tolist() == tokens.encode(" tree").tolist()


def test_requests_are_read_from_a_pinned_wheel(tmp_path: Path) -> None:
    rows = [
        {"request": {"context": "Which?", "continuation": text}, "doc_id": 0, "idx": i, "label": 1}
        for i, text in enumerate((" an ant", " a bee"))
    ]
    raw = gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode())
    wheel = write_wheel(tmp_path, {"bees/rc/requests.jsonl.gz": raw}, reader="task_wheel", package="suite")
    config = with_tasks(tmp_path, bees=replace(wheel, member="bees/rc/requests.jsonl.gz"))
    manifest = prepare(config, quiet)
    assert read_choices(manifest, "bees")[0].right.tolist() == [0, 1]
    [row] = [line.split() for line in table(manifest).splitlines() if line.startswith("bees ")]
    assert row[:3] == ["bees", "target", "1"]  # question, with two choices
    assert " ".join(row).endswith("suite 1.0: bees/rc/requests.jsonl.gz")
    assert manifest.entry("bees")["licence"] == "BSD"
    config = with_tasks(tmp_path, bees=replace(wheel, member="bees/mc/requests.jsonl.gz"))
    with pytest.raises(DataError, match=r"has no bees/mc/requests\.jsonl\.gz; the closest of 1 are bees/rc/requests"):
        prepare(config, quiet)


def test_the_hash_of_a_task_is_of_its_answers_too(tmp_path: Path) -> None:
    def hashed(name: str, rows: list[dict[str, Any]]) -> str:
        return prepare(with_tasks(tmp_path, bees=write_task(tmp_path / name, rows)), quiet).domain_sha256("bees")

    other = [BEES[0] | {"answer": 0}, BEES[1]]
    assert hashed("one.jsonl", BEES) == hashed("same.jsonl", BEES) != hashed("other.jsonl", other)


def test_answers_in_training_documents_are_counted_and_named(tmp_path: Path) -> None:
    long = "the stone that stands beside the tree is as old as the river"
    rows = [*BEES, {"context": "Which one?", "choices": [long, "an ant"], "answer": 0}]
    config = with_tasks(tmp_path, bees=write_task(tmp_path / "bees.jsonl", rows))
    texts = [f"{i}: they say that {long}, and that is all they say." for i in range(40)]
    config.domains["gossip"] = write_jsonl(tmp_path / "gossip.jsonl", texts)
    manifest = prepare(config, quiet)
    n = manifest.entry("gossip")["splits"]["train"]["n_documents"]
    facts = manifest.entry("bees")["questions"]["contaminated"]
    assert facts == {"n_questions": 1, "documents": {"gossip": n}, "example": f"{tmp_path / 'bees.jsonl'} line 3"}
    said = f"bees: the answers of 1 of 3 questions occur in training documents ({n} of 'gossip'), such as that of "
    assert said + f"{tmp_path / 'bees.jsonl'} line 3\n" in table(manifest)
    clean = prepare(with_tasks(tmp_path, bees=write_task(tmp_path / "bees.jsonl", rows)), quiet)
    assert "contaminated" not in clean.entry("bees")["questions"]


def test_a_damaged_table_of_choices_is_refused(tmp_path: Path) -> None:
    manifest = prepare(with_tasks(tmp_path, bees=write_task(tmp_path / "bees.jsonl", BEES)), quiet)
    path = manifest.folder / "bees/eval-00000.choices"
    path.write_bytes(path.read_bytes()[:-48])
    with pytest.raises(DataError, match="has 192 bytes, expected 240 bytes"):
        open_manifest(manifest.folder)
    with pytest.raises(DataError, match="has 4 choices for 5 documents"):
        read_choices(manifest, "bees")


def test_an_answer_that_the_tokenizer_cannot_represent_is_refused(tmp_path: Path) -> None:
    save_small_tokenizer(tmp_path / "small")
    config = with_tasks(tmp_path, TokenizerConfig("pretrained", path=str(tmp_path / "small")))
    config.targets["bees"] = write_task(tmp_path / "bees.jsonl", BEES)
    with pytest.raises(DataError, match=r"bees.jsonl line 2: the tokenizer cannot represent the answer ' a café'"):
        prepare(config, quiet)
    nul = write_task(tmp_path / "nul.jsonl", [{"context": "Q:", "answer": "a\0b"}])
    with pytest.raises(DataError, match=r"nul.jsonl line 1: its context or answer holds the end token"):
        prepare(with_tasks(tmp_path, nul=nul), quiet)


def test_tasks_are_targets_of_text_models(tmp_path: Path) -> None:
    bees = write_task(tmp_path / "bees.jsonl", BEES)
    config = tiny_config(tmp_path, 60)
    for wrong in (replace(config, domains={"bees": bees}), replace(config, targets={"bees": bees}, image_size=8)):
        with pytest.raises(ConfigError, match="bees: tasks are targets of text models"):
            prepare(wrong, quiet)


@pytest.mark.parametrize(
    ("weights", "error"),
    [
        ({"bees": 1, "wasps": 1}, "insects is a mean of tasks: unknown task 'wasps'; known: bees"),
        ({"rivers": 1}, "unknown task 'rivers'"),
        ({"bees": 0}, "task_groups.insects.bees is 0; a weight is a number above 0"),
        ({"bees": "much"}, "task_groups.insects.bees is much"),
        ({}, "names no task"),
    ],
)
def test_groups_are_of_tasks_with_weights_above_0(tmp_path: Path, weights: dict[str, Any], error: str) -> None:
    targets = {"bees": write_task(tmp_path / "bees.jsonl", BEES), **tiny_config(tmp_path, 60).targets}
    with pytest.raises(ConfigError, match=error):
        replace(tiny_config(tmp_path, 60), targets=targets, task_groups={"insects": weights})


def test_groups_change_no_prepared_folder(tmp_path: Path) -> None:
    config = with_tasks(tmp_path, bees=write_task(tmp_path / "bees.jsonl", BEES))
    assert replace(config, task_groups={"insects": {"bees": 1}}).folder == config.folder
    with pytest.raises(ConfigError, match="a domain or target has this name too"):
        replace(config, task_groups={"bees": {"bees": 1}})


def test_files_of_one_task_are_of_one_kind(tmp_path: Path) -> None:
    write_task(tmp_path / "t-1.jsonl", BEES)
    write_task(tmp_path / "t-2.jsonl", SOLUTIONS)
    config = with_tasks(tmp_path, both=SourceConfig("tasks", path=str(tmp_path / "t-*.jsonl")))
    with pytest.raises(DataError, match=r"has choices and .* has one answer only"):
        prepare(config, quiet)


@pytest.mark.parametrize("damage", [slice(0, 40), slice(20, None), slice(0, 0)], ids=["cut", "no header", "empty"])
def test_a_damaged_file_is_named(tmp_path: Path, damage: slice) -> None:
    raw = gzip.compress("".join(json.dumps(row) + "\n" for row in BEES).encode())
    path = tmp_path / "bees.jsonl.gz"
    path.write_bytes(raw[damage])
    with pytest.raises(DataError, match=r"^.*bees\.jsonl\.gz(: the reader 'tasks' cannot read it| holds no question)"):
        prepare(with_tasks(tmp_path, bees=SourceConfig("tasks", path=str(path))), quiet)


def test_the_unit_is_one_that_tables_know() -> None:
    assert canonical_unit(BITS_PER_BYTE) == units.BITS_PER_BYTE == BITS_PER_BYTE
