"""Datasets of the hub, read from local folders in the layouts that the shipped configurations name."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from data.config import HubConfig, SourceConfig
from data.preparation.sources import check_source, documents, origin
from data.prepare import compose_config, prepare
from data.readers.budget import BadDocuments
from data.readers.documents import as_text, lookup
from data.readers.hub import matches
from data.tokenizers import TokenizerConfig
from mixlaw.errors import ConfigError, DataError

SETS = ("ArXiv", "Book", "C4", "CommonCrawl", "Github", "StackExchange", "Wikipedia")
BYTES = TokenizerConfig()


def texts(n: int, what: str) -> list[str]:
    return [f"{what} {i}: " + f"some words of {what} that nobody else has, number {i}. " * 3 for i in range(n)]


def slimpajama(folder: Path, n: int = 60) -> Path:
    """Write JSON lines as SlimPajama has them, its sets one after the other in turn."""
    (folder / "train").mkdir(parents=True)
    rows = [
        {"text": text, "meta": {"redpajama_set_name": f"RedPajama{name}"}}
        for group in zip(*(texts(n, name) for name in SETS), strict=True)
        for name, text in zip(SETS, group, strict=True)
    ]
    for part in range(2):
        lines = "\n".join(map(json.dumps, rows[part::2]))
        (folder / "train" / f"example_holdout_{part}.jsonl").write_text(lines + "\n")
    return folder


def obelics(folder: Path, n: int = 80) -> Path:
    """Write parquet as OBELICS has it: lists of texts and images, one of the two null at each place."""
    folder.mkdir(parents=True)
    rows = [
        {"images": ["https://x/1.jpg", None, None], "texts": [None, text, f"More of page {i}."], "metadata": "[]"}
        for i, text in enumerate(texts(n, "page"))
    ]
    pd.DataFrame(rows).to_parquet(folder / "train-00000.parquet")
    return folder


def dclm(folder: Path, n: int = 80) -> Path:
    folder.mkdir(parents=True)
    pd.DataFrame({"text": texts(n, "web"), "url": "u"}).to_parquet(folder / "part-0.parquet")
    return folder


def read(path: Path | str, key: str = "text", **hub: Any) -> list[Any]:
    source = SourceConfig("hub", path=str(path), text_key=key, hub=HubConfig(**hub))
    check_source(source, "data.domains.x", BYTES)
    return list(documents(source, [], BadDocuments()))


def test_records_of_one_set_are_taken_up_to_the_limit(tmp_path: Path) -> None:
    folder = slimpajama(tmp_path / "pajama")
    where = {"meta.redpajama_set_name": "RedPajamaBook"}
    assert sorted(read(folder, where=where)) == sorted(texts(60, "Book"))
    assert len(read(folder, where=where, max_documents=7)) == 7
    some = read(folder, where=where, max_mb=0.002)
    assert sum(map(len, some)) >= 2000 > sum(map(len, some[:-1]))
    assert len(read(folder)) == 60 * len(SETS)


def test_texts_between_images_become_one_document(tmp_path: Path) -> None:
    pages = read(obelics(tmp_path / "obelics", 3), "texts")
    assert pages == [f"{text}\n\nMore of page {i}." for i, text in enumerate(texts(3, "page"))]


def test_what_is_no_text_is_refused_by_record_and_column(tmp_path: Path) -> None:
    folder = dclm(tmp_path / "dclm")
    with pytest.raises(DataError, match=r"record 1: 'words' is not text; it has the columns text, url"):
        read(folder, "words")
    with pytest.raises(DataError, match="no record matches"):
        read(folder, where={"url": "elsewhere"})


def test_a_whole_corpus_of_the_hub_is_never_asked_for() -> None:
    with pytest.raises(ConfigError, match="set max_documents or max_mb, so that not all of a/corpus is read"):
        check_source(SourceConfig("hub", path="a/corpus"), "data.domains.x", BYTES)
    check_source(SourceConfig("hub", path="a/corpus", hub=HubConfig(max_documents=1)), "data.domains.x", BYTES)
    with pytest.raises(ConfigError, match="must be 0"):
        check_source(SourceConfig("hub", path="a/corpus", hub=HubConfig(max_documents=-1)), "x", BYTES)


def test_without_a_network_it_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"^nobody/nothing: ") as refused:
        read("nobody/nothing", max_documents=1)
    assert "\n" not in str(refused.value)


def test_a_repository_with_a_loading_script_is_refused_and_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "scripted"
    folder.mkdir()
    (folder / "scripted.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')")
    with pytest.raises(DataError, match=f"^{folder}: "):
        read(folder)
    assert not (tmp_path / "canary").exists()


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    folder = dclm(tmp_path / "dclm")
    path = folder / "part-0.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=f"^{folder}: ") as refused:
        read(folder)
    assert "\n" not in str(refused.value)


def test_the_origin_says_which_slice_it_was() -> None:
    hub = HubConfig(subset="s", revision="abc", where={"meta.set": "x"}, max_documents=1000, max_mb=2.5)
    told = origin(SourceConfig("hub", path="a/b", hub=hub))
    assert told == "a/b@abc, s, train, meta.set=x, first 1,000 documents, first 2.5 MB"


def test_values_are_looked_up_inside_of_others() -> None:
    row = {"a": {"b": {"c": "x"}}, "t": ["one", None, "two"]}
    assert lookup(row, "a.b.c") == "x"
    assert lookup(row, "a.c") is lookup(row, "t.x") is None
    assert as_text(row["t"]) == "one\n\ntwo"
    assert as_text([None]) is as_text(3) is None


@pytest.mark.parametrize(("name", "write"), [("slimpajama", slimpajama), ("dclm", dclm), ("obelics", obelics)])
def test_the_shipped_configurations_prepare_local_data_in_their_layout(name: str, write: Any, tmp_path: Path) -> None:
    folder = write(tmp_path / "source")
    shipped = compose_config([f"data={name}"])
    paths = [f"data.domains.{d}.path={folder}" for d in shipped.domains]
    small = ["data.tokenizer.kind=bytes", "data.tokenizer.path=", "data.eval_percent=20"]
    manifest = prepare(compose_config([f"data={name}", *paths, *small, f"data.root={tmp_path}"]), lambda line: None)
    assert manifest.domains == list(shipped.domains)
    assert all(manifest.n_tokens(d, "train") > 1000 for d in manifest.domains)
    counts = {d: manifest.entry(d)["counts"]["n_documents"] for d in manifest.domains}
    assert set(counts.values()) == {60 if name == "slimpajama" else 80}
    assert manifest.entry(manifest.domains[0])["origin"].startswith(str(folder))


def test_captions_in_the_layout_of_img2dataset_are_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import webdataset

    captions = texts(60, "picture")
    for part in range(2):
        with webdataset.TarWriter(str(tmp_path / f"{part:05d}.tar")) as shard:
            for i, caption in list(enumerate(captions))[part::2]:
                shard.write({"__key__": f"{i:09d}", "jpg": b"\xff\xd8", "txt": caption, "json": {"caption": caption}})
    monkeypatch.setenv("DATACOMP_SHARDS", str(tmp_path / "*.tar"))
    small = ["data.tokenizer.kind=bytes", "data.tokenizer.vocab_size=256", "data.eval_percent=20"]
    manifest = prepare(compose_config(["data=datacomp", *small, f"data.root={tmp_path}"]), lambda line: None)
    assert manifest.entry("captions")["counts"]["n_documents"] == 60


@pytest.mark.parametrize(
    ("value", "wanted", "matched"),
    [
        ("no", "no", True),
        ("no", "False", True),  # what YAML and OmegaConf make of `lang: no`
        ("NO", "False", True),
        ("en", "False", False),
        ("yes", "True", True),
        ("no", "false", False),  # in quotes
        (False, "False", True),
        (False, "false", True),
        (True, "False", False),
        (None, "False", False),
        (2019, "2019", True),
        (1, "1.0", True),
        (1.5, "1.5", True),
        (True, "1", False),
        ("007", "7", False),
        (3, "three", False),
    ],
)
def test_a_value_is_compared_as_it_was_meant(value: Any, wanted: str, matched: bool) -> None:
    assert matches(value, wanted) is matched


def test_a_language_that_yaml_reads_as_false_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    rows = [{"text": text, "lang": "no" if i % 2 else "en"} for i, text in enumerate(texts(200, "web"))]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("MIXLAW_CONFIGS", str(tmp_path))
    (tmp_path / "data").mkdir()
    for where in ("{lang: no}", "{lang: 'no'}"):
        domain = f"  nor: {{reader: hub, path: {folder}, hub: {{where: {where}}}}}\n"
        (tmp_path / "data" / "norsk.yaml").write_text(f"name: norsk\nroot: {tmp_path}\ndomains:\n{domain}")
        manifest = prepare(compose_config(["data=norsk"]), lambda line: None)
        assert manifest.entry("nor")["counts"]["n_documents"] == 100


def test_no_match_is_told_with_the_values_that_there_are(tmp_path: Path) -> None:
    folder = dclm(tmp_path / "dclm")
    with pytest.raises(DataError, match=r"url=7: no record matches; url is 'u': write one of these values"):
        read(folder, where={"url": "7"})
