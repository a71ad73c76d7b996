"""Twelve ways in which a shard can be broken, times every reader: a sentence that names the file, or within the budget.

What no reader can notice in a source, because nothing vouches for its bytes: a letter that became another one; a text
file that ends early; JSON lines or CSV that end after a whole record; a byte in a body of a tar archive or on a page of
a parquet file (both have no checksum there); fewer shards, or more of them, than there used to be behind a folder or a
glob. A prepared folder has a hash of every byte, so all of that is noticed there.
"""

import io
import json
import os
import random
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from data.config import SourceConfig
from data.preparation.sources import documents
from data.readers.budget import BadDocuments
from data.readers.paths import SUFFIXES, find_files
from data.store.tokens import (
    SPLITS,
    Manifest,
    TokenReader,
    open_manifest,
    token_dtype,
    verify,
    write_manifest,
    write_split,
)
from mixlaw.errors import DataError

TEXTS = [f'Document {i} says "yes", and é, and then {"word " * (i % 5)}' * 10 for i in range(40)]
READERS = {"webdataset": ".tar", "jsonl": ".jsonl", "csv": ".csv", "parquet": ".parquet", "text": ".txt"}
Damage = Callable[[Path, int], object]

# datasets leaves files to the collector where it fails
pytestmark = [pytest.mark.timeout(60), pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")]


def tar_of(members: list[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def members_of(texts: list[bytes]) -> list[tuple[str, bytes]]:
    return [
        (f"k{i:02d}.{suffix}", raw) for i, text in enumerate(texts) for suffix, raw in (("cls", b"1"), ("txt", text))
    ]


def content(reader: str, texts: list[bytes]) -> bytes:
    """Return a file of a reader's kind that holds some texts, which need not be UTF-8."""
    if reader == "webdataset":
        return tar_of(members_of(texts))
    if reader == "jsonl":
        return b"".join(b'{"text": "%s", "n": 1}\n' % text.replace(b'"', b'\\"') for text in texts)
    if reader == "csv":
        return b"".join([b"text,n\n", *(b'"%s",1\n' % text.replace(b'"', b'""') for text in texts)])
    if reader == "parquet":
        stream = io.BytesIO()
        column = pyarrow.array(texts, pyarrow.binary()).view(pyarrow.string())
        parquet.write_table(pyarrow.table({"text": column, "n": [1] * len(texts)}), stream)
        return stream.getvalue()
    return texts[0]


def write(reader: str, folder: Path, texts: list[str] | None = None) -> Path:
    path = folder / f"shard{READERS[reader]}"
    path.write_bytes(content(reader, [text.encode() for text in texts or TEXTS]))
    return path


def read(reader: str, path: Path, bad: BadDocuments | None = None) -> list[str]:
    source = SourceConfig(reader, path=str(path))
    return list(documents(source, find_files(source, "data.domains.x"), bad or BadDocuments()))


def assert_refused(reader: str, path: Path, name: str = "shard") -> str:
    """Check that reading is refused in one sentence that names the file, and return it."""
    with pytest.raises(DataError) as caught:
        read(reader, path)
    message = str(caught.value)
    assert name in message
    assert "\n" not in message
    return message


def cut(path: Path, at: int) -> None:
    os.truncate(path, at)


def zero(path: Path, at: int) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[:at] + bytes(len(raw) - at))


def flip(path: Path, at: int, bit: int = 0) -> None:
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1 << bit
    path.write_bytes(raw)


@pytest.mark.parametrize("reader", READERS)
def test_a_whole_shard_is_read(tmp_path: Path, reader: str) -> None:
    """Without this, a refusal of all files would pass for care."""
    assert read(reader, write(reader, tmp_path)) == (TEXTS[:1] if reader == "text" else TEXTS)


@pytest.mark.parametrize("reader", READERS)
def test_reading_asks_nobody_on_the_network(tmp_path: Path, reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a closed network every question costs seconds, for every file."""
    asked: list[object] = []
    monkeypatch.setattr("socket.getaddrinfo", lambda host, *rest, **more: asked.append(host) or [])
    read(reader, write(reader, tmp_path))
    assert asked == []


@pytest.mark.parametrize("reader", ["webdataset", "jsonl", "csv", "parquet"])
def test_truncated(tmp_path: Path, reader: str) -> None:
    path = write(reader, tmp_path)
    cut(path, path.stat().st_size // 2)
    assert_refused(reader, path)


def test_a_text_cut_inside_a_character(tmp_path: Path) -> None:
    path = write("text", tmp_path)
    cut(path, path.read_bytes().index("é".encode()) + 1)
    assert "not UTF-8" in assert_refused("text", path)


@pytest.mark.parametrize("reader", READERS)
def test_zero_filled(tmp_path: Path, reader: str) -> None:
    path = write(reader, tmp_path)
    zero(path, path.stat().st_size // 2)
    assert_refused(reader, path)


@pytest.mark.parametrize("suffix", ["txt", "json"])
def test_zeros_in_a_body(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "shard.tar"
    path.write_bytes(tar_of([(f"k0.{suffix}", b"ok" + bytes(600))]))
    assert f"k0.{suffix}: a part of it was overwritten by zeros" in assert_refused("webdataset", path)


@pytest.mark.parametrize(
    ("reader", "at", "named"),
    [
        ("webdataset", 1024 + 1, "'k00.cls'"),  # the header after k00.cls
        ("jsonl", 2, "record 1: 'text' is empty"),
        ("csv", 0, "no column 'text'"),
        ("parquet", -1, "magic bytes"),
        ("parquet", -6, ""),  # the length of its footer
    ],
)
def test_a_flipped_bit_in_a_header(tmp_path: Path, reader: str, at: int, named: str) -> None:
    path = write(reader, tmp_path)
    flip(path, at)
    assert named in assert_refused(reader, path)


@pytest.mark.parametrize("reader", ["webdataset", "jsonl", "csv", "text"])
def test_a_flipped_bit_in_a_body(tmp_path: Path, reader: str) -> None:
    """The top bit of a letter makes it no UTF-8; a lower one makes another letter of it, which nobody can notice."""
    path = write(reader, tmp_path, ["The quick brown fox"])
    at = path.read_bytes().index(b"quick")
    flip(path, at)
    assert read(reader, path) == ["The puick brown fox"]
    flip(path, at, 7)
    assert "not UTF-8" in assert_refused(reader, path)


@pytest.mark.parametrize("reader", READERS)
def test_wrong_suffix(tmp_path: Path, reader: str) -> None:
    write(reader, tmp_path).rename(tmp_path / "shard.part")
    message = assert_refused(reader, tmp_path, str(tmp_path))
    assert all(suffix in message for suffix in SUFFIXES[reader])


def test_wrong_suffix_of_a_member(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    path.write_bytes(tar_of([("k0.txt", b"a"), ("k1.text", b"b")]))
    assert ": k1: no .txt or .json" in assert_refused("webdataset", path)


def test_key_order(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    path.write_bytes(tar_of([("k0.txt", b"a"), ("k1.txt", b"b"), ("k0.cls", b"1")]))
    assert "'k0.cls': sample 'k0' occurs twice" in assert_refused("webdataset", path)


def test_duplicate_key(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    path.write_bytes(tar_of([("k0.txt", b"a"), ("k0.txt", b"b")]))
    assert "'k0.txt': this member occurs twice" in assert_refused("webdataset", path)
    path = tmp_path / "shard.jsonl"
    path.write_text('{"text": "a", "text": "b"}\n')
    assert "specified twice" in assert_refused("jsonl", path)


@pytest.mark.parametrize("reader", ["webdataset", "csv", "parquet"])
def test_no_bytes(tmp_path: Path, reader: str) -> None:
    """No bytes are right for JSON lines (no record) and text (nothing, which the cleaning drops)."""
    path = write(reader, tmp_path)
    cut(path, 0)
    assert_refused(reader, path)


def test_an_empty_tar(tmp_path: Path) -> None:
    (tmp_path / "shard.tar").write_bytes(tar_of([]))
    assert "contains no sample" in assert_refused("webdataset", tmp_path)


@pytest.mark.parametrize("reader", READERS)
def test_missing(tmp_path: Path, reader: str) -> None:
    """Both before the files are looked for and between that and reading them."""
    path = write(reader, tmp_path)
    path.unlink()
    assert_refused(reader, path)
    with pytest.raises(DataError, match="shard"):
        list(documents(SourceConfig(reader, path=str(path)), [path], BadDocuments()))


@pytest.mark.parametrize("reader", READERS)
def test_an_extra_shard_of_another_kind(tmp_path: Path, reader: str) -> None:
    """A picture that lies among the shards under their suffix."""
    write(reader, tmp_path)
    (tmp_path / f"z-extra{READERS[reader]}").write_bytes(b"\xff\xd8\xff\xe0" * 3000)
    assert_refused(reader, tmp_path, "z-extra")


UNREADABLE = {"folder": Path.mkdir, "pipe": os.mkfifo, "broken link": lambda path: path.symlink_to("gone")}


@pytest.mark.parametrize("place", UNREADABLE.values(), ids=UNREADABLE)
@pytest.mark.parametrize("reader", READERS)
def test_unreadable(tmp_path: Path, reader: str, place: Callable[[Path], None]) -> None:
    """Whether the path, its folder or a glob is given, beside a shard that can be read."""
    path = tmp_path / f"shard{READERS[reader]}"
    place(path)
    assert_refused(reader, path)
    (tmp_path / f"a{READERS[reader]}").write_bytes(content(reader, [b"text"]))
    assert_refused(reader, tmp_path)
    assert_refused(reader, tmp_path / f"*{READERS[reader]}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("reader", READERS)
def test_forbidden(tmp_path: Path, reader: str) -> None:
    path = write(reader, tmp_path)
    path.chmod(0)
    assert_refused(reader, path)


@pytest.mark.parametrize("reader", ["webdataset", "jsonl", "csv"])
def test_undecodable_texts_are_named_and_counted_within_the_budget(tmp_path: Path, reader: str) -> None:
    path = tmp_path / f"shard{READERS[reader]}"
    path.write_bytes(content(reader, [b"one", b"caf\xe9", b"two", b"\xff\xfe"]))
    place = "k01.txt" if reader == "webdataset" else "record 2"
    assert place in assert_refused(reader, path)
    bad = BadDocuments(budget=2)
    assert read(reader, path, bad) == ["one", "two"]
    assert bad.count == 2
    with pytest.raises(DataError, match=r"bad documents so far: 2, allowed: 1"):
        read(reader, path, BadDocuments(budget=1))


def test_an_undecodable_text_file_is_counted_within_the_budget(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one")
    (tmp_path / "shard.txt").write_bytes(b"caf\xe9")
    bad = BadDocuments(budget=1)
    assert read("text", tmp_path, bad) == ["one"]
    assert bad.count == 1
    assert_refused("text", tmp_path)


def test_an_undecodable_text_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "shard.parquet"
    path.write_bytes(content("parquet", [b"one", b"caf\xe9"]))
    assert "record 2: not UTF-8" in assert_refused("parquet", path)


@pytest.mark.parametrize("raw", [b"{", b"[1]", b'{"text": 3}', b'{"n": 1}', b"caf\xe9", b"[" * 100_000])
def test_a_damaged_json_member(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "shard.tar"
    path.write_bytes(tar_of([("k0.json", json.dumps({"caption": "fine"}).encode()), ("k1.json", raw)]))
    assert "k1.json" in assert_refused("webdataset", path)


# The prepared folder


def prepared(folder: Path) -> Manifest:
    text = np.arange(3000)
    splits = {s: write_split(folder / "web", s, np.split(text, 30), token_dtype(5000), 1000) for s in SPLITS}
    write_manifest(folder, {"tokenizer": {"vocab_size": 5000}, "domains": {"web": {"role": "train", "splits": splits}}})
    return open_manifest(folder)


def assert_noticed(folder: Path, name: str) -> None:
    """Check that opening, or at the latest the comparison of hashes, names the file."""
    with pytest.raises(DataError, match=name) as caught:
        verify(open_manifest(folder))
    assert "\n" not in str(caught.value)


def instead(place: Callable[[Path], object]) -> Damage:
    """Put something else in a file's place."""
    return lambda path, at: (path.unlink(), place(path))


DAMAGES: dict[str, Damage] = {
    "cut": cut,
    "zero": zero,
    "flip": flip,
    "empty": lambda path, at: cut(path, 0),
    "missing": lambda path, at: path.unlink(),
    **{name: instead(place) for name, place in UNREADABLE.items()},
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("name", ["web/train-00001.tokens", "web/eval-00000.starts", "manifest.json"])
def test_a_prepared_folder_vouches_for_every_file(tmp_path: Path, name: str, damage: Damage) -> None:
    prepared(tmp_path)
    damage(tmp_path / name, 39)
    assert_noticed(tmp_path, "holds no prepared data" if not (tmp_path / name).is_file() and "/" not in name else name)


def test_shards_in_another_order_are_noticed(tmp_path: Path) -> None:
    prepared(tmp_path)
    first, second = (tmp_path / f"web/train-0000{i}.tokens" for i in (0, 1))
    second.write_bytes(first.read_bytes())
    assert_noticed(tmp_path, "train-00001.tokens")


def test_an_extra_shard_in_a_prepared_folder_is_never_read(tmp_path: Path) -> None:
    manifest = prepared(tmp_path)
    (tmp_path / "web" / "train-00003.tokens").write_bytes(bytes(2000))
    verify(open_manifest(tmp_path))
    assert TokenReader(manifest, "web", "train").n_tokens == 3000


def is_beginning(found: list[str], expected: list[str]) -> bool:
    """Say whether some texts are the first ones of others, the last perhaps cut."""
    if not found:
        return True
    *whole, last = found
    return whole == expected[: len(whole)] and expected[len(whole)].startswith(last)


def may_pass(reader: str, damage: Damage, found: list[str], expected: list[str]) -> bool:
    """Say whether what was read without an error is what nobody could have noticed."""
    if damage is flip:
        return reader != "webdataset" or sum(a != b for a, b in zip(found, expected, strict=True)) <= 1
    if damage is zero and reader in ("webdataset", "text"):  # only zeros changed, or too few for a lost write
        return is_beginning([text.rstrip("\0") for text in found], expected)
    return reader != "parquet" and is_beginning(found, expected)


@pytest.mark.crash
@pytest.mark.parametrize("damage", [cut, zero, flip])
@pytest.mark.parametrize("reader", READERS)
def test_damage_at_any_place_is_named_or_could_not_be_noticed(tmp_path: Path, reader: str, damage: Damage) -> None:
    path = write(reader, tmp_path)
    whole, expected = path.read_bytes(), read(reader, path)
    places = random.Random(zlib.crc32(reader.encode()))
    n_noticed = 0
    for _ in range(20):
        path.write_bytes(whole)
        damage(path, places.randrange(1, len(whole)))
        try:
            found = read(reader, path)
        except DataError as error:
            n_noticed += "shard" in str(error)
            continue
        assert may_pass(reader, damage, found, expected)
        n_noticed += 1
    assert n_noticed == 20


@pytest.mark.crash
@pytest.mark.parametrize("damage", [cut, zero, flip])
@pytest.mark.parametrize("name", ["web/train-00001.tokens", "web/eval-00000.starts", "manifest.json"])
def test_damage_at_any_place_of_a_prepared_folder_is_noticed(tmp_path: Path, name: str, damage: Damage) -> None:
    prepared(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    places = random.Random(zlib.crc32(name.encode()))
    for _ in range(20):
        path.write_bytes(whole)
        damage(path, places.randrange(len(whole) - 8))
        if path.read_bytes() != whole:
            assert_noticed(tmp_path, name)
