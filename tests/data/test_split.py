"""`python -m data.split`: every document lands in one domain, and what it writes is prepared and previewed."""

import csv
import io
import json
import random
import sys
import tarfile
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data.prepare import main as prepare
from data.preview import main as preview
from data.readers.compressed import open_plain
from data.split import main
from data.splitting import labels
from data.splitting.shards import DomainWriter
from data.store.tokens import open_manifest
from tests.marks import examples

TOPICS = {
    "sea": ("en", "ship harbour wave captain sail storm island fish anchor coast"),
    "kitchen": ("no", "butter flour oven sugar recipe salt bake onion pepper sauce"),
    "proof": ("de", "theorem lemma group ring field integral matrix vector space axiom"),
}
Record = dict[str, Any]


def corpus(n: int = 240) -> list[Record]:
    """Return records of three topics with a nested language, a URL and a vector."""
    rng = random.Random(0)
    records = []
    for i in range(n):
        topic = rng.choice(list(TOPICS))
        lang, words = TOPICS[topic]
        text = f"{i}: " + " ".join(rng.choices(f"{words} the of and to in".split(), k=rng.randint(30, 60)))
        vector = [5.0 * (topic == t) + rng.random() for t in TOPICS]
        url = f"https://www.{topic}.example.co.uk/{i}"
        records.append({"text": text, "topic": topic, "meta": {"lang": lang}, "url": url, "vector": vector})
    return records


def write_jsonl(path: Path, records: list[Record]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with a corpus in corpus.jsonl; configurations are written to conf/."""
    (tmp_path / "conf").mkdir()
    monkeypatch.setenv("MIXLAW_CONFIGS", str(tmp_path / "conf"))
    monkeypatch.setenv("MIXLAW_CACHE", str(tmp_path / "cache"))
    write_jsonl(tmp_path / "corpus.jsonl", corpus())
    return tmp_path


def split(own: Path, *options: str, path: str = "corpus.jsonl") -> int:
    return main(["mine", str(own / path), "--out", str(own / "out"), *options])


def written(folder: Path) -> dict[str, list[tuple[str, Any]]]:
    """Return (text, label) of the documents of each domain."""
    found = defaultdict(list)
    for path in sorted(folder.glob("*/*.jsonl.zst")):
        with open_plain(path) as file:
            records = [json.loads(line) for line in file.read().decode().split("\n")[:-1]]
        found[path.parent.name] += [(record["text"], record["label"]) for record in records]
    return dict(found)


def topics(own: Path) -> dict[str, list[str]]:
    """Return the texts of the corpus by topic, in the order of the corpus."""
    found = defaultdict(list)
    for record in corpus():
        found[record["topic"]].append(record["text"])
    return dict(found)


def texts_of(own: Path) -> list[list[str]]:
    return sorted([text for text, _ in documents] for documents in written(own / "out").values())


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--by", "column", "--column", "topic"], {"sea", "kitchen", "proof"}),
        (["--by", "column", "--column", "meta.lang"], {"en", "no", "de"}),
        (["--by", "host"], {f"{topic}_example_co_uk" for topic in TOPICS}),
        (["--by", "clusters", "--max-domains", "3"], {"cluster-0", "cluster-1", "cluster-2"}),
        (["--by", "clusters", "--vectors", "vector", "--max-domains", "3"], {"cluster-0", "cluster-1", "cluster-2"}),
    ],
)
def test_topics_become_domains(own: Path, options: list[str], names: set[str]) -> None:
    assert split(own, *options) == 0
    assert written(own / "out").keys() == names
    assert texts_of(own) == sorted(topics(own).values())


def test_what_is_written_is_prepared_and_previewed(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert split(own, "--by", "column", "--column", "meta.lang", "--samples", "1") == 0
    table = capsys.readouterr().out
    assert [line.split()[0] for line in table.splitlines()[:4]] == ["domain", "en", "de", "no"]
    assert {"theorem", "lemma"} & {*table.splitlines()[2].split()}
    tiny = ["data=mine", "data.tokenizer.kind=bytes", "data.tokenizer.vocab_size=256"]
    assert prepare(tiny) == 0
    assert preview([*tiny, "--mixture", "de=0.5,no=0.25,en=0.25", "--first", "20"]) == 0
    manifest = open_manifest(next((own / "cache/prepared").glob("mine-*")))
    counts = {name: entry["counts"]["n_documents"] for name, entry in manifest.facts["domains"].items()}
    assert counts == Counter(record["meta"]["lang"] for record in corpus())


def test_languages_are_told_apart(own: Path) -> None:
    pytest.importorskip("py3langid")
    sentences = {
        "en": "The people of the islands live from fishing and from the trade of wood, and the winters are long.",
        "de": "Die Bewohner der Inseln leben vom Fischfang und vom Handel mit Holz, und die Winter sind lang.",
        "fr": "Les habitants des îles vivent de la pêche et du commerce du bois, et les hivers y sont très longs.",
    }
    write_jsonl(
        own / "corpus.jsonl", [{"text": f"{t} {i}"} for i in range(9) for t in sentences.values()] + [{"text": "1"}]
    )
    assert split(own, "--by", "language") == 0
    assert {name: len(found) for name, found in written(own / "out").items()} == {"en": 9, "de": 9, "fr": 9, "other": 1}


def test_sites_join_the_hosts_of_one_registrable_domain(own: Path) -> None:
    pytest.importorskip("publicsuffixlist")
    hosts = ["news.bbc.co.uk", "www.bbc.co.uk", "a.github.io", "b.github.io", "localhost"]
    write_jsonl(own / "corpus.jsonl", [{"text": "x" * 40, "url": f"http://{host}/"} for host in hosts])
    assert split(own, "--by", "site") == 0
    labels = {name: [label for _, label in found] for name, found in written(own / "out").items()}
    assert labels["bbc_co_uk"] == ["bbc.co.uk", "bbc.co.uk"]
    assert labels.keys() == {"bbc_co_uk", "a_github_io", "b_github_io", "localhost"}


def test_rare_labels_and_missing_ones_go_to_other(own: Path) -> None:
    records: list[Record] = [{"text": "a" * 50, "kind": kind} for kind in ["x"] * 20 + ["y"] * 15 + ["z", None, ""]]
    write_jsonl(own / "corpus.jsonl", [*records, {"text": "b" * 50}])
    assert split(own, "--by", "column", "--column", "kind", "--min-share", "0.05") == 0
    found = written(own / "out")
    assert {name: len(documents) for name, documents in found.items()} == {"x": 20, "y": 15, "other": 4}
    assert [label for _, label in found["other"]] == ["z", None, None, None]


def test_an_other_that_is_too_small_is_not_in_the_configuration(own: Path) -> None:
    records: list[Record] = [{"text": "a" * 50, "kind": kind} for kind in ["x"] * 60 + ["y"] * 60 + ["z"]]
    write_jsonl(own / "corpus.jsonl", records)
    assert split(own, "--by", "column", "--column", "kind", "--min-share", "0.05") == 0
    text = (own / "conf/data/mine.yaml").read_text()
    assert "  other:" not in text
    assert "# other is too small" in text
    assert len(written(own / "out")["other"]) == 1


def as_csv(own: Path, records: list[Record]) -> None:
    with (own / "files/a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["topic", "text"])
        writer.writerows([record["topic"], record["text"]] for record in records)


def as_parquet(own: Path, records: list[Record]) -> None:
    frame = pd.DataFrame(records)
    frame[:100].to_parquet(own / "files/a.parquet")
    frame[100:].to_parquet(own / "files/b.parquet")


def as_shard(own: Path, records: list[Record]) -> None:
    with tarfile.open(own / "files/a.tar", "w") as archive:
        for i, record in enumerate(records):
            for suffix, content in (("txt", record["text"]), ("json", json.dumps(record))):
                member = tarfile.TarInfo(f"{i:04}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content.encode()))


@pytest.mark.parametrize(("write", "column"), [(as_csv, "topic"), (as_parquet, "meta.lang"), (as_shard, "meta.lang")])
def test_every_format_is_read(own: Path, write: Any, column: str) -> None:
    (own / "files").mkdir()
    write(own, corpus())
    (own / "files/README.md").write_text("a note beside the corpus")
    assert split(own, "--by", "column", "--column", column, path="files") == 0
    assert texts_of(own) == sorted(topics(own).values())


def test_texts_and_vectors_of_a_file(own: Path) -> None:
    (own / "files").mkdir()
    for i, record in enumerate(corpus()):
        (own / f"files/{i:04}.txt").write_text(record["text"])
    np.save(own / "v.npy", np.array([record["vector"] for record in corpus()], np.float16))
    assert split(own, "--by", "clusters", "--vectors", f"{own}/v.npy", "--max-domains", "3", path="files") == 0
    assert texts_of(own) == sorted(topics(own).values())


@settings(examples(24), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=st.lists(
        st.fixed_dictionaries(
            {"text": st.text(max_size=30), "kind": st.none() | st.integers(0, 3) | st.text(max_size=3)}
        ),
        min_size=1,
        max_size=40,
    ),
    max_domains=st.integers(2, 5),
)
def test_no_document_is_lost_or_changed(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, records: list[Record], max_domains: int
) -> None:
    own = tmp_path_factory.mktemp("own")
    monkeypatch.setenv("MIXLAW_CONFIGS", str(own))
    write_jsonl(own / "corpus.jsonl", records)
    code = split(own, "--by", "column", "--column", "kind", "--max-domains", str(max_domains), "--min-share", "0")
    found = written(own / "out")
    if code:
        assert not (own / "out").exists()
        return
    assert 2 <= len(found) <= max_domains
    texts = Counter(text for documents in found.values() for text, _ in documents)
    assert texts == Counter(record["text"] for record in records)


def test_the_same_command_writes_the_same_bytes(own: Path) -> None:
    for out in ("a", "b"):
        options = ["--out", str(own / out), "--by", "clusters", "--max-domains", "3"]
        assert main([f"mine-{out}", str(own / "corpus.jsonl"), *options]) == 0
    files = [sorted((own / out).rglob("*.zst")) for out in ("a", "b")]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    assert not list(own.glob(".*"))


def test_shards_have_a_bounded_size(tmp_path: Path) -> None:
    writer = DomainWriter(tmp_path / "web", shard_bytes=1)
    for i in range(3):
        writer.write(f"{i}" * (1 << 20), None)
    writer.close()
    shards = sorted((tmp_path / "web").iterdir())
    assert [path.name for path in shards] == [f"part-0000{i}.jsonl.zst" for i in range(3)]
    assert [text[0] for text, _ in written(tmp_path)["web"]] == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--by", "column"], "--by column needs --column NAME"),
        (
            ["--by", "column", "--column", "meta.lagn"],
            "corpus.jsonl: unknown column 'meta.lagn'; did you mean 'meta.lang'?",
        ),
        (["--by", "column", "--column", "meta"], "--column: a value is a dict"),
        (["--by", "language", "--column", "meta"], "--column meta: --by language does not use it"),
        (["--by", "host", "--vectors", "v.npy"], "--vectors v.npy: --by host does not use it"),
        (["--by", "host", "--column", "topic", "--max-domains", "1"], "--max-domains 1: a mixture has at least 2"),
        (["--by", "host", "--samples", "-1"], "--samples -1: it must be 0 or more"),
        (["--by", "host", "--min-share", "1"], "--min-share 1: it is a share"),
        (["--by", "clusters", "--vectors", "gone.npy"], "--vectors gone.npy: No such file"),
        (
            ["--by", "clusters", "--vectors", "topic"],
            "--vectors: the vectors of some documents are missing, no numbers",
        ),
        (["--by", "clusters", "--max-domains", "999"], "--max-domains 999: more clusters than the 240 documents"),
        (["--by", "host", "--text-key", "body"], "no column 'body', it has meta, text, topic"),
        (["--by", "host", "--reader", "csv"], "corpus.jsonl"),
    ],
)
def test_bad_input_is_one_sentence(
    own: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert split(own, *options) in (2, 3)
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert not (own / "out").exists()
    assert not (own / "conf/data").exists()


def test_vectors_are_as_many_as_documents(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for rows in (239, 241):
        np.save(own / "v.npy", np.zeros((rows, 3)))
        assert split(own, "--by", "clusters", "--vectors", f"{own}/v.npy") == 3
        assert f"{rows} rows for 240 documents" in capsys.readouterr().err


def test_vectors_are_numbers_in_npy(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(own / "v.npy", np.zeros((240, 0)))
    assert split(own, "--by", "clusters", "--vectors", f"{own}/v.npy") == 3
    assert "every document needs a list of finite numbers" in capsys.readouterr().err
    (own / "v.npy").write_text("0.5 1.5")
    assert split(own, "--by", "clusters", "--vectors", f"{own}/v.npy") == 3
    assert "v.npy: it is no table of numbers in NumPy's .npy format" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", ["host"], "the corpus has no text"),
        ("?", ["clusters", "--max-domains", "2"], "the texts have no words to compare"),
        ("a", ["clusters", "--max-domains", "2"], "the texts have no words to compare"),
        ("equal texts", ["clusters", "--max-domains", "2"], "all documents would be in one domain"),
    ],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_texts_that_cannot_be_divided_are_one_sentence(
    own: Path, text: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(own / "corpus.jsonl", [{"text": text, "url": f"{i}.org"} for i in range(9)])
    assert split(own, "--by", *options) == 3
    assert message in capsys.readouterr().err


def test_bad_documents_name_the_option_that_skips_them(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (own / "corpus.jsonl").open("ab") as file:
        file.write(b'{"text": "caf\xe9"}\n')
    assert split(own, "--by", "host") == 3
    assert "repair it, or raise --bad-budget to skip such documents" in capsys.readouterr().err
    assert split(own, "--by", "host", "--bad-budget", "1") == 0


def test_the_domains_are_not_written_into_the_corpus(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mine", str(own), "--out", str(own / "a" / "out"), "--by", "host"]) == 2
    assert f"--out {own}/a/out is inside the corpus {own}: choose a folder outside" in capsys.readouterr().err


def test_what_exists_is_not_overwritten(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert split(own, "--by", "host") == 0
    assert split(own, "--by", "host") == 2
    assert f"--out {own}/out exists: remove it, or choose another folder" in capsys.readouterr().err
    assert main(["mine", str(own / "corpus.jsonl"), "--out", str(own / "other"), "--by", "host"]) == 2
    assert "mine.yaml exists: choose another name, or remove it" in capsys.readouterr().err
    assert main(["quickstart", str(own / "corpus.jsonl"), "--out", str(own / "other"), "--by", "host"]) == 2
    assert "configs/data/quickstart.yaml exists: choose another name" in capsys.readouterr().err
    assert main(["a/b", str(own / "corpus.jsonl"), "--out", str(own / "other"), "--by", "host"]) == 2
    assert "'a/b' is part of file names" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("by", "library"), [("language", "py3langid"), ("site", "publicsuffixlist"), ("clusters", "scikit-learn")]
)
def test_a_library_that_is_missing_is_named(
    own: Path, by: str, library: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in ("py3langid.langid", "publicsuffixlist", "sklearn.cluster"):
        monkeypatch.setitem(sys.modules, module, None)
    for cached in (labels._identifier, labels._registrable):
        cached.cache_clear()
    assert split(own, "--by", by) == 2
    assert library in (err := capsys.readouterr().err)
    assert "pip install -e '.[split]'" in err


def test_a_column_without_values_is_not_called_unknown(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(own / "corpus.jsonl", [{"text": "a", "kind": None}, {"text": "b", "kind": ""}])
    assert split(own, "--by", "host", "--column", "kind") == 3
    assert "one domain; labels: none" in capsys.readouterr().err
    write_jsonl(own / "corpus.jsonl", [{"text": "a", "kind": None}] * 3)
    assert split(own, "--by", "host", "--column", "kind") == 3
    assert "the column 'kind' is empty in all of the first 3 documents" in capsys.readouterr().err


def test_files_of_several_kinds_need_a_choice(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    as_csv_folder = own / "files"
    as_csv_folder.mkdir()
    as_csv(own, corpus())
    write_jsonl(own / "files/b.jsonl", corpus())
    assert split(own, "--by", "column", "--column", "topic", path="files") == 2
    assert "the files are of jsonl and csv: choose --reader" in capsys.readouterr().err
    assert split(own, "--by", "column", "--column", "topic", "--reader", "csv", path="files") == 0
    assert split(own, "--by", "host", path="gone") == 2 or "neither a file nor a folder" in capsys.readouterr().err
