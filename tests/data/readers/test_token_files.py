"""Files that are tokenised already, and tokenizers of others."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from data.config import SourceConfig, TokenizerConfig
from data.preparation.sources import check_source
from data.prepare import compose_config, main, prepare
from data.readers.token_files import token_documents
from data.readers.token_headers import check_token_file
from data.store.tokens import TokenReader
from data.tokenizers import load_pretrained, load_tokenizer
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
    with pytest.raises(DataError, match="which is not a whole number of"):
        ids_of(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match="which is not a whole number of"):
        ids_of(path)


def test_a_folder_of_token_files_is_prepared(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    documents = [rng.integers(8, 1000, 40) for _ in range(100)]
    documents[1] = documents[0]  # read twice, kept once
    for part in range(2):
        flat = np.concatenate([np.append(d, 7) for d in documents[part::2]])
        flat.astype("<u2").tofile(tmp_path / f"part-{part}.bin")
    overrides = [
        "data=synthetic",
        *(f"~data.domains.{name}" for name in ("plain", "easy", "rich", "noisy")),
        "~data.targets.other",
        "data.name=mine",
        f"data.root={tmp_path}",
        f"+data.domains.web={{reader:tokens,path:{tmp_path},dtype:uint16}}",
        "data.tokenizer.kind=given",
        "data.tokenizer.vocab_size=1000",
        "data.tokenizer.end_id=7",
        "data.eval_percent=20",
    ]
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
    with pytest.raises(ConfigError, match="is for files that are tokenised already; 'text' reads text"):
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


def some_ids(n: int = 3000, least: int = 8, most: int = 1000, end: int = 7) -> np.ndarray:
    """Return ids in documents of 30, each closed by the end token."""
    ids = np.random.default_rng(0).integers(least, most, n)
    ids[29::30] = end
    return ids


def safetensors_of(ids: np.ndarray) -> bytes:
    header = json.dumps({"ids": {"dtype": "U16", "shape": [len(ids)], "data_offsets": [0, 2 * len(ids)]}}).encode()
    return len(header).to_bytes(8, "little") + header + ids.astype("<u2").tobytes()


def npy_of(ids: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, ids)
    return stream.getvalue()


def llm_c_of(ids: np.ndarray, magic: int, version: int, dtype: str) -> bytes:
    header = np.zeros(256, "<i4")
    header[:3] = magic, version, len(ids)
    return header.tobytes() + ids.astype(dtype).tobytes()


def parquet_of(ids: np.ndarray) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table({"ids": ids}), stream)
    return stream.getvalue()


def zip_of(ids: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, ids=ids)
    return stream.getvalue()


IDS = some_ids()
OTHER_FORMATS = {
    "npy": (npy_of(IDS.astype("<u2")), r"NumPy file \(\.npy\) of uint16.*astype\('uint16'\)\.tofile.*dtype: uint16"),
    "npy of int64": (npy_of(IDS), r"NumPy file \(\.npy\) of int64.*set dtype: uint32"),
    "npy of objects": (npy_of(np.array([None, 1], object)), r"NumPy file \(\.npy\) of an unknown type"),
    "llm.c": (
        llm_c_of(IDS, 20240520, 1, "<u2"),
        r"llm\.c: a header of 1,024 bytes before 3,000 ids of uint16: .*1025",
    ),
    "llm.c, llama 3": (llm_c_of(IDS, 20240801, 7, "<u4"), r"llm\.c: .* before 3,000 ids of uint32: .*dtype: uint32"),
    "safetensors": (safetensors_of(IDS), "is a safetensors file"),
    "parquet": (parquet_of(IDS), "is a parquet file"),
    "npz": (zip_of(IDS), "is a zip archive"),
    "gzip": (gzip.compress(IDS.astype("<u2").tobytes()), "is compressed with gzip"),
    "xz": (lzma.compress(IDS.astype("<u2").tobytes()), "is compressed with xz"),
    "bzip2": (bz2.compress(IDS.astype("<u2").tobytes()), "is compressed with bzip2"),
    "zstd": (pyarrow.compress(IDS.astype("<u2").tobytes(), "zstd", asbytes=True), "is compressed with zstd"),
    "Megatron's index": (b"MMIDIDX\x00\x00" + bytes(40), "the index of Megatron's data: name its .bin"),
    "text": (b"Once upon a time there was a token.\n" * 20, "holds text, not token ids: use the reader 'text'"),
}


@pytest.mark.parametrize("name", OTHER_FORMATS)
def test_a_file_of_another_format_is_named_with_what_to_do(name: str, tmp_path: Path) -> None:
    raw, sentence = OTHER_FORMATS[name]
    path = tmp_path / "a.bin"
    path.write_bytes(raw + bytes(len(raw) % 2))
    with pytest.raises(DataError, match=sentence) as refused:
        ids_of(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


WRONG_TYPES = {
    "32 as 16": ("<u4", "uint16", 1000, "every second id is 0, so the ids have 32 bits, not 16: set dtype: uint32"),
    "large ids of 32 as 16": ("<u4", "uint16", 128_000, "every second id is at most 1, so the ids have 32 bits"),
    "64 as 16": ("<i8", "uint16", 1000, "so they have 64 bits, not 16: .*set dtype: uint32"),
    "64 as 32": ("<i8", "uint32", 1000, "so they have 64 bits, not 32: .*set dtype: uint32"),
    "16 as 32": ("<u2", "uint32", 1000, "token 0 is .* as uint16 all are below it: set dtype: uint16"),
    "big-endian 16": (">u2", "uint16", 1000, "the file is big-endian"),
    "big-endian 32": (">u4", "uint32", 1000, "the file is big-endian"),
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_ids_of_another_type_are_refused_with_the_right_one(name: str, tmp_path: Path) -> None:
    written, said, most, sentence = WRONG_TYPES[name]
    path = tmp_path / "a.bin"
    some_ids(most=most).astype(written).tofile(path)
    vocab_size = 65_536 if said == "uint16" and written != ">u2" else most
    tokenizer = TokenizerConfig("given", vocab_size=vocab_size, end_id=7)
    with pytest.raises(DataError, match=sentence):
        list(token_documents(path, source(path, said), tokenizer))


@given(
    ids=st.lists(st.integers(0, 65_535), min_size=1, max_size=200).filter(lambda ids: 0 not in ids[1::2]),
    dtype=st.sampled_from(["uint16", "uint32"]),
)
@settings(max_examples=60)
def test_ids_of_the_stated_type_are_read_whatever_they_are(
    tmp_path_factory: pytest.TempPathFactory, ids: list[int], dtype: str
) -> None:
    path = tmp_path_factory.mktemp("tokens") / "a.bin"
    np.array(ids, f"<u{2 if dtype == 'uint16' else 4}").tofile(path)
    read = list(token_documents(path, source(path, dtype), TokenizerConfig("given", vocab_size=65_536, end_id=7)))
    assert [i for raw in read for i in np.frombuffer(raw, "<u4").tolist()] == [i for i in ids if i != 7]


def write_megatron(folder: Path, ids: np.ndarray, code: int, n_documents: int) -> Path:
    """Write ids with an index beside them, as Megatron's preprocess_data.py does."""
    path = folder / "corpus_text_document.bin"
    ids.tofile(path)
    counts = np.array([n_documents, n_documents + 1], "<u8").tobytes()
    path.with_suffix(".idx").write_bytes(b"MMIDIDX\x00\x00" + (1).to_bytes(8, "little") + bytes([code]) + counts)
    return path


def test_the_index_of_megatron_tells_the_type_and_the_documents(tmp_path: Path) -> None:
    path = write_megatron(tmp_path, IDS.astype("<i4"), 4, 100)
    assert len(ids_of(path, "uint32")) == 100
    with pytest.raises(
        DataError, match=r"its ids are int32 according to .*corpus_text_document\.idx: set dtype: uint32"
    ):
        ids_of(path)
    write_megatron(tmp_path, IDS.astype("<u2"), 8, 100)
    assert len(ids_of(path)) == 100
    with pytest.raises(DataError, match=r"its ids are uint16 according to .*: set dtype: uint16"):
        ids_of(path, "uint32")
    write_megatron(tmp_path, IDS[IDS != 7].astype("<u2"), 8, 100)
    with pytest.raises(DataError, match=r"has 100 documents, but the end token 7 occurs 0 times: .*--append-eod"):
        ids_of(path)


@pytest.mark.parametrize("most", [1000, 30_000, 65_000])
def test_ids_in_the_other_order_of_bytes_are_refused(tmp_path: Path, most: int) -> None:
    rng = np.random.default_rng(0)
    ids = np.minimum(rng.zipf(1.2, 30_000), most - 1).astype("<u2")
    path = tmp_path / "ids.bin"
    ids.tofile(path)
    check_token_file(path, np.dtype("<u2"), 65_536, 0)
    ids.astype(">u2").tofile(path)
    with pytest.raises(
        DataError, match=r"ids\.bin: .* so the file is big-endian: convert it, np\.fromfile\('ids\.bin', '>u2'\)"
    ):
        check_token_file(path, np.dtype("<u2"), 65_536, 0)
