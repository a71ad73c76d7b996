"""A prepared folder is read as it was written, or refused by the name of the file that is wrong."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.store.tokens import Manifest, TokenReader, open_manifest, token_dtype, verify, write_manifest, write_split
from mixlaw.errors import DataError
from tests.train.tiny import write_corpus


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_corpus(tmp_path_factory.mktemp("good"), {"code": "train", "wiki": "target"}, n_tokens=4000)


@pytest.fixture
def copy(good: Manifest, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good.folder, tmp_path / "copy"))


def flip(path: Path, at: int) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=30),
    shard_tokens=st.integers(1, 100),
    wide=st.booleans(),
    data=st.data(),
)
@settings(max_examples=40)
def test_a_window_across_shards_is_a_slice_of_all_documents(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], shard_tokens: int, wide: bool, data: st.DataObject
) -> None:
    folder, vocab_size = tmp_path_factory.mktemp("split"), 100_000 if wide else 256
    text = np.random.default_rng(0).integers(0, vocab_size, sum(lengths))
    documents = np.split(text, np.cumsum(lengths)[:-1])
    entry = write_split(folder / "d", "train", documents, token_dtype(vocab_size), shard_tokens)
    facts = {"tokenizer": {"vocab_size": vocab_size}, "domains": {"d": {"splits": {"train": entry}}}}
    manifest = Manifest(folder, facts, "")
    reader = TokenReader(manifest, "d", "train")
    assert reader.n_tokens == entry["n_tokens"] == len(text)
    length = data.draw(st.integers(1, len(text)))
    starts = data.draw(st.lists(st.integers(0, len(text) - length), max_size=12))
    windows = reader.windows(np.array(starts, np.int64), length)
    assert windows.dtype == token_dtype(vocab_size)
    assert windows.tolist() == [text[start : start + length].tolist() for start in starts]
    for start in (-1, len(text) - length + 1):
        with pytest.raises(DataError, match="are not inside"):
            reader.windows(np.array([0, start]), length)


def test_the_document_index_says_where_each_document_starts(tmp_path: Path) -> None:
    documents = [np.full(n, n) for n in (3, 1, 4, 1, 5)]
    entry = write_split(tmp_path, "train", documents, token_dtype(256), shard_tokens=8)
    names = [f["name"] for f in entry["files"]]
    assert names == ["train-00000.tokens", "train-00000.starts", "train-00001.tokens", "train-00001.starts"]
    assert [np.fromfile(tmp_path / n, "<i8").tolist() for n in names[1::2]] == [[0, 3, 4], [0, 1]]
    assert (entry["n_documents"], entry["n_tokens"]) == (5, 14)


def test_a_split_without_documents_has_no_files_and_no_tokens(good: Manifest) -> None:
    assert good.n_tokens("wiki", "train") == 0
    assert TokenReader(good, "wiki", "train").n_tokens == 0
    assert (good.domains, good.targets) == (["code"], ["wiki"])


def test_an_unknown_domain_is_refused_with_its_near_match(good: Manifest) -> None:
    with pytest.raises(DataError, match="unknown domain 'cod'; did you mean 'code'"):
        good.n_tokens("cod", "train")


def test_a_folder_that_was_never_prepared_says_how_to(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no prepared data: run `python -m data.prepare`"):
        open_manifest(tmp_path)


@pytest.mark.parametrize(
    ("harm", "state"),
    [
        (lambda p: p.unlink(), "is missing"),
        (lambda p: p.write_bytes(p.read_bytes()[:-1]), "has [0-9,]+ bytes"),
        (lambda p: p.write_bytes(p.read_bytes() + b"\0"), "has [0-9,]+ bytes"),
        (lambda p: p.write_bytes(b""), "has 0 bytes"),
    ],
    ids=["missing", "cut", "longer", "empty"],
)
@pytest.mark.parametrize("name", ["code/train-00001.tokens", "wiki/eval-00000.starts"])
def test_a_file_of_another_length_is_refused_by_name(
    copy: Path, name: str, harm: Callable[[Path], object], state: str
) -> None:
    harm(copy / name)
    with pytest.raises(DataError, match=f"{name} {state}"):
        open_manifest(copy)


def test_every_flipped_byte_of_a_shard_is_found_by_its_hash(copy: Path) -> None:
    manifest = open_manifest(copy)
    verify(manifest)
    for path in sorted(copy.glob("*/*")):
        flip(path, path.stat().st_size // 2)
        with pytest.raises(DataError, match=f"{path.parent.name}/{path.name} is missing or differs"):
            verify(open_manifest(copy))
        flip(path, path.stat().st_size // 2)
    verify(manifest)


@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
@settings(max_examples=300)
def test_a_flipped_bit_of_the_manifest_is_refused_or_changes_nothing(
    good: Manifest, tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "flipped"
    if not folder.exists():
        shutil.copytree(good.folder, folder)
    raw = bytearray((good.folder / "manifest.json").read_bytes())
    raw[at % len(raw)] ^= 1 << bit
    (folder / "manifest.json").write_bytes(raw)
    try:
        found: object = open_manifest(folder).facts
    except DataError as error:
        found = str(error)
    assert found == good.facts or f"{folder / 'manifest.json'} is damaged" in str(found)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"domains": 3}', '{"domains": {"a": {}}}', "\xff"])
def test_what_is_not_a_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"manifest.json is damaged .*: delete"):
        open_manifest(tmp_path)


def test_a_manifest_whose_content_was_edited_is_refused(copy: Path) -> None:
    path = copy / "manifest.json"
    facts = json.loads(path.read_text())
    facts["domains"]["code"]["splits"]["train"]["n_tokens"] += 1
    path.write_text(json.dumps(facts))
    with pytest.raises(DataError, match="its content does not match its seal"):
        open_manifest(copy)
    del facts["seal"]
    path.write_text(json.dumps(facts))
    with pytest.raises(DataError, match="seal"):
        open_manifest(copy)


def test_the_hash_of_a_domain_follows_its_bytes_and_not_its_place(good: Manifest, tmp_path: Path) -> None:
    roles = {"code": "train", "wiki": "target"}
    elsewhere = write_corpus(tmp_path / "a", roles, n_tokens=4000)
    other = write_corpus(tmp_path / "b", roles, seed=1, n_tokens=4000)
    assert elsewhere.domain_sha256("code") == good.domain_sha256("code") != other.domain_sha256("code")


def test_token_ids_are_stored_in_the_smallest_type_that_holds_them() -> None:
    assert [token_dtype(n).str for n in (256, 65_536, 65_537)] == ["<u2", "<u2", "<u4"]


def test_a_manifest_survives_a_round_trip(tmp_path: Path) -> None:
    facts = {"domains": {"é": {"role": "train", "splits": {}}}, "tokenizer": {"vocab_size": 256}}
    write_manifest(tmp_path, facts)
    assert {k: v for k, v in open_manifest(tmp_path).facts.items() if k != "seal"} == facts
