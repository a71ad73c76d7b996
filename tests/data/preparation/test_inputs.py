"""What a prepared folder was made of: found again from anywhere, and every other file is announced."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.config import DataConfig, HubConfig, SourceConfig, TokenizerConfig, absolute
from data.preparation.inputs import Fingerprint, file_changes, how_to_prepare, unpinned
from data.prepare import compose_config, main, prepare
from data.store.tokens import Manifest, open_manifest, verify
from mixlaw.errors import DataError
from tests.data.readers.test_images import write_captions
from tests.data.readers.test_token_files import save_tokenizer
from tests.data.tiny import sentences, write_jsonl


def said(config: DataConfig) -> list[str]:
    """Return what a second preparation says."""
    lines: list[str] = []
    prepare(config, lines.append)
    return lines


def quiet(line: str) -> None:
    """Take a line of progress and say nothing."""


def hashes(manifest: Manifest) -> dict[str, str]:
    return {name: manifest.domain_sha256(name) for name in manifest.domains}


def test_two_projects_with_the_same_relative_path_get_two_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for project, word in (("one", "tree"), ("two", "stone")):
        (tmp_path / project).mkdir()
        monkeypatch.chdir(tmp_path / project)
        write_jsonl(Path("web.jsonl"), sentences(word, 80))
        for spelling in ("web.jsonl", "./web.jsonl", f"../{project}/web.jsonl", str(Path("web.jsonl").resolve())):
            config = DataConfig("mine", str(tmp_path / "cache"), {"web": SourceConfig("jsonl", path=spelling)})
            found.append((project, config.identity, json.dumps(hashes(prepare(config, quiet)))))
    assert len(set(found)) == 2
    assert len({identity for _, identity, _ in found}) == 2


def test_a_configuration_means_the_same_files_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs write their configuration down, and are exported from elsewhere."""
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("web.jsonl"), sentences("tree", 80))
    config = DataConfig("mine", "cache", {"web": SourceConfig("jsonl", path="web.jsonl")})
    folder = config.folder
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert config.folder.name == folder.name
    assert config.domains["web"].path == str(tmp_path / "web.jsonl")


def test_a_name_on_the_hub_is_no_path_unless_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert SourceConfig("hub", path="org/name").path == "org/name"
    assert TokenizerConfig("pretrained", path="org/name").path == "org/name"
    assert SourceConfig("hub", path="./org/name").path == str(tmp_path / "org/name")
    assert absolute("~/x", may_be_remote=True) == str(tmp_path / "home/x")
    (tmp_path / "org/name").mkdir(parents=True)
    assert SourceConfig("hub", path="org/name").path == str(tmp_path / "org/name")


def test_the_same_documents_in_another_place_are_the_same_to_a_run(tmp_path: Path) -> None:
    one, two = (
        prepare(DataConfig("own", str(tmp_path), {"web": write_jsonl(tmp_path / name, sentences("tree", 80))}), quiet)
        for name in ("a.jsonl", "b.jsonl")
    )
    assert one.folder != two.folder
    assert hashes(one) == hashes(two)
    assert one.facts["tokenizer"] == two.facts["tokenizer"]


# Every kind of source, and every kind of change


def jsonl(folder: Path, name: str, word: str) -> None:
    write_jsonl(folder / f"{name}.jsonl", sentences(word, 60))


def tokens(folder: Path, name: str, word: str) -> None:
    rows = [np.append(np.random.default_rng([len(word), i]).integers(8, 99, 20), 7) for i in range(60)]
    np.concatenate(rows).astype("<u2").tofile(folder / f"{name}.bin")


def tar(folder: Path, name: str, word: str) -> None:
    write_captions(folder / f"{name}.tar", 60, word)


def text(folder: Path, name: str, word: str) -> None:
    for i, sentence in enumerate(sentences(word, 60)):
        (folder / f"{name}-{i}.txt").write_text(sentence)


def parquet(folder: Path, name: str, word: str) -> None:
    import pyarrow
    from pyarrow import parquet as files

    files.write_table(pyarrow.table({"text": sentences(word, 60)}), folder / f"{name}.parquet")


Write = Callable[[Path, str, str], None]
KINDS: dict[str, tuple[Write, str]] = {
    "jsonl": (jsonl, ".jsonl"),
    "tokens": (tokens, ".bin"),
    "webdataset": (tar, ".tar"),
    "text": (text, "-0.txt"),
    "parquet": (parquet, ".parquet"),
    "hub": (parquet, ".parquet"),
}


def config_of(reader: str, root: Path, path: str) -> DataConfig:
    source = SourceConfig(
        reader, path=path, dtype="uint16" if reader == "tokens" else "", images=reader == "webdataset"
    )
    tokenizer = TokenizerConfig("given", 99, end_id=7) if reader == "tokens" else TokenizerConfig()
    size = 8 if reader == "webdataset" else 0
    return DataConfig("own", str(root), {"web": source}, tokenizer=tokenizer, image_size=size)


PLACES = [(reader, how) for reader in KINDS for how in ("folder", "glob", "link") if (reader, how) != ("hub", "glob")]


@pytest.mark.parametrize(("reader", "how"), PLACES)
def test_every_other_file_is_announced_and_nothing_else_is(tmp_path: Path, reader: str, how: str) -> None:
    write, suffix = KINDS[reader]
    folder, link = tmp_path / "in", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    write(folder, "a", "tree")
    write(folder, "b", "stones")
    path = {"folder": folder, "glob": folder / "*", "link": link}[how]
    config = config_of(reader, tmp_path / "root", str(path))
    first = prepare(config, quiet)
    assert said(config) == []

    times = (folder / f"a{suffix}").stat()
    os.utime(folder / f"a{suffix}", ns=(times.st_atime_ns, times.st_mtime_ns + 10**9))
    (line,) = said(config)
    assert f"1 file is of the same size with another modification time (edited, or copied) ({folder}/a{suffix})" in line
    assert "--again" in line
    os.utime(folder / f"a{suffix}", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert said(config) == []

    extra = folder / f"c{suffix}"
    shutil.copy(folder / f"a{suffix}", extra)
    (line,) = said(config)
    assert line.startswith(f"warning: the files of 'web' changed since they were prepared: 1 file is new ({extra})")
    extra.unlink()
    (folder / f"b{suffix}").rename(tmp_path / f"b{suffix}")
    (line,) = said(config)
    assert f"1 file is gone ({folder}/b{suffix})" in line
    (tmp_path / f"b{suffix}").rename(folder / f"b{suffix}")
    with (folder / f"b{suffix}").open("ab") as file:
        file.write(b"\n")
    (line,) = said(config)
    assert f"1 file is of another size ({folder}/b{suffix})" in line
    assert prepare(config, quiet) == first


def test_a_link_that_points_elsewhere_is_announced_and_another_spelling_is_not(tmp_path: Path) -> None:
    for name, word in (("v1", "tree"), ("v2", "stone")):
        (tmp_path / name).mkdir()
        jsonl(tmp_path / name, "x", word)
    link = tmp_path / "current"
    link.symlink_to("v1")
    config = config_of("jsonl", tmp_path / "root", str(link))
    prepare(config, quiet)
    link.unlink()
    link.symlink_to("v2")
    (line,) = said(config)
    assert f"1 file is new ({tmp_path}/v2/x.jsonl); 1 file is gone ({tmp_path}/v1/x.jsonl)" in line


def test_a_target_and_a_tokenizer_are_compared_too(tmp_path: Path) -> None:
    save_tokenizer(tmp_path / "tokenizer")
    config = DataConfig(
        "own",
        str(tmp_path / "root"),
        domains={"web": write_jsonl(tmp_path / "a.jsonl", sentences("tree", 60))},
        targets={"held": write_jsonl(tmp_path / "b.jsonl", sentences("river", 60))},
        tokenizer=TokenizerConfig("pretrained", path=str(tmp_path / "tokenizer")),
    )
    prepare(config, quiet)
    assert said(config) == []
    write_jsonl(tmp_path / "b.jsonl", sentences("lake", 61))
    (tmp_path / "tokenizer" / "notes.txt").write_text("x")
    held, tokenizer = said(config)
    assert "the files of 'held' changed" in held
    assert (
        f"the files of the tokenizer changed since they were prepared: 1 file is new ({tmp_path}/tokenizer" in tokenizer
    )


def test_files_that_are_not_on_this_machine_are_a_note(tmp_path: Path) -> None:
    config = config_of("jsonl", tmp_path / "root", str(tmp_path / "in"))
    (tmp_path / "in").mkdir()
    jsonl(tmp_path / "in", "a", "tree")
    first = prepare(config, quiet)
    shutil.rmtree(tmp_path / "in")
    (line,) = said(config)
    assert line.startswith("note: the files of 'web' are not on this machine")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        prepare(config, quiet, again=True)
    verify(first)  # what was there is still there
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").symlink_to("gone")
    (line,) = said(config)
    assert line.startswith("note: the files of 'web' are not on this machine")


files = st.dictionaries(st.sampled_from("abcdefgh"), st.tuples(st.integers(0, 2), st.integers(0, 2)))


@given(before=files, now=files)
def test_there_are_no_changes_exactly_where_files_are_identical(
    before: dict[str, Fingerprint], now: dict[str, Fingerprint]
) -> None:
    changes = file_changes(before, now)
    assert (not changes) == (before == now)
    n = sum(int(line.split()[0]) for line in changes)
    assert n == sum(before.get(path) != now.get(path) for path in before.keys() | now.keys())


def test_long_lists_of_files_are_cut() -> None:
    (line,) = file_changes({}, {f"/in/{i:04d}": (1, 1) for i in range(1200)})
    assert line == "1,200 files are new (/in/0000, /in/0001, /in/0002 and 1,197 more)"


# Again


def test_again_reads_the_files_anew_and_says_which_tokens_changed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    jsonl(tmp_path / "in", "a", "tree")
    config = config_of("jsonl", tmp_path / "root", str(tmp_path / "in"))
    config.domains["other"] = write_jsonl(tmp_path / "b.jsonl", sentences("cloud", 60))
    first, lines = prepare(config, quiet), list[str]()
    jsonl(tmp_path / "in", "b", "stone")
    second = prepare(config, lines.append, again=True)
    assert lines[-1].startswith("prepared again: the tokens changed in web; runs on these data get new ids")
    assert second.folder == first.folder
    assert second.entry("web")["counts"]["n_documents"] == 120
    verify(second)
    assert said(config) == []
    again = prepare(config, lines.append, again=True)
    assert lines[-1] == "prepared again: the tokens are the same as before, so run ids do not change"
    assert hashes(again) == hashes(second)
    assert os.listdir(tmp_path / "root" / "prepared") == [config.folder.name]


def test_again_repairs_a_damaged_folder_and_keeps_a_whole_one_where_it_fails(tmp_path: Path) -> None:
    config = config_of("jsonl", tmp_path / "root", str(write_jsonl(tmp_path / "a.jsonl", sentences("tree", 60)).path))
    first = prepare(config, quiet)
    (first.folder / "web" / "eval-00000.tokens").unlink()
    with pytest.raises(DataError, match="is missing"):
        prepare(config, quiet)
    whole = prepare(config, quiet, again=True)
    verify(whole)
    (tmp_path / "a.jsonl").write_bytes(b"broken")
    with pytest.raises(DataError, match="JSON parse error"):
        prepare(config, quiet, again=True)
    verify(open_manifest(config.folder))
    assert os.listdir(tmp_path / "root" / "prepared") == [config.folder.name]


def test_again_never_takes_the_place_of_a_folder_that_is_not_ours(tmp_path: Path) -> None:
    config = config_of("jsonl", tmp_path / "root", str(write_jsonl(tmp_path / "a.jsonl", sentences("tree", 60)).path))
    config.folder.mkdir(parents=True)
    (config.folder / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="has no manifest"):
        prepare(config, quiet, again=True)
    assert os.listdir(config.folder) == ["notes.txt"]


def test_the_command_takes_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", sentences("tree", 60))
    args = ["~data.domains", "~data.targets", f"+data.domains.own={{reader:jsonl,path:{source.path}}}"]
    args += [f"data.root={tmp_path}", "data.name=tiny"]
    assert main(args) == 0
    write_jsonl(tmp_path / "a.jsonl", sentences("tree", 90))
    assert main(args) == 0
    assert "--again reads the files anew" in capsys.readouterr().err
    assert main([args[0], "--again", *args[1:]]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[1].split()[:3] == ["own", "train", "90"]
    assert "prepared again" in captured.err


# What is said where nothing is prepared


def test_folders_with_the_same_settings_elsewhere_are_named(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        jsonl(tmp_path / name, "a", "tree")
    old, new = (config_of("jsonl", tmp_path / "root", str(tmp_path / name)) for name in ("old", "new"))
    assert how_to_prepare(new) == "run `python -m data.prepare data=own`"
    folder = prepare(old, quiet).folder
    assert f"{folder} has the same settings" in how_to_prepare(new)
    assert f"rename it to {new.folder.name}" in how_to_prepare(new)
    folder.rename(new.folder)
    assert hashes(prepare(new, quiet))
    new.min_chars = 4
    assert how_to_prepare(new) == "run `python -m data.prepare data=own`"


def test_folders_of_the_time_when_targets_were_split_are_named(tmp_path: Path) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", sentences("tree", 90))
    target = write_jsonl(tmp_path / "b.jsonl", sentences("river", 90))
    config = DataConfig("own", str(tmp_path), {"web": source}, {"held": target}, split_targets=True)
    folder = prepare(config, quiet).folder
    config.split_targets = False
    assert config.folder != folder
    assert f"or set data.split_targets=true to continue with {folder}" in how_to_prepare(config)


def test_settings_that_change_nothing_keep_the_folder(tmp_path: Path) -> None:
    plain = DataConfig("own", str(tmp_path), {"web": SourceConfig("text", path="/in")})
    split = DataConfig("own", str(tmp_path), {"web": SourceConfig("text", path="/in")}, split_targets=True)
    short = DataConfig("own", str(tmp_path), {"web": SourceConfig("text", path="/in")}, min_chars=32)
    assert plain.identity == split.identity == short.identity
    tokens = TokenizerConfig("given", 99, end_id=7)
    counted = [DataConfig("own", tokenizer=tokens, min_chars=least).identity for least in (None, 8, 32)]
    assert len(set(counted)) == 3


def test_datasets_of_the_hub_without_a_commit_are_noted(tmp_path: Path) -> None:
    def config(revision: str, path: str = "org/name") -> DataConfig:
        return DataConfig("own", domains={"web": SourceConfig("hub", path=path, hub=HubConfig(revision=revision))})

    assert unpinned(config("0123456789" * 4)) == []
    assert unpinned(config("", str(tmp_path))) == []
    assert "data.domains.web.hub.revision is not set, so org/name may change" in unpinned(config(""))[0]
    assert "hub.revision is main" in unpinned(config("main"))[0]
    assert unpinned(compose_config(["data=dclm"]))


def test_a_folder_that_was_prepared_with_a_cutting_tokenizer_is_noted(tmp_path: Path) -> None:
    save_tokenizer(tmp_path / "theirs")
    source = write_jsonl(tmp_path / "a.jsonl", sentences("tree", 60))
    tokenizer = TokenizerConfig("pretrained", path=str(tmp_path / "theirs"))
    config = DataConfig("own", str(tmp_path / "root"), {"web": source}, tokenizer=tokenizer)
    path = prepare(config, quiet).folder / "tokenizer.json"
    facts = json.loads(path.read_text())
    facts["truncation"] = {"direction": "Right", "max_length": 8, "strategy": "LongestFirst", "stride": 0}
    path.write_text(json.dumps(facts))
    (line,) = said(config)
    assert "was prepared with the tokenizer's truncation on" in line
