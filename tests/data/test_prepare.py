"""The prepared folder: whole or not there, the same for the same configuration, and honest about damage."""

import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tqdm import tqdm

from data.config import DataConfig, SourceConfig, TokenizerConfig
from data.preparation.work_folder import work_path
from data.prepare import compose_config, main, prepare, say, table
from data.store.tokens import Manifest, TokenReader, open_manifest, verify
from data.tokenizers import load_tokenizer
from mixlaw.errors import ConfigError, DataError
from tests.commands import call
from tests.data.tiny import sentences, tiny_config, write_jsonl, write_wheel

CHECKOUT = Path(__file__).resolve().parents[2]
BPE = TokenizerConfig("bpe", 300)


def quiet(line: str) -> None:
    """Take a line of progress and say nothing."""


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files; the note of what was verified holds times, which differ."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith(".verified"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def decoded(manifest: Manifest, domain: str, split: str) -> list[str]:
    tokenizer = load_tokenizer(manifest.folder, manifest.facts["tokenizer"])
    reader = TokenReader(manifest, domain, split)
    if not reader.n_tokens:
        return []
    texts: list[list[int]] = [[]]
    for token in reader.windows([0], reader.n_tokens)[0].tolist():
        texts.append([]) if token == tokenizer.end_id else texts[-1].append(token)
    return [tokenizer.decode(ids) for ids in texts[:-1]]


def overrides(root: Path, source: SourceConfig, *more: str) -> list[str]:
    """Return a command line with one small domain of one's own in place of the quick start's."""
    removed = ["~data.domains", "~data.targets"]
    facts = [f"+data.domains.own.{key}={getattr(source, key)}" for key in ("reader", "path")]
    return [*removed, *facts, f"data.root={root}", "data.name=tiny", *more]


@pytest.mark.parametrize("tokenizer", [TokenizerConfig(), BPE], ids=["bytes", "bpe"])
def test_every_document_is_in_exactly_one_split(tmp_path: Path, tokenizer: TokenizerConfig) -> None:
    manifest = prepare(tiny_config(tmp_path, tokenizer=tokenizer), quiet)
    verify(manifest)
    texts = [text for split in ("train", "eval", "test") for text in decoded(manifest, "trees", split)]
    assert sorted(texts) == sorted(text.strip("\n") for text in sentences("tree", 120))
    splits = manifest.entry("trees")["splits"]
    assert sum(split["n_bytes"] for split in splits.values()) == sum(len(text.encode()) for text in texts)
    assert manifest.domains == ["trees", "stones"]
    assert manifest.targets == ["rivers"]


def test_a_target_has_no_train_split(tmp_path: Path) -> None:
    manifest = prepare(tiny_config(tmp_path), quiet)
    splits = manifest.entry("rivers")["splits"]
    assert splits["train"] == {"n_bytes": 0, "n_documents": 0, "n_tokens": 0, "files": []}
    assert splits["eval"]["n_documents"] > 0
    assert not list((manifest.folder / "rivers").glob("train*"))


def test_a_training_domain_holds_no_document_of_a_target(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    shared = sentences("river", 120)[:60]
    config.domains["mixed"] = write_jsonl(tmp_path / "mixed.jsonl", shared + sentences("cloud", 60))
    manifest = prepare(config, quiet)
    everything = [t for split in ("train", "eval", "test") for t in decoded(manifest, "mixed", split)]
    assert len(everything) == 60
    assert not any("river" in text for text in everything)
    assert manifest.entry("mixed")["counts"]["n_in_other_domain"] == 60


def test_the_second_time_nothing_is_read_or_written(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    first = prepare(config, quiet)
    before = {p: p.stat().st_mtime_ns for p in first.folder.rglob("*")}
    shutil.rmtree(tmp_path / "downloads")
    second = prepare(config, quiet)
    assert second == first
    assert {p: p.stat().st_mtime_ns for p in first.folder.rglob("*")} == before


def test_preparing_again_from_nothing_gives_identical_bytes(tmp_path: Path) -> None:
    one = prepare(tiny_config(tmp_path / "one", tokenizer=BPE), quiet)
    two = prepare(tiny_config(tmp_path / "two", tokenizer=BPE), quiet)
    assert contents(one.folder) == contents(two.folder)
    assert one.folder.name == two.folder.name


def test_configurations_that_differ_in_the_tokenizer_only_get_different_folders(tmp_path: Path) -> None:
    one, two = tiny_config(tmp_path), tiny_config(tmp_path, tokenizer=BPE)
    assert one.folder != two.folder
    assert {prepare(one, quiet).vocab_size, prepare(two, quiet).vocab_size} == {256, 300}


def test_a_second_process_waits_for_the_first_and_uses_its_folder(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    code = "import sys; from data.prepare import prepare; from tests.data.tiny import tiny_config;"
    code += "from pathlib import Path; prepare(tiny_config(Path(sys.argv[1])))"
    others: list[subprocess.Popen[str]] = []

    def start_another(line: str) -> None:
        if line.startswith("read stones"):
            command = [sys.executable, "-c", code, str(tmp_path)]
            others.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
            assert others[0].stderr is not None
            said = others[0].stderr.readline()
            assert said == f"another process works in {work_path(config.folder, False)}: waiting for it\n"

    verify(prepare(config, start_another))
    time = config.folder.stat().st_mtime_ns
    with others[0] as other:
        assert other.wait(60) == 0
    assert time == config.folder.stat().st_mtime_ns
    assert os.listdir(tmp_path / "prepared") == [config.folder.name]


def test_a_failure_half_way_leaves_nothing(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    config.domains["broken"] = SourceConfig("text", path=str(tmp_path / "latin.txt"))
    with pytest.raises(DataError, match=r"latin\.txt: not UTF-8"):
        prepare(config, quiet)
    assert os.listdir(tmp_path / "prepared") == []


def test_a_killed_preparation_is_not_trusted_and_is_cleared_away(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    code = (
        "import os, signal, sys; from data.prepare import prepare; from tests.data.tiny import tiny_config;"
        "from pathlib import Path;"
        "prepare(tiny_config(Path(sys.argv[1])),"
        " lambda line: os.kill(os.getpid(), signal.SIGKILL) if line.startswith('read stones') else None)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = (tmp_path / "prepared").iterdir()
    assert left.name.startswith(f".{config.folder.name}.")
    with pytest.raises(DataError, match="holds no prepared data"):
        open_manifest(config.folder)
    verify(prepare(config, quiet))
    assert os.listdir(tmp_path / "prepared") == [config.folder.name]


def test_an_interrupt_while_reading_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(tiny_config(tmp_path), interrupt)
    assert os.listdir(tmp_path / "prepared") == []


def test_an_interrupt_while_fetching_leaves_nothing_and_exits_with_130(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "data.prepare", f"data.root={tmp_path}"]

    def heed_interrupts() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a background job, such as CI may be, inherits that it is ignored

    with socket.create_server(("127.0.0.1", 0)) as silent_index:
        port = silent_index.getsockname()[1]
        env = os.environ | {"PIP_INDEX_URL": f"http://127.0.0.1:{port}/", "PIP_CONFIG_FILE": os.devnull}
        with subprocess.Popen(
            command, cwd=CHECKOUT, env=env, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
        ) as process:
            silent_index.settimeout(120)
            connection, _ = silent_index.accept()  # pip is waiting for an answer now
            process.send_signal(signal.SIGINT)
            stderr = process.communicate(timeout=60)[1]
            connection.close()
    assert process.returncode == 130
    assert stderr == "interrupted; incomplete files were removed\n"
    assert os.listdir(tmp_path / "downloads") == []


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", sentences("tree", 2000))
    command = [sys.executable, "-m", "data.prepare", *overrides(tmp_path, source)]

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    result = subprocess.run(command, capture_output=True, text=True, preexec_fn=limit, cwd=CHECKOUT, check=False)
    assert result.returncode == 3
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith(f"error: {tmp_path}")
    assert "File too large; incomplete files were removed" in result.stderr
    assert os.listdir(tmp_path / "prepared") == []


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return prepare(tiny_config(tmp_path_factory.mktemp("prepared"), n=60), quiet)


def opened_and_verified(folder: Path) -> None:
    verify(open_manifest(folder))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_in_the_manifest_is_refused_or_harmless(
    prepared: Manifest, tmp_path: Path, place: float, bit: int
) -> None:
    raw = bytearray((prepared.folder / "manifest.json").read_bytes())
    raw[int(place * len(raw))] ^= 1 << bit
    folder = tmp_path / "copy"
    if not folder.exists():
        shutil.copytree(prepared.folder, folder)
    (folder / "manifest.json").write_bytes(raw)
    try:
        found = open_manifest(folder)
    except DataError:
        return
    # What is left are flips in white space and in the seal's own name, which change nothing that it vouches for.
    assert {**found.facts, "seal": 0}.items() >= {**prepared.facts, "seal": 0}.items()


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_manifest_is_refused(prepared: Manifest, tmp_path: Path, share: float) -> None:
    raw = (prepared.folder / "manifest.json").read_bytes()
    (tmp_path / "manifest.json").write_bytes(raw[: int(share * len(raw))])
    with pytest.raises(DataError, match=r"manifest\.json is damaged"):
        open_manifest(tmp_path)


@pytest.mark.parametrize("content", [b"[]", b"3", b"{}", b'{"domains": []}', b'{"domains": {"a": 1}}', b"\xff\xfe"])
def test_a_manifest_of_another_shape_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(DataError, match=r"manifest\.json is damaged"):
        open_manifest(tmp_path)


@pytest.mark.parametrize("name", ["trees/train-00000.tokens", "stones/eval-00000.starts"])
@pytest.mark.parametrize("damage", ["cut", "missing", "flipped"])
def test_a_damaged_shard_is_refused_by_name(prepared: Manifest, tmp_path: Path, name: str, damage: str) -> None:
    folder = shutil.copytree(prepared.folder, tmp_path / "copy")
    path = folder / name
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    changed: dict[str, Any] = {"cut": raw[:-2], "flipped": raw}
    path.unlink()
    if damage != "missing":
        path.write_bytes(changed[damage])
    with pytest.raises(DataError, match=name):
        opened_and_verified(folder)


def test_a_shard_that_vanishes_after_opening_is_refused_by_name(prepared: Manifest, tmp_path: Path) -> None:
    manifest = open_manifest(shutil.copytree(prepared.folder, tmp_path / "copy"))
    (manifest.folder / "trees" / "eval-00000.tokens").unlink()
    with pytest.raises(DataError, match=r"trees/eval-00000\.tokens is missing"):
        verify(manifest)


def test_a_folder_without_a_manifest_is_not_overwritten(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    config.folder.mkdir(parents=True)
    (config.folder / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="has no manifest"):
        prepare(config, quiet)
    assert os.listdir(config.folder) == ["notes.txt"]


def test_a_domain_with_too_few_documents_is_refused_by_name(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    config.domains["small"] = write_jsonl(tmp_path / "a.jsonl", ["One single document of some length, no more."])
    with pytest.raises(DataError, match=r"data\.domains\.small: no document for its (eval|train) split"):
        prepare(config, quiet)


def test_a_changed_file_of_ones_own_is_announced(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", sentences("tree", 100))
    config = DataConfig("own", str(tmp_path), {"own": source})
    first, lines = prepare(config, quiet), list[str]()
    write_jsonl(tmp_path / "a.jsonl", sentences("stone", 110))
    assert prepare(config, lines.append) == first
    assert len(lines) == 1
    assert lines[0].startswith(
        "warning: the files of 'own' changed since they were prepared: 1 file is of another size"
    )
    assert f"({tmp_path / 'a.jsonl'})" in lines[0]


def own(root: Path, **settings: Any) -> DataConfig:
    """Return a configuration with a domain and a target of 40 documents."""
    domain, target = (write_jsonl(root / f"{word}.jsonl", sentences(word, 40)) for word in ("tree", "river"))
    return DataConfig("own", str(root), {"trees": domain}, {"rivers": target}, **settings)


def test_all_documents_of_a_target_are_its_eval_split(tmp_path: Path) -> None:
    manifest = prepare(own(tmp_path), quiet)
    splits = manifest.entry("rivers")["splits"]
    assert {name: split["n_documents"] for name, split in splits.items()} == {"train": 0, "eval": 40, "test": 0}
    assert sorted(decoded(manifest, "rivers", "eval")) == sorted(t.strip("\n") for t in sentences("river", 40))
    assert [manifest.measured_split(name, "test") for name in ("trees", "rivers")] == ["test", "eval"]
    assert "not measured" not in table(manifest)


def test_a_target_of_three_documents_is_measured_whatever_the_shares(tmp_path: Path) -> None:
    config = own(tmp_path, eval_percent=1, test_percent=1)
    config.domains["trees"] = write_jsonl(tmp_path / "a.jsonl", sentences("tree", 2000))
    config.targets["rivers"] = write_jsonl(tmp_path / "b.jsonl", sentences("river", 3))
    assert prepare(config, quiet).entry("rivers")["splits"]["eval"]["n_documents"] == 3


def test_a_target_may_be_split_as_in_earlier_versions_and_the_table_says_so(tmp_path: Path) -> None:
    manifest = prepare(own(tmp_path, split_targets=True, eval_percent=20), quiet)
    splits = manifest.entry("rivers")["splits"]
    held = splits["eval"]["n_documents"] + splits["test"]["n_documents"]
    assert 0 < held < 40
    assert f"rivers: {40 - held} of 40 documents are not measured (data.split_targets)" in table(manifest)
    assert manifest.measured_split("rivers", "test") == "test"


def test_the_table_counts_every_document_that_was_left_out_by_its_reason(tmp_path: Path) -> None:
    texts = [*sentences("tree", 60), *sentences("tree", 5), "Yes.", "No.", "  ", *sentences("river", 4)]
    config = own(tmp_path, bad_document_budget=2)
    config.domains["trees"] = write_jsonl(tmp_path / "a.jsonl", texts)
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(b'{"text": "caf\xe9 of a length that would do otherwise"}\n{"text": null}\n')
    lines = table(prepare(config, quiet)).splitlines()
    row = dict(zip(lines[0].split()[2:], lines[1].split()[2:], strict=False))
    expected = {"documents": 60, "empty": 1, "short": 2, "duplicate": 5, "elsewhere": 4, "bad": 2}
    assert {key: int(row[key]) for key in expected} == expected
    assert lines[3] == "trees: 2 of 74 documents have fewer than 32 characters (data.min_chars)"


@pytest.mark.parametrize(("least", "n_short"), [(None, 0), (2, 0), (7, 10), (8, 30)])
def test_captions_may_be_short(tmp_path: Path, least: int | None, n_short: int) -> None:
    from tests.data.readers.test_images import write_captions

    source = write_captions(tmp_path / "a.tar", 30, "dog")  # the image counts as one character, as "dog 10" as six
    config = DataConfig("c", str(tmp_path), {"web": source}, image_size=8, min_chars=least, eval_percent=20)
    if n_short == 30:
        with pytest.raises(
            DataError, match=r"no document is left \(counts: .*n_short 30.*data\.min_chars is the minimum"
        ):
            prepare(config, quiet)
    else:
        assert prepare(config, quiet).entry("web")["counts"]["n_short"] == n_short


def test_the_least_length_is_in_tokens_where_files_are_tokenised() -> None:
    given, text = TokenizerConfig("given", 100, end_id=1), TokenizerConfig()
    lengths = [
        DataConfig(tokenizer=t).least_length(images) for t, images in ((text, False), (text, True), (given, False))
    ]
    assert lengths == [32, 2, 8]
    assert DataConfig(tokenizer=given, min_chars=5).least_length(False) == 5


def test_the_table_names_every_domain_with_its_licence(prepared: Manifest) -> None:
    lines = table(prepared).splitlines()
    assert [line.split()[:3] for line in lines[1:4]] == [
        ["trees", "train", "60"],
        ["stones", "train", "60"],
        ["rivers", "target", str(sum(s["n_documents"] for s in prepared.entry("rivers")["splits"].values()))],
    ]
    assert all("BSD" in line for line in lines[1:4])
    assert lines[1].endswith("trees 1.0")


def test_the_command_prints_the_same_table_both_times(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = overrides(tmp_path, write_jsonl(tmp_path / "a.jsonl", sentences("tree", 100)))
    assert main(args) == 0
    first = capsys.readouterr()
    assert main(args) == 0
    second = capsys.readouterr()
    assert first.out == second.out
    assert first.out.splitlines()[1].split()[:3] == ["own", "train", "100"]
    assert first.err.startswith("read own: 100 documents")
    assert second.err == ""


@pytest.mark.parametrize(
    ("args", "code", "sentence"),
    [
        (["data=quickstrt"], 2, "did you mean 'quickstart'"),
        (["data.tokenizer.knd=bpe"], 2, "data.tokenizer.knd: unknown setting 'knd'; did you mean 'kind'"),
        (["data.tokenizer.kind=bp"], 2, "did you mean 'bpe'"),
        (["data.domains.code.reader=python_fils"], 2, "did you mean 'python_files'"),
        (["dta=quickstart"], 2, "did you mean 'data'"),
        (["data.eval_percent=ten"], 2, "data.eval_percent: Value 'ten'"),
        (["data.eval_percent=90", "data.test_percent=10"], 2, "must be 0 to 99"),
        (["data.name=a/b"], 2, "data.name: 'a/b'"),
        (["data.tokenizer.vocab_size=300"], 2, "kind=bytes always has 256"),
        (["data=own_files"], 2, "WEB_FILES"),
        (["=3"], 2, "'=3'"),
        (["data"], 2, "data"),
        (["data.root=/proc/nowhere"], 3, "/proc/nowhere"),
        (["--workers=-1"], 2, "--workers is -1; it must be 1 or more"),
        (["hydra/launcher=slrm"], 2, "'hydra/launcher=slrm': data.prepare knows hydra/launcher=slurm only"),
        (["hydra/launcher=slurm", "hydra.launcher.partitoin=cpu"], 2, "did you mean 'partition'"),
        (["hydra/launcher=slurm", "hydra.launcher.time=0"], 2, "hydra.launcher.time is 0; it must be at least 1"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_sentence(
    args: list[str], code: int, sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WEB_FILES", raising=False)
    assert main(args) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert sentence in captured.err
    assert captured.err.count("\n") == 1


def test_the_module_prints_its_usage() -> None:
    code, out, _ = call("-m", "data.prepare", "--help")
    assert code == 0
    assert "python -m data.prepare data.tokenizer.kind=bpe" in out


@pytest.mark.parametrize("name", ["quickstart", "own_files"])
def test_the_configurations_that_come_along_are_complete(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_FILES", "/data/web")
    config = compose_config([f"data={name}"])
    assert config.name == name
    assert config.domains


def test_a_configuration_without_domains_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.domains is empty"):
        prepare(DataConfig("empty", str(tmp_path)), quiet)


def test_a_wheel_must_be_pinned(tmp_path: Path) -> None:
    source = write_wheel(tmp_path, {"a.py": "x"})
    source.sha256 = ""
    with pytest.raises(ConfigError, match=r"data\.domains\.own\.sha256: missing"):
        prepare(DataConfig("tiny", str(tmp_path), {"own": source}), quiet)


def test_the_manifest_says_where_everything_came_from(prepared: Manifest) -> None:
    facts = json.loads((prepared.folder / "manifest.json").read_text())
    assert facts["tokenizer"] == {"kind": "bytes", "vocab_size": 256, "end_id": 0} | {
        "sha256": load_tokenizer(prepared.folder, facts["tokenizer"]).sha256
    }
    trees = facts["domains"]["trees"]
    assert (trees["origin"], trees["licence"], trees["reader"]) == ("trees 1.0", "BSD", "python_files")
    assert trees["counts"]["n_read"] == trees["counts"]["n_documents"] == 60


def test_messages_stand_above_a_progress_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with tqdm(total=2, file=sys.stderr):
        say("read trees: 3 documents")
    assert re.search(r"[\r\n]read trees: 3 documents\n", capsys.readouterr().err)
