"""Files that are tokenised already, and tokenizers of others."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.config import SourceConfig, TokenizerConfig
from data.prepare import compose_config, main, prepare
from data.shards import TokenReader
from data.sources import check_source
from data.token_files import token_documents
from data.tokenize import load_pretrained, load_tokenizer
from mixlaw.errors import ConfigError, DataError

GIVEN = TokenizerConfig("given", vocab_size=1000, end_id=7)


def source(path: Path, dtype: str = "uint16") -> SourceConfig:
    return SourceConfig("tokens", path=str(path), dtype=dtype)


def ids_of(path: Path, dtype: str = "uint16") -> list[list[int]]:
    return [np.frombuffer(raw, "<u4").tolist() for raw in token_documents(path, source(path, dtype), GIVEN)]


@given(
    documents=st.lists(st.lists(st.integers(8, 999), min_size=1, max_size=9), min_size=1, max_size=9),
    dtype=st.sampled_from(["uint16", "uint32"]),
    closed=st.booleans(),
)
@settings(max_examples=40)
def test_documents_are_what_lies_between_end_tokens(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], dtype: str, closed: bool
) -> None:
    path = tmp_path_factory.mktemp("tokens") / "a.bin"
    flat = [i for document in documents for i in [*document, 7]]
    np.array(flat if closed else flat[:-1], f"<u{2 if dtype == 'uint16' else 4}").tofile(path)
    assert ids_of(path, dtype) == documents


def test_ids_that_the_tokenizer_lacks_are_refused_by_place(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    np.array([8, 9, 7, 10, 1000, 7], "<u2").tofile(path)
    with pytest.raises(DataError, match=rf"{path}: token 4 is 1000, but data\.tokenizer\.vocab_size is 1000"):
        ids_of(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="which are no whole tokens"):
        ids_of(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="which are no whole tokens"):
        ids_of(path)


def test_a_folder_of_token_files_is_prepared(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    documents = [rng.integers(8, 1000, 40) for _ in range(100)]
    documents[1] = documents[0]  # read twice, kept once
    for part in range(2):
        flat = np.concatenate([np.append(d, 7) for d in documents[part::2]])
        flat.astype("<u2").tofile(tmp_path / f"part-{part}.bin")
    overrides = [
        f"data={'synthetic'}", "~data.domains.plain", "~data.domains.easy", "~data.domains.rich",
        "~data.domains.noisy", "~data.targets.other", "data.name=mine", f"data.root={tmp_path}",
        f"+data.domains.web={{reader:tokens,path:{tmp_path},dtype:uint16}}",
        "data.tokenizer.kind=given", "data.tokenizer.vocab_size=1000", "data.tokenizer.end_id=7",
        "data.eval_percent=20",
    ]  # fmt: skip
    manifest = prepare(compose_config(overrides), lambda line: None)
    counts = manifest.entry("web")["counts"]
    assert (counts["n_read"], counts["n_duplicate"], counts["n_documents"]) == (100, 1, 99)
    reader = TokenReader(manifest, "web", "train")
    ids = reader.windows(np.array([0]), reader.n_tokens)[0]
    ends = np.flatnonzero(ids == 7)
    starts = np.append(0, ends[:-1] + 1)
    known = {tuple(d.tolist()) for d in documents}
    assert {tuple(ids[a:b].tolist()) for a, b in zip(starts, ends, strict=True)} <= known
    tokenizer = load_tokenizer(manifest.folder, manifest.facts["tokenizer"])
    assert tokenizer.decode([8, 9]) == "8 9"
    with pytest.raises(DataError, match="tokenised elsewhere"):
        tokenizer.encode("text")
    with pytest.raises(DataError, match="tokenised elsewhere"):
        tokenizer.to_transformers()


def test_settings_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs data\.tokenizer\.kind=given"):
        check_source(source(tmp_path), "data.domains.x", TokenizerConfig())
    with pytest.raises(ConfigError, match=r"x\.dtype is 'int8'"):
        check_source(source(tmp_path, "int8"), "data.domains.x", GIVEN)
    with pytest.raises(ConfigError, match="is for the reader 'tokens' only"):
        check_source(SourceConfig("text", path="p"), "data.domains.x", GIVEN)
    with pytest.raises(ConfigError, match=r"x\.dtype: the reader 'text' does not use it; it uses path, text_key"):
        check_source(SourceConfig("text", path="p", dtype="uint16"), "data.domains.x", TokenizerConfig())
    assert main(["data.tokenizer.kind=given", "data.tokenizer.end_id=300"]) == 2
    assert main(["data.tokenizer.kind=pretrained"]) == 2


def post_processors() -> dict[str, Any]:
    """Return every kind of post-processor that adds special tokens, and one that adds none."""
    from tokenizers import processors

    template = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 0)]
    )
    first = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])  # as Llama's
    plain = processors.ByteLevel(trim_offsets=True)  # as GPT-2's
    return {
        "template": template,
        "bos only": first,
        "sequence": processors.Sequence([plain, first]),  # as Llama 3's
        "roberta": processors.RobertaProcessing(("</s>", 0), ("<s>", 1)),
        "bert": processors.BertProcessing(("</s>", 0), ("<s>", 1)),
        "plain": plain,
        "none": None,
    }


def save_tokenizer(
    folder: Path, end: str = "<|endoftext|>", processor: Any = None, cut: int = 0, pad: int = 0, **facts: Any
) -> None:
    """Write somebody else's tokenizer.

    Parameters
    ----------
    processor : what adds special tokens
    cut, pad : tokens to which texts are cut or filled up, as `tokenizer.json` files come where that was on
    facts : of tokenizer_config.json
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [end, "<s>"] if processor else [end]
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(["the cat and the dog and the cat"] * 20, trainer)
    if processor:
        backend.post_processor = processor
        facts |= {"bos_token": "<s>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=end, **facts).save_pretrained(folder)
    if cut:
        backend.enable_truncation(cut)
    if pad:
        backend.enable_padding(length=pad)
    backend.save(str(folder / "tokenizer.json"))


def test_a_tokenizer_of_others_is_used_and_kept(tmp_path: Path) -> None:
    save_tokenizer(tmp_path / "theirs")
    tokenizer = load_pretrained(str(tmp_path / "theirs"))
    small = [f"data.domains.{d}.markov.n_documents=60" for d in ("plain", "easy", "rich", "noisy")]
    settings = ["data.targets.other.markov.n_documents=60", "data.tokenizer.kind=pretrained", f"data.root={tmp_path}"]
    config = compose_config(["data=synthetic", *small, *settings, f"data.tokenizer.path={tmp_path / 'theirs'}"])
    manifest = prepare(config, lambda line: None)
    again = load_tokenizer(manifest.folder, manifest.facts["tokenizer"])
    assert (again.sha256, again.end_id, again.vocab_size) == (tokenizer.sha256, tokenizer.end_id, tokenizer.vocab_size)
    assert manifest.vocab_size == tokenizer.vocab_size
    text = "the cat <|endoftext|> and the dog"
    assert again.decode(again.encode(text)) == text
    assert again.end_id not in again.encode(text)  # in a text it is text
    assert len(again.encode("the cat")) < len("the cat")


@pytest.mark.parametrize(("cut", "pad"), [(4, 0), (0, 64), (4, 64)])
def test_a_tokenizer_that_cuts_or_fills_up_encodes_whole_texts(tmp_path: Path, cut: int, pad: int) -> None:
    from transformers import AutoTokenizer

    save_tokenizer(tmp_path / "plain")
    save_tokenizer(tmp_path / "theirs", cut=cut, pad=pad)
    texts = ["the cat and the dog " * 20, "a"]
    plain, theirs = (load_pretrained(str(tmp_path / name)) for name in ("plain", "theirs"))
    expected = [ids.tolist() for ids in plain.encode_batch(texts)]
    assert len(expected[0]) > 64
    assert [ids.tolist() for ids in theirs.encode_batch(texts)] == expected
    assert [theirs.encode(text).tolist() for text in texts] == expected
    theirs.save(tmp_path)
    kept = json.loads((tmp_path / "tokenizer.json").read_text())
    assert kept["truncation"] is kept["padding"] is None
    theirs.to_transformers().save_pretrained(tmp_path / "exported")
    assert AutoTokenizer.from_pretrained(tmp_path / "exported")(texts)["input_ids"] == expected
    # what an earlier version kept beside its tokens
    raw = (tmp_path / "theirs" / "tokenizer.json").read_text()
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "tokenizer.json").write_text(raw)
    facts = {"kind": "pretrained", "end_id": plain.end_id, "sha256": hashlib.sha256(raw.encode()).hexdigest()}
    assert [ids.tolist() for ids in load_tokenizer(tmp_path / "kept", facts).encode_batch(texts)] == expected


@pytest.mark.parametrize("asked", [{}, {"add_bos_token": True}])
@pytest.mark.parametrize("name", post_processors())
def test_an_exported_tokenizer_adds_nothing_by_default(tmp_path: Path, name: str, asked: dict[str, bool]) -> None:
    from transformers import AutoTokenizer

    save_tokenizer(tmp_path / "theirs", "</s>", post_processors()[name], **asked)
    ours = load_pretrained(str(tmp_path / "theirs"))
    ours.to_transformers().save_pretrained(tmp_path / "exported")
    exported = AutoTokenizer.from_pretrained(tmp_path / "exported")
    for text in ("the cat", "", " a </s> b", "<s>"):
        assert exported(text)["input_ids"] == exported.encode(text) == ours.encode(text).tolist()
    assert exported(["the cat", "a dog"])["input_ids"] == [ours.encode(t).tolist() for t in ("the cat", "a dog")]
    assert exported.eos_token_id == ours.end_id
    original = AutoTokenizer.from_pretrained(tmp_path / "theirs")
    added = original("a")["input_ids"]
    assert len(ours.added_by_default()) == len(added) - 1
    assert set(ours.added_by_default()) <= set(original.convert_ids_to_tokens(added))


def test_a_tokenizer_that_is_not_there_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match=r"^data\.tokenizer\.path: ") as refused:
        load_pretrained(str(tmp_path / "nothing"))
    assert "\n" not in str(refused.value)


def test_prepared_folders_of_earlier_times_keep_their_names() -> None:
    assert compose_config([]).identity == "5cde217a03b8"
    assert compose_config(["data.tokenizer.kind=bpe", "data.tokenizer.vocab_size=1024"]).identity == "8ebcc0db1630"
