"""Which files a folder or a pattern means, and what is told of those that are not read."""

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.config import SourceConfig
from data.preparation.sources import locate
from data.readers.paths import SUFFIXES, find_files, hint_of_big_texts
from mixlaw.errors import DataError


def names_of(path: Path | str, reader: str = "text") -> list[str]:
    return [file.name for file in find_files(SourceConfig(reader, path=str(path)), "data.domains.x")]


def notes_of(path: Path | str, reader: str = "text") -> list[str]:
    notes: list[str] = []
    find_files(SourceConfig(reader, path=str(path)), "data.domains.x", notes.append)
    return notes


def write(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"a text in {name}")
    return folder


def test_links_to_folders_are_followed_and_circles_end(tmp_path: Path) -> None:
    data, scratch = write(tmp_path / "data", "a.txt", "sub/b.txt"), write(tmp_path / "scratch", "c.txt", "deep/d.txt")
    write(tmp_path, "outside.txt")
    (data / "more").symlink_to(scratch)
    (data / "sub" / "again").symlink_to(data)
    (data / "up").symlink_to(tmp_path)
    (scratch / "back").symlink_to(data / "sub")
    expected = ["a.txt", "b.txt", "c.txt", "d.txt"]
    assert sorted(names_of(data)) == expected
    assert sorted(names_of(data / "**" / "*.txt")) == expected
    assert sorted(names_of(data / "**")) == expected
    [note] = notes_of(data)
    told = f"4 files of {data} are read; not read: 3 links to folders that were read already or are above"
    assert note == f"data.domains.x.path: {told}"


def test_a_folder_that_is_reached_twice_is_read_once(tmp_path: Path) -> None:
    data, scratch = write(tmp_path / "data", "a.txt"), write(tmp_path / "scratch", "c.txt")
    for name in ("one", "two"):
        (data / name).symlink_to(scratch)
    (data / "same.txt").symlink_to(data / "a.txt")
    assert sorted(names_of(data)) == sorted(names_of(data / "**/*.txt")) == ["a.txt", "c.txt"]


def test_hidden_files_and_folders_are_skipped_and_counted(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", ".hidden.txt", ".ipynb_checkpoints/a.txt", ".git/deep/b.txt", "sub/.c.txt")
    assert names_of(tmp_path) == names_of(tmp_path / "**/*.txt") == names_of(tmp_path / "*.txt") == ["a.txt"]
    [note] = notes_of(tmp_path)
    assert "2 hidden files" in note
    assert "2 hidden folders" in note
    assert names_of(tmp_path / ".git/**/*.txt") == ["b.txt"]  # asked for by name
    assert names_of(tmp_path / ".*.txt") == [".hidden.txt"]


@pytest.mark.parametrize("reader", SUFFIXES)
def test_the_case_of_suffixes_does_not_count(reader: str, tmp_path: Path) -> None:
    names = [f"{i}{suffix}" for i, suffix in enumerate(SUFFIXES[reader])]
    names += [f"{i}{suffix.upper()}" for i, suffix in enumerate(SUFFIXES[reader], len(names))]
    write(tmp_path, *names, "other.doc")
    assert sorted(names_of(tmp_path, reader)) == sorted(names)
    first = SUFFIXES[reader][0]
    assert len(names_of(tmp_path / f"*{first}", reader)) == 2


def test_what_is_not_read_is_counted_by_suffix(tmp_path: Path) -> None:
    write(tmp_path, "a.jsonl", "b.jsonl.bz2", "c.jsonl.bz2", "sub/d.TXT", "LICENSE")
    [note] = notes_of(tmp_path, "jsonl")
    assert note.startswith(f"data.domains.x.path: 1 file of {tmp_path} is read; not read: 2 .jsonl.bz2 files")
    assert "1 .txt files" in note
    assert "1 files without a suffix" in note
    assert notes_of(tmp_path / "a.jsonl", "jsonl") == []
    with pytest.raises(DataError, match=r"holds no file that ends in \.parquet; there are 2 \.jsonl\.bz2 files"):
        names_of(tmp_path, "parquet")


def test_a_broken_link_that_may_be_a_folder_of_data_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.txt")
    (tmp_path / "gone.log").symlink_to(tmp_path / "nowhere")
    assert names_of(tmp_path) == ["a.txt"]
    (tmp_path / "disk2").symlink_to(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"disk2: is not a file \(a broken link"):
        names_of(tmp_path)


parts = st.sampled_from(["a", "b.txt", "C.TXT", ".h", "d.md", "e", "f.Markdown", "x.jsonl", "[1].txt"])
trees = st.lists(st.lists(parts, min_size=1, max_size=4).map(tuple), min_size=1, max_size=12)


@given(trees, st.lists(st.tuples(parts, parts), max_size=3))
@settings(max_examples=60)
def test_a_folder_and_a_pattern_of_everything_below_it_find_the_same_files(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, ...]], links: list[tuple[str, str]]
) -> None:
    root = tmp_path_factory.mktemp("tree")
    for names in files:
        path = root.joinpath("top", *names)
        if not any(parent.is_file() for parent in path.parents) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
    for name, target in links:  # also to what holds them
        link = root / "top" / f"{name}.link"
        if not os.path.lexists(link) and not target.startswith(".") and (root / "top" / target).is_dir():
            link.symlink_to(root / "top" / target)
    below = [Path(folder) / name for folder, _, names in os.walk(root / "top") for name in names]
    shown = [path for path in below if not any(part.startswith(".") for part in path.relative_to(root).parts)]
    wanted = {path.resolve() for path in shown if path.name.lower().endswith(SUFFIXES["text"])}
    patterns = [f"{root}/top/**/*{suffix}" for suffix in SUFFIXES["text"]]
    assert set().union(*map(files_or_none, patterns)) == files_or_none(f"{root}/top") == wanted


def files_or_none(path: str) -> set[Path]:
    """Return the files of a path, none where there is none."""
    with suppress(DataError):
        return set(find_files(SourceConfig("text", path=path), "x"))
    return set()


def test_paths_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "a.txt")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA", str(tmp_path))
    for path in ("~", "~/a.txt", "~/*.txt", "$DATA", "${DATA}/**/*.txt"):
        assert names_of(path) == ["a.txt"]


def test_a_large_text_gets_the_hint_to_split_it(tmp_path: Path) -> None:
    big, notes = tmp_path / "big.txt", list[str]()
    big.write_text("A paragraph of some words.\n\n" * 50_000)
    locate(SourceConfig("text", path=str(big)), "data.domains.x", tmp_path, notes.append)
    [note] = notes
    assert "reads each file as one document, and there are 1 of 1.4 MB" in note
    assert "awk -v RS=" in note
    assert hint_of_big_texts(SourceConfig("jsonl", path=str(big)), [big]) == ""
    write(tmp_path, "small.txt")
    assert hint_of_big_texts(SourceConfig("text"), [tmp_path / "small.txt"]) == ""
