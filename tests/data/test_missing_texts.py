"""Documents without a text: null, missing, no text, or not UTF-8, in every reader, plain and compressed."""

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from data.config import DataConfig, HubConfig, SourceConfig
from data.preparation.sources import documents, locate
from data.prepare import compose_config, prepare
from data.readers.budget import BadDocuments
from data.readers.files import sample_text
from mixlaw.errors import DataError

GOOD = [f"a text of some words, number {i}" for i in range(20)]
PACKINGS = {"": lambda raw: raw, ".gz": gzip.compress, ".zst": lambda raw: pyarrow.compress(raw, "zstd", asbytes=True)}
pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # datasets leaves files open


def read(source: SourceConfig, bad: BadDocuments) -> list[Any]:
    files = locate(source, "data.domains.x", Path(), lambda line: None)
    return list(documents(source, files, bad))


def lines(records: list[Any]) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


def with_bad(*bad: Any) -> list[Any]:
    """Return good records with bad ones between them."""
    return [{"text": GOOD[0]}, *bad, *({"text": text} for text in GOOD[1:])]


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("bad", [{"text": None}, {}, {"n": 3}], ids=["null", "empty record", "another name"])
def test_records_without_a_text_are_counted_within_the_budget(tmp_path: Path, packing: str, bad: Any) -> None:
    (tmp_path / f"a.jsonl{packing}").write_bytes(PACKINGS[packing](lines(with_bad(bad))))
    source, budget = SourceConfig("jsonl", path=str(tmp_path)), BadDocuments(2)
    assert read(source, budget) == GOOD
    assert budget.count == 1
    with pytest.raises(DataError, match=r"record 2: .*raise data\.bad_document_budget") as refused:
        read(source, BadDocuments(0))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_records_that_are_not_utf8_are_counted_in_compressed_files_too(tmp_path: Path, packing: str, kind: str) -> None:
    rows = [b"text", *(f'"{text}"'.encode() for text in GOOD)] if kind == "csv" else lines(with_bad())[:-1].split(b"\n")
    raw = b"\n".join([*rows[:5], rows[5].replace(b"some", b"s\xe9me"), *rows[6:], b""])
    (tmp_path / f"a.{kind}{packing}").write_bytes(PACKINGS[packing](raw))
    source, budget = SourceConfig(kind, path=str(tmp_path)), BadDocuments(1)
    bad = 4 if kind == "csv" else 5
    assert read(source, budget) == GOOD[:bad] + GOOD[bad + 1 :]
    assert budget.count == 1
    with pytest.raises(DataError, match=rf"record {bad + 1}: not UTF-8"):
        read(source, BadDocuments(0))


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_a_compressed_file_that_is_cut_is_refused_by_name(tmp_path: Path, packing: str) -> None:
    path = tmp_path / f"a.jsonl{packing}"
    path.write_bytes(PACKINGS[packing](lines([{"text": f"{text} {i}"} for i in range(500) for text in GOOD]))[:-40])
    with pytest.raises(DataError, match=rf"a\.jsonl\{packing}: the reader 'jsonl' cannot read it"):
        read(SourceConfig("jsonl", path=str(path)), BadDocuments(100))


def test_null_in_parquet_is_counted(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"text": [None, *GOOD, None]}), tmp_path / "a.parquet")
    budget = BadDocuments(2)
    assert read(SourceConfig("parquet", path=str(tmp_path)), budget) == GOOD
    assert budget.count == 2
    with pytest.raises(DataError, match=r"record 22: 'text' is empty .* bad documents so far: 2, allowed: 1"):
        read(SourceConfig("parquet", path=str(tmp_path)), BadDocuments(1))


def test_a_column_of_numbers_is_no_text(tmp_path: Path) -> None:
    parquet.write_table(pyarrow.table({"text": [1, 2, 3]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="record 3: 'text' is of type int"):
        read(SourceConfig("parquet", path=str(tmp_path)), BadDocuments(2))


def test_a_column_that_is_nowhere_is_a_mistake_whatever_the_budget(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines([{"body": text} for text in GOOD]))
    for budget in (0, 5, 1000):
        with pytest.raises(DataError):
            read(SourceConfig("jsonl", path=str(tmp_path)), BadDocuments(budget))
    with pytest.raises(DataError, match="no column 'text', it has body: set text_key"):
        read(SourceConfig("jsonl", path=str(tmp_path)), BadDocuments(1000))


def test_the_hub_counts_records_without_a_text(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(lines([*with_bad({"text": None, "n": 1}), {"text": None}]))
    source, budget = SourceConfig("hub", path=str(tmp_path), hub=HubConfig()), BadDocuments(2)
    assert read(source, budget) == GOOD
    assert budget.count == 2
    with pytest.raises(DataError, match=r"record 2: 'text' is not text; .*data\.bad_document_budget"):
        read(source, BadDocuments(0))
    with pytest.raises(DataError, match="'words' is not text; it has the columns n, text"):
        read(SourceConfig("hub", path=str(tmp_path), text_key="words"), BadDocuments(1000))


def write_tar(path: Path, samples: list[dict[str, bytes]]) -> SourceConfig:
    with tarfile.open(path, "w") as archive:
        for i, sample in enumerate(samples):
            for suffix, raw in sample.items():
                facts = tarfile.TarInfo(f"{i:04d}.{suffix}")
                facts.size = len(raw)
                archive.addfile(facts, io.BytesIO(raw))
    return SourceConfig("webdataset", path=str(path))


def test_captions_that_are_null_are_counted(tmp_path: Path) -> None:
    samples = [{"json": json.dumps({"caption": text}).encode()} for text in GOOD]
    bad = [{"json": b'{"caption": null}'}, {"json": b"{}"}, {"json": b'{"caption": 3}'}, {"jpg": b""}, {"json": b"{"}]
    source, budget = write_tar(tmp_path / "a.tar", [*bad, *samples]), BadDocuments(5)
    assert read(source, budget) == GOOD
    assert budget.count == 5
    with pytest.raises(DataError, match=r"0004\.json: is damaged .* bad documents so far: 5, allowed: 4"):
        read(source, BadDocuments(4))


def test_the_table_of_a_preparation_counts_them_as_bad(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(lines([{"text": f"{text}, part {i}"} for i in range(9) for text in GOOD]))
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(b'{"text": null}\n')
    source = SourceConfig("jsonl", path=str(tmp_path / "a.jsonl"))
    config = DataConfig("mine", str(tmp_path), {"web": source}, bad_document_budget=3, min_chars=1)
    counts = prepare(config, lambda line: None).entry("web")["counts"]
    assert (counts["n_bad"], counts["n_documents"]) == (1, 180)


BOTH = {"txt": b"alt text", "json": json.dumps({"caption": "alt", "recaption": "careful", "text": "of json"}).encode()}


@pytest.mark.parametrize(
    ("text_key", "sample", "text"),
    [
        ("", BOTH, "alt text"),
        ("recaption", BOTH, "careful"),
        ("text", BOTH, "of json"),
        ("caption", BOTH, "alt"),
        ("", {"json": BOTH["json"]}, "of json"),
        ("", {"json": b'{"text": null, "caption": "alt"}'}, "alt"),
        ("recaption", {"txt": b"alt", "json": b"{}", "recap.json": b'{"recaption": "in another"}'}, "in another"),
        ("meta.best", {"txt": b"alt", "json": b'{"meta": {"best": "inside"}}'}, "inside"),
        ("a.b", {"txt": b"alt", "json": b'{"a.b": "with a dot", "a": {"b": "inside"}}'}, "with a dot"),
    ],
)
def test_a_text_key_wins_over_txt(text_key: str, sample: dict[str, bytes], text: str) -> None:
    assert sample_text(sample, "x", text_key, BadDocuments(0)) == text


@pytest.mark.parametrize("sample", [{"txt": b"alt", "json": b'{"caption": "a"}'}, {"txt": b"alt"}, {"jpg": b""}])
def test_a_text_key_that_is_nowhere_is_a_sentence(sample: dict[str, bytes]) -> None:
    with pytest.raises(DataError, match=r"^x(\.json)?: no (text under|\.json with) 'recap' \(it has \.") as refused:
        sample_text(sample, "x", "recap", BadDocuments(0))
    assert "\n" not in str(refused.value)
    bad = BadDocuments(1)
    assert sample_text(sample, "x", "recap", bad) is None
    assert bad.count == 1


def test_shards_prepared_with_a_text_key_have_a_folder_of_their_own(tmp_path: Path) -> None:
    plain = ["data=datacomp", f"data.domains.captions.path={tmp_path}"]
    keys = [[], ["data.domains.captions.text_key=text"], ["data.domains.captions.text_key=recaption"]]
    assert len({compose_config([*plain, *key]).identity for key in keys}) == 3
    others = [["data.domains.captions.reader=jsonl", *key] for key in keys[:2]]
    assert len({compose_config([*plain, *other]).identity for other in others}) == 1
