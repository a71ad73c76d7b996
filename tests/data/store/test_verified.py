"""Each file of prepared data is hashed once, whoever asks, and whatever interrupts it."""

import fcntl
import json
import multiprocessing
import shutil
import threading
from collections import Counter
from pathlib import Path

import pytest

from data.prepare import prepare
from data.store import verified
from data.store.tokens import Manifest, open_manifest
from data.store.verified import LOCK, NOTE, note_verified, unverified, verify_touched
from mixlaw.errors import DataError
from tests.data.tiny import tiny_config
from tests.train.tiny import write_corpus


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    return write_corpus(tmp_path_factory.mktemp("good"), {"code": "train", "wiki": "target"}, n_tokens=4000)


@pytest.fixture
def copied(good: Manifest, tmp_path: Path) -> Manifest:
    return open_manifest(Path(shutil.copytree(good.folder, tmp_path / "copy")))


def files_of(manifest: Manifest) -> set[str]:
    return {f"{p.parent.name}/{p.name}" for p in manifest.folder.rglob("*-0*") if p.is_file()}


def noted(manifest: Manifest) -> Counter[str]:
    """Return how often each file was noted."""
    return Counter(json.loads(line)[0] for line in (manifest.folder / NOTE).read_bytes().splitlines() if line)


def damage(path: Path) -> bytes:
    raw = path.read_bytes()
    path.write_bytes(bytes([raw[0] ^ 1]) + raw[1:])
    return raw


def test_only_files_that_were_touched_are_read_again(copied: Manifest) -> None:
    assert verify_touched(copied)
    once = dict.fromkeys(files_of(copied), 1)
    assert noted(copied) == once
    assert verify_touched(copied)
    assert noted(copied) == once
    path = min(copied.folder.rglob("*.tokens"))
    raw = damage(path)
    for _ in range(2):
        with pytest.raises(DataError, match=f"{path.name} is missing or differs"):
            verify_touched(copied)
    assert noted(copied) == once  # what is wrong is never noted as right
    path.write_bytes(raw)
    assert verify_touched(copied)
    assert noted(copied) == once | {f"{path.parent.name}/{path.name}": 2}


def test_a_check_that_ends_early_goes_on_where_it_was(copied: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verified, "MAX_THREADS", 1)  # several could finish all files before it is asked to stop
    n_files = len(files_of(copied))
    assert not verify_touched(copied, stopped=lambda: len(unverified(copied)) <= n_files // 2)
    left = {path for path, _ in unverified(copied)}
    assert 0 < len(left) <= n_files // 2
    path = max(left)
    raw = damage(path)
    with pytest.raises(DataError, match=path.name):
        verify_touched(copied)
    path.write_bytes(raw)
    assert verify_touched(copied)
    assert noted(copied) == dict.fromkeys(files_of(copied), 1)  # none was read twice


@pytest.mark.parametrize("left", ["", '["code/train-00000.tokens", "', '["code/train-00000.tokens", "", 1, 2, 3]'])
def test_a_note_that_was_cut_or_is_of_other_files_counts_for_nothing(left: str, copied: Manifest) -> None:
    (copied.folder / NOTE).write_text(left)
    assert len(unverified(copied)) == len(files_of(copied))
    assert verify_touched(copied)
    assert unverified(copied) == []


def verify_when_told(folder: Path, barrier: "threading.Barrier") -> None:
    barrier.wait()
    verify_touched(open_manifest(folder))


def test_of_processes_that_verify_at_once_each_file_is_read_by_one(copied: Manifest) -> None:
    context = multiprocessing.get_context("forkserver")
    barrier = context.Barrier(3)
    processes = [context.Process(target=verify_when_told, args=(copied.folder, barrier)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert noted(copied) == dict.fromkeys(files_of(copied), 1)


def test_a_process_waits_for_another_that_verifies_and_can_be_stopped_meanwhile(copied: Manifest) -> None:
    said: list[str] = []
    with (copied.folder / LOCK).open("a") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert not verify_touched(copied, said.append, stopped=lambda: bool(said))
    assert said == [f"another process verifies {copied.folder}: waiting for it"]
    assert len(unverified(copied)) == len(files_of(copied))
    assert verify_touched(copied)


def test_a_folder_that_cannot_be_written_is_verified_all_the_same(copied: Manifest) -> None:
    for name in (NOTE, LOCK):
        (copied.folder / name).mkdir()  # nobody, root neither, writes into these
    assert verify_touched(copied)
    assert len(unverified(copied)) == len(files_of(copied))
    next(copied.folder.rglob("*.starts")).unlink()
    with pytest.raises(DataError, match="is missing"):
        verify_touched(copied)


def test_files_that_were_written_and_hashed_just_now_are_noted_unread(copied: Manifest) -> None:
    note_verified(copied)
    assert unverified(copied) == []


def test_prepared_data_are_verified_once_where_they_were_written_and_where_they_were_brought(tmp_path: Path) -> None:
    said: list[str] = []
    here = prepare(tiny_config(tmp_path / "here"), said.append)
    assert unverified(here) == []
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    config = tiny_config(tmp_path / "there")
    there = open_manifest(config.folder)
    assert len(unverified(there)) == len(files_of(there))
    assert unverified(prepare(config, said.append)) == []
    damage(min(there.folder.rglob("*.tokens")))
    with pytest.raises(DataError, match="differs from its manifest"):
        prepare(config, said.append)
