"""Both tokenizers give every text back, and say exactly what they are."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data.config import TokenizerConfig
from data.tokenizers import (
    BPE_END,
    BpeTokenizer,
    ByteTokenizer,
    Tokenizer,
    batches,
    byte_symbols,
    check_tokenizer,
    load_tokenizer,
    train_bpe,
)
from mixlaw.errors import ConfigError, DataError
from tests.data.tiny import sentences

VOCAB = 320
text_with_markers = st.lists(st.text() | st.sampled_from([BPE_END, "Ā", "\x00", "\r\n", "  "])).map("".join)


def facts(tokenizer: Tokenizer) -> dict[str, Any]:
    return {"kind": tokenizer.kind, "sha256": tokenizer.sha256}


@pytest.fixture(scope="module")
def bpe() -> BpeTokenizer:
    return train_bpe(sentences("tree", 200), VOCAB)


@given(text_with_markers)
@example("")
def test_bytes_give_every_text_back(text: str) -> None:
    tokenizer = ByteTokenizer()
    ids = tokenizer.encode(text)
    assert ids.tolist() == list(text.encode())
    assert tokenizer.decode(ids) == text


@given(text=text_with_markers)
@example(text=f"a{BPE_END}b")
def test_bpe_gives_every_text_back_without_its_end_token(bpe: BpeTokenizer, text: str) -> None:
    ids = bpe.encode(text)
    assert ids.dtype == np.int64
    assert bpe.end_id not in ids
    assert bpe.decode(ids) == text


@given(texts=st.lists(text_with_markers))
def test_a_batch_is_encoded_like_its_texts(bpe: BpeTokenizer, texts: list[str]) -> None:
    for tokenizer in (bpe, ByteTokenizer()):
        assert [ids.tolist() for ids in tokenizer.encode_batch(texts)] == [tokenizer.encode(t).tolist() for t in texts]


@given(text=text_with_markers)
def test_both_are_the_same_tokenizer_in_transformers(bpe: BpeTokenizer, text: str) -> None:
    for tokenizer in (bpe, ByteTokenizer()):
        exported = tokenizer.to_transformers()
        ids = exported.encode(text, add_special_tokens=False)
        assert ids == tokenizer.encode(text).tolist()
        assert exported.eos_token_id == tokenizer.end_id
        assert exported.decode(ids) == text


def test_an_exported_tokenizer_survives_saving(bpe: BpeTokenizer, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    text = f"é tree{BPE_END} , beside\n Ā"
    for tokenizer in (bpe, ByteTokenizer()):
        tokenizer.to_transformers().save_pretrained(tmp_path / tokenizer.kind)
        loaded = AutoTokenizer.from_pretrained(tmp_path / tokenizer.kind)
        assert loaded.encode(text, add_special_tokens=False) == tokenizer.encode(text).tolist()
        assert loaded.eos_token_id == tokenizer.end_id


def test_the_vocabulary_is_exactly_as_asked(bpe: BpeTokenizer) -> None:
    assert bpe.vocab_size == VOCAB
    assert len(bpe.encode("tree stands beside the tree")) < len("tree stands beside the tree") // 2


def test_too_little_text_for_the_vocabulary_is_refused() -> None:
    with pytest.raises(DataError, match=r"vocab_size: the documents give only \d+ symbols, not 5000"):
        train_bpe(["a few words"], 5000)


@pytest.mark.parametrize(("kind", "size"), [("bytes", 1024), ("bpe", 256)])
def test_a_vocabulary_that_the_kind_cannot_have_is_refused(kind: str, size: int) -> None:
    with pytest.raises(ConfigError, match=r"data\.tokenizer\.vocab_size is"):
        check_tokenizer(TokenizerConfig(kind, size))


def test_learning_again_in_another_process_gives_the_same_file(bpe: BpeTokenizer) -> None:
    code = (
        "from data.tokenizers import train_bpe; from tests.data.tiny import sentences;"
        f"print(train_bpe(sentences('tree', 200), {VOCAB}).sha256)"
    )
    env = os.environ | {"PYTHONHASHSEED": "7", "TOKENIZERS_PARALLELISM": "true"}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert result.stdout.strip() == bpe.sha256


def test_a_saved_tokenizer_comes_back(bpe: BpeTokenizer, tmp_path: Path) -> None:
    bpe.save(tmp_path)
    loaded = load_tokenizer(tmp_path, facts(bpe))
    assert loaded.sha256 == bpe.sha256
    assert loaded.encode(f"a tree{BPE_END}").tolist() == bpe.encode(f"a tree{BPE_END}").tolist()
    assert load_tokenizer(tmp_path, facts(ByteTokenizer())).sha256 == ByteTokenizer.sha256


@pytest.mark.parametrize("damage", ["missing", "cut", "changed", "binary"])
def test_a_damaged_tokenizer_file_is_refused_by_name(bpe: BpeTokenizer, tmp_path: Path, damage: str) -> None:
    bpe.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    raw = path.read_bytes()
    path.unlink()
    changed = {"cut": raw[:100], "changed": raw.replace(b"BPE", b"BPF"), "binary": b"\xff" + raw}
    if damage != "missing":
        path.write_bytes(changed[damage])
    with pytest.raises(DataError, match=r"tokenizer\.json"):
        load_tokenizer(tmp_path, facts(bpe))


def test_the_byte_symbols_are_those_of_byte_level_bpe() -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    assert sorted(byte_symbols()) == sorted(ByteLevel.alphabet())
    assert len(set(byte_symbols())) == 256


@given(st.lists(st.text()))
def test_batches_hold_every_text_in_order(texts: list[str]) -> None:
    assert [text for batch in batches(texts) for text in batch] == texts
