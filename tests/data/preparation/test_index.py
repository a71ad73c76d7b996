"""Token files of other trainers are trained on where they lie: the same stream, held-out documents, and checks."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data.config import DataConfig, SourceConfig, TokenizerConfig
from data.prepare import compose_config, prepare
from data.store.formats import FORMATS
from data.store.tokens import SPLITS, Manifest, TokenReader, open_manifest, token_dtype, write_manifest, write_split
from data.store.verified import unverified, verify_touched
from data.stream.items import Layout, open_items
from data.stream.loader import WeightedStream
from data.tokenizers import load_tokenizer
from mixlaw.errors import ConfigError, DataError
from tests.data.store.formats.by_hand import END, WRITERS, write_datatrove, write_megatron, write_olmo

VOCAB = 1000
GIVEN = TokenizerConfig("given", vocab_size=VOCAB, end_id=END, name="org/neox")
Documents = list[list[int]]


def documents(n: int, seed: int = 0) -> Documents:
    """Return n different documents of 2 to 30 tokens."""
    rng = np.random.default_rng(seed)
    return [[*rng.integers(8, VOCAB, length).tolist(), END] for length in rng.integers(1, 30, n)]


def write_files(reader: str, folder: Path, written: Documents, n_files: int = 3) -> SourceConfig:
    """Write documents into several files of a format, one after the other."""
    folder.mkdir(parents=True)
    for number, part in enumerate(np.array_split(np.arange(len(written)), n_files)):
        WRITERS[reader](folder / f"part-{number:03d}", [written[i] for i in part])
    return SourceConfig(reader, path=str(folder))


def config(root: Path, **domains: SourceConfig) -> DataConfig:
    return DataConfig("mine", str(root / "cache"), domains, tokenizer=GIVEN)


def quiet(line: str) -> None:
    """Say nothing."""


def read(manifest: Manifest, domain: str, split: str) -> Documents:
    """Return the documents of a split by its boundaries."""
    reader = TokenReader(manifest, domain, split)
    bounds = reader.document_bounds()
    tokens = reader.windows(np.zeros(1, int), reader.n_tokens)[0]
    assert len(bounds) - 1 == manifest.entry(domain)["splits"][split]["n_documents"]
    return [part.tolist() for part in np.split(tokens, bounds[1:-1])]


def refusal(config: DataConfig) -> str:
    with pytest.raises((ConfigError, DataError)) as caught:
        prepare(config, quiet)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("reader", FORMATS)
def test_every_document_is_in_one_split_token_for_token(reader: str, tmp_path: Path) -> None:
    written = documents(400)
    source = write_files(reader, tmp_path / "corpus", written)
    before = {path: path.read_bytes() for path in (tmp_path / "corpus").iterdir()}
    said: list[str] = []
    manifest = prepare(config(tmp_path, web=source), said.append)
    found = {split: read(manifest, "web", split) for split in SPLITS}
    assert sorted(found["train"] + found["eval"] + found["test"]) == sorted(written)
    assert {split: len(held) for split, held in found.items()} == {"train": 360, "eval": 20, "test": 20}
    assert found["train"] == [document for document in written if document in found["train"]]
    assert f"indexed web: 3 files, 400 documents, {sum(map(len, written)):,} tokens" in said
    assert {path: path.read_bytes() for path in (tmp_path / "corpus").iterdir()} == before
    assert not list(manifest.folder.rglob("*.tokens"))
    tokenizer = load_tokenizer(manifest.folder, manifest.facts["tokenizer"])
    assert (tokenizer.kind, tokenizer.end_id, manifest.facts["tokenizer"]["name"]) == ("given", END, "org/neox")


def copied(manifest: Manifest, folder: Path) -> Manifest:
    """Return a manifest of the same splits whose tokens are copied into the prepared folder."""
    domains = {}
    for name in manifest.domains:
        splits = {
            split: write_split(
                folder / name, split, map(np.array, read(manifest, name, split)), token_dtype(VOCAB), shard_tokens=100
            )
            for split in SPLITS
        }
        domains[name] = {"role": "train", "splits": splits}
    write_manifest(folder, {"tokenizer": {"vocab_size": VOCAB}, "domains": domains})
    return open_manifest(folder)


def test_the_stream_is_that_of_a_copy(tmp_path: Path) -> None:
    sources = {
        reader: write_files(reader, tmp_path / reader, documents(300, seed), n_files=4)
        for seed, reader in enumerate(FORMATS)
    }
    indexed = prepare(config(tmp_path, **sources), quiet)
    stored = copied(indexed, tmp_path / "stored")
    weights = dict(zip(FORMATS, (0.4, 0.3, 0.15, 0.1, 0.05), strict=True))
    layout = Layout(16)
    streams = [WeightedStream(manifest, weights, layout, 20, seed=3) for manifest in (indexed, stored)]
    for step in (0, 1, 2, 57, 500):
        ours, theirs = (stream[step] for stream in streams)
        assert torch.equal(ours["tokens"], theirs["tokens"])
        assert torch.equal(ours["domain"], theirs["domain"])
    for name in sources:
        ours, theirs = (open_items(manifest, name, "eval", layout) for manifest in (indexed, stored))
        items = np.arange(ours.kinds.size)
        assert ours.documents(items).tolist() == theirs.documents(items).tolist()


def test_targets_are_measured_whole_or_split(tmp_path: Path) -> None:
    source = write_files("megatron", tmp_path / "web", documents(200))
    target = write_files("olmo", tmp_path / "wiki", written := documents(100, 1))
    both = replace(config(tmp_path, web=source), targets={"wiki": target})
    manifest = prepare(both, quiet)
    assert read(manifest, "wiki", "eval") == written
    assert manifest.n_tokens("wiki", "train") == manifest.n_tokens("wiki", "test") == 0
    split = prepare(replace(both, split_targets=True), quiet)
    assert [split.entry("wiki")["splits"][s]["n_documents"] for s in SPLITS] == [0, 5, 5]
    shared = replace(config(tmp_path, web=source), targets={"wiki": source})
    assert "is in both 'wiki' and 'web'" in refusal(shared)


def test_files_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    source = write_files("megatron", tmp_path / "web", documents(60))
    write_megatron(tmp_path / "web" / "part-999", documents(20, 1), "uint16")
    said = refusal(config(tmp_path, web=source))
    assert f"{tmp_path / 'web' / 'part-999.bin'} holds uint16 tokens" in said
    (tmp_path / "web" / "part-999.idx").unlink()
    assert f"{tmp_path / 'web' / 'part-999.idx'} is missing" in refusal(config(tmp_path, web=source))


def test_another_tokenizer_is_refused_by_name_by_end_token_and_by_ids(tmp_path: Path) -> None:
    source = write_files("datatrove", tmp_path / "web", documents(60))
    first = tmp_path / "web" / "part-000.ds"
    base = config(tmp_path, web=source)
    said = refusal(replace(base, tokenizer=replace(GIVEN, name="org/llama")))
    assert f"{first} was tokenised with 'org/neox'" in said
    assert "set data.tokenizer.name: org/neox" in said
    said = refusal(replace(base, tokenizer=replace(GIVEN, end_id=3)))
    assert f"{first}: its documents end with the token {END}, but data.tokenizer.end_id is 3" in said
    assert f"{first} holds the id" in refusal(replace(base, tokenizer=replace(GIVEN, vocab_size=900)))
    prepare(replace(base, tokenizer=replace(GIVEN, name="/models/neox/tokenizer.json")), quiet)


def test_ids_of_another_width_are_refused_where_the_file_does_not_say_its_type(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    path = write_olmo(tmp_path / "web" / "a", documents(60), "uint32", listed=False)
    said = refusal(config(tmp_path, web=SourceConfig("olmo", path=str(path))))
    assert f"{path}: every second id is 0, so the ids have 32 bits" in said
    prepare(config(tmp_path, web=SourceConfig("olmo", path=str(path), dtype="uint32")), quiet)


def test_documents_without_end_token_are_noted(tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    written = [document[:-1] for document in documents(60)]
    write_megatron(tmp_path / "web" / "a_text_document", written)
    said: list[str] = []
    prefix = SourceConfig("megatron", path=str(tmp_path / "web" / "a_text_document"))  # as Megatron names it
    manifest = prepare(config(tmp_path, web=prefix), said.append)
    assert any("none of 60 documents that were looked at ends with data.tokenizer.end_id, 7" in line for line in said)
    assert sorted(document for split in SPLITS for document in read(manifest, "web", split)) == sorted(written)


def test_settings_of_tokenised_files(tmp_path: Path) -> None:
    source = write_files("megatron", tmp_path / "web", documents(60))
    base = config(tmp_path, web=source)
    assert "reads files that are tokenised already" in refusal(replace(base, tokenizer=TokenizerConfig()))
    assert "data.tokenizer.name: missing" in refusal(replace(base, tokenizer=replace(GIVEN, name="")))
    with_images = replace(base, tokenizer=TokenizerConfig("pretrained", path="org/neox"), image_size=32)
    assert "token files hold no images" in refusal(with_images)
    assert "dtype is 'int8'" in refusal(config(tmp_path, web=replace(source, dtype="int8")))
    assert "text_key: the reader 'megatron' does not use it" in refusal(
        config(tmp_path, web=replace(source, text_key="x"))
    )
    assert "no document for its train split among 1 documents" in refusal(
        config(tmp_path, web=write_files("megatron", tmp_path / "one", documents(1), 1))
    )
    overrides = ["data=own_files", "data.name=mine", "~data.domains.books", "~data.targets.wiki"]
    overrides += [f"data.domains.web={{reader:megatron,path:{tmp_path}/web}}", f"data.root={tmp_path}/cache"]
    overrides += ["data.tokenizer={kind:given,name:org/neox,vocab_size:1000,end_id:7}"]
    assert prepare(compose_config(overrides), quiet).domains == ["web"]


def sha256_of(root: Path, source: SourceConfig, content_hash: bool = False) -> str:
    return prepare(replace(config(root, web=source), content_hash=content_hash), quiet).domain_sha256("web")


def test_the_hash_is_of_names_sizes_and_index_and_on_request_of_all_bytes(tmp_path: Path) -> None:
    source = write_files("datatrove", tmp_path / "a" / "web", documents(100))
    plain, full = sha256_of(tmp_path, source), sha256_of(tmp_path, source, content_hash=True)
    moved = SourceConfig("datatrove", path=str(shutil.copytree(tmp_path / "a" / "web", tmp_path / "b")))
    assert (sha256_of(tmp_path, moved), sha256_of(tmp_path, moved, content_hash=True)) == (plain, full)
    path = tmp_path / "b" / "part-001.ds"
    raw = bytearray(path.read_bytes())
    raw[0] ^= 1
    path.write_bytes(raw)
    other = tmp_path / "anew"  # a cache of its own
    assert sha256_of(other, moved) == plain
    assert sha256_of(other, moved, content_hash=True) != full
    write_datatrove(tmp_path / "b" / "part-003", documents(2, 5))
    assert sha256_of(tmp_path / "third", moved) != plain


def test_changed_files_are_noticed(tmp_path: Path) -> None:
    source = write_files("datatrove", tmp_path / "web", documents(100), n_files=1)
    hashed = replace(config(tmp_path, web=source), content_hash=True)
    manifest = prepare(hashed, quiet)
    assert not unverified(manifest)
    (path,) = (tmp_path / "web").glob("*.ds")
    raw = bytearray(path.read_bytes())
    raw[20:22] = b"\xff\xff"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=f"{path} is missing or differs from its manifest"):
        verify_touched(manifest)
    reader = TokenReader(manifest, "web", "train")
    with pytest.raises(DataError, match=f"{path}: there are ids from .* to 65535"):
        reader.windows(np.arange(reader.n_tokens // 8) * 8, 8)
    path.write_bytes(raw[:-2])
    with pytest.raises(DataError, match=f"{path} has .* bytes, expected"):
        TokenReader(manifest, "web", "train").windows(np.zeros(1, int), 8)
    path.unlink()
    with pytest.raises(DataError, match=f"{path} cannot be opened"):
        TokenReader(manifest, "web", "train").windows(np.zeros(1, int), 8)


def test_prepare_reports_files_that_are_new_or_touched(tmp_path: Path) -> None:
    source = write_files("megatron", tmp_path / "web", documents(100))
    prepare(config(tmp_path, web=source), quiet)
    said: list[str] = []
    prepare(config(tmp_path, web=source), said.append)
    assert said == []
    write_megatron(tmp_path / "web" / "part-999", documents(2, 5))
    os.utime(tmp_path / "web" / "part-000.bin", ns=(1, 1))
    prepare(config(tmp_path, web=source), said.append)
    assert "1 file is new" in said[0]
    assert "1 file is of the same size with another modification time" in said[0]


def test_a_damaged_list_of_files_is_refused(tmp_path: Path) -> None:
    manifest = prepare(config(tmp_path, web=write_files("megatron", tmp_path / "web", documents(100))), quiet)
    inputs = manifest.folder / "web" / "inputs.json"
    inputs.write_bytes(inputs.read_bytes().replace(b"{", b"[", 1))
    with pytest.raises(DataError, match=r"inputs\.json cannot be read"):
        TokenReader(manifest, "web", "train")


def test_text_and_token_files_share_a_pretrained_tokenizer(tmp_path: Path) -> None:
    texts = [f"A text about the number {i}, which is {i * i} squared." for i in range(300)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    tokenizer = write_tokenizer(tmp_path / "models" / "bytes")
    encoded = [[*text.encode(), 256] for text in texts]
    (tmp_path / "corpus").mkdir()
    write_datatrove(tmp_path / "corpus" / "a", encoded, tokenizer="bytes")
    both = replace(
        config(tmp_path, web=SourceConfig("datatrove", path=str(tmp_path / "corpus"))),
        targets={"own": SourceConfig("jsonl", path=str(tmp_path / "texts.jsonl"))},
        tokenizer=TokenizerConfig("pretrained", path=str(tokenizer)),
    )
    manifest = prepare(both, quiet)
    loaded = load_tokenizer(manifest.folder, manifest.facts["tokenizer"])
    assert loaded.end_id == 256
    for domain, splits in (("web", SPLITS), ("own", ("eval",))):
        found = [document for split in splits for document in read(manifest, domain, split)]
        assert sorted(loaded.decode(document[:-1]) for document in found) == sorted(texts)


def write_tokenizer(folder: Path) -> Path:
    """Write a tokenizer whose ids are bytes, with the end token 256."""
    from transformers import PreTrainedTokenizerFast

    from data.tokenizers import ByteTokenizer

    backend = ByteTokenizer().to_transformers().backend_tokenizer
    backend.add_special_tokens(["<|end|>"])
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>").save_pretrained(folder)
    return folder


def test_files_of_another_format_are_named_with_what_there_is(tmp_path: Path) -> None:
    write_files("datatrove", tmp_path / "web", documents(60))
    said = refusal(config(tmp_path, web=SourceConfig("megatron", path=str(tmp_path / "web"))))
    assert f"the folder {tmp_path / 'web'} holds no file that ends in .bin; there are 3 .ds files" in said
    (tmp_path / "mds").mkdir()
    (tmp_path / "mds" / "shard.00000.mds.zstd").touch()
    said = refusal(config(tmp_path, web=SourceConfig("mds", path=str(tmp_path / "mds"))))
    assert "holds no file that ends in .mds; there are 1 .mds.zstd files" in said
