"""The prepared folder is the same however the work is divided, wherever it is interrupted, and whoever does it."""

import hashlib
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import active_children
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data.config import DataConfig, SourceConfig, TokenizerConfig
from data.preparation.corpus import clean
from data.preparation.inputs import source_files
from data.preparation.parts import divide
from data.preparation.sizes import Sizes
from data.preparation.sources import all_sources
from data.preparation.stages import PARTS, Stages
from data.preparation.work_folder import work_path
from data.preparation.workers import OF_MAIN, in_this_process, worker_processes
from data.prepare import prepare
from data.store.tokens import SPLITS
from mixlaw.errors import DataError
from tests.data.readers.test_images import write_captions
from tests.data.test_prepare import CHECKOUT, contents, decoded, quiet
from tests.data.tiny import sentences, write_jsonl
from tests.marks import examples, slow

TINY = Sizes(
    part=2000, batch=3000, bucket=2000, records=50, small=0
)  # everything is divided, and worker processes are used
TEXTS = [text.strip() for text in sentences("tree", 40)]
documents = st.lists(st.sampled_from(["", "short", *TEXTS]), min_size=1, max_size=30)
pieces = st.builds(Sizes, *[st.integers(1500, 9000)] * 3, records=st.integers(1, 200), small=st.just(1 << 40))


def mixed(root: Path, tokenizer: TokenizerConfig | None = None) -> DataConfig:
    """Return a configuration of two domains, of several files each, and a target that share documents."""
    shared = sentences("river", 30)
    texts = {
        "trees": [*sentences("tree", 200), *sentences("tree", 20), *shared[:10], *sentences("stone", 5)],
        "stones": [*sentences("stone", 150), *sentences("tree", 15), *shared[5:20], "short", ""],
        "rivers": [*shared, *shared[:3], *sentences("bridge", 40)],
    }
    found = {}
    for name, of_domain in texts.items():
        (root / name).mkdir(parents=True)
        for i in range(4):
            write_jsonl(root / name / f"{i}.jsonl", of_domain[i::4])
        found[name] = SourceConfig("jsonl", path=str(root / name))
    target = {"rivers": found.pop("rivers")}
    return DataConfig("mixed", str(root / "cache"), found, target, tokenizer or TokenizerConfig())


def expected(domains: dict[str, list[str]], eval_percent: int) -> tuple[dict[tuple[str, str], list[str]], Counter[str]]:
    """Return the documents of each split by the rules, from a dictionary in memory, and the counts of all domains."""
    owner: dict[bytes, tuple[str, str]] = {}
    counts = Counter[str]()
    for name, texts in domains.items():
        seen = set[bytes]()
        for text in map(clean, texts):
            digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
            reason = "n_empty" if not text else "n_short" if len(text) < 32 else "n_duplicate" if digest in seen else ""
            if not reason:
                seen.add(digest)
                reason = "n_documents" if owner.setdefault(digest, (name, text))[0] == name else "n_in_other_domain"
            counts[reason] += 1
    found: dict[tuple[str, str], list[str]] = {}
    for digest, (name, text) in sorted(owner.items()):
        is_eval = name == "target" or int.from_bytes(digest) % 100 < eval_percent
        found.setdefault((name, "eval" if is_eval else "train"), []).append(text)
    return found, counts


@examples(40)
@given(documents, documents, documents, pieces)
@example(TEXTS[:20], TEXTS[10:], TEXTS[:3] * 2, Sizes(1, 500, 1000, 1, 1 << 40))
def test_documents_are_chosen_as_by_a_dictionary_in_memory(
    target: list[str], one: list[str], two: list[str], sizes: Sizes
) -> None:
    domains = {"target": target, "one": [*sentences("cloud", 30), *one], "two": [*sentences("bird", 30), *two]}
    domains["target"] = [*sentences("river", 2), *target]
    with tempfile.TemporaryDirectory() as name:
        sources = {n: write_jsonl(Path(name) / f"{n}.jsonl", texts) for n, texts in domains.items()}
        targets = {"target": sources.pop("target")}
        config = DataConfig("d", name, sources, targets, eval_percent=40, test_percent=0)
        manifest = prepare(config, quiet, sizes=sizes)
        splits, counts = expected(domains, 40)
        for domain in domains:
            for split in SPLITS:
                assert decoded(manifest, domain, split) == splits.get((domain, split), [])
        found = Counter[str]()
        for domain in domains:
            found.update(manifest.entry(domain)["counts"])
        assert found.pop("n_read") == sum(map(len, domains.values()))
        assert +found == +counts


@pytest.fixture(scope="module", params=["text", "images", slow("alike")])
def whole(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[DataConfig, dict[str, bytes]]:
    """Return a configuration and the contents of its folder, prepared in one piece."""
    root = tmp_path_factory.mktemp("whole")
    config = mixed(root, TokenizerConfig("bpe", 300))
    if request.param == "images":
        shards = {word: write_captions(root / f"{word}.tar", n, word) for word, n in (("cat", 60), ("dog", 40))}
        target = {"pig": write_captions(root / "pig.tar", 12, "pig")}
        config = DataConfig("pictures", str(root / "cache"), shards, target, image_size=4, eval_percent=10)
    if request.param == "alike":
        write_jsonl(root / "trees" / "capitals.jsonl", [t.upper() for t in sentences("stone", 90)])
        config = replace(config, drop_near_duplicates=True, decontaminate_words=5)
    return config, contents(prepare(config, quiet).folder)


@examples(16)
@given(sizes=pieces)
def test_no_size_of_a_piece_changes_a_byte(whole: tuple[DataConfig, dict[str, bytes]], sizes: Sizes) -> None:
    config, before = whole
    with tempfile.TemporaryDirectory() as root:
        assert contents(prepare(replace(config, root=root), quiet, sizes=sizes).folder) == before


@pytest.mark.parametrize("whole", ["text", slow("images"), slow("alike")], indirect=True)
@pytest.mark.parametrize("workers", [slow(1), 2, slow(3)])
def test_no_number_of_workers_changes_a_byte(
    whole: tuple[DataConfig, dict[str, bytes]], workers: int, tmp_path: Path
) -> None:
    config, before = whole
    there = prepare(replace(config, root=str(tmp_path)), quiet, workers=workers, sizes=TINY)
    assert contents(there.folder) == before
    assert os.listdir(tmp_path / "prepared") == [there.folder.name]


def test_the_budget_of_bad_documents_counts_all_parts_of_a_domain(tmp_path: Path) -> None:
    config = mixed(tmp_path)
    for i in (1, 3):
        with (tmp_path / "trees" / f"{i}.jsonl").open("a") as file:
            file.write('{"text": null}\n')
    for _ in range(2):  # the second time, the parts are there already
        with pytest.raises(DataError, match=r"\.jsonl, record \d\d: 'text' is empty.* so far: 2, allowed: 1:"):
            prepare(replace(config, bad_document_budget=1), quiet, workers=1, sizes=TINY)
    sizes = replace(TINY, small=1 << 40)
    with pytest.raises(DataError, match=r"3\.jsonl, record 59: 'text' is empty.* so far: 2, allowed: 1:"):
        prepare(replace(config, bad_document_budget=1, root=str(tmp_path / "here")), quiet, sizes=sizes)
    manifest = prepare(replace(config, bad_document_budget=2), quiet, sizes=sizes)
    assert manifest.entry("trees")["counts"]["n_bad"] == 2


def test_one_bad_document_too_many_is_an_error_after_a_continuation_too(tmp_path: Path) -> None:
    config = mixed(tmp_path)
    for i in (1, 3):
        with (tmp_path / "trees" / f"{i}.jsonl").open("a") as file:
            file.write('{"text": null}\n')
    config = replace(config, bad_document_budget=1)
    files = {name: source_files(source, where) for where, name, source in all_sources(config)}
    parts = divide(config, files, tmp_path / "work" / PARTS, TINY)
    for _ in range(2):
        with pytest.raises(DataError, match="so far: 2, allowed: 1:"):
            Stages(config, tmp_path / "work", TINY, in_this_process, quiet).read(parts)


def test_workers_are_not_interrupted_while_they_start() -> None:
    with worker_processes(1) as run:
        deque(run(time.sleep, [0.0]), 0)
        (worker,) = active_children()
        status = Path(f"/proc/{worker.pid}/status").read_text()
    blocked = int(re.search(r"^SigBlk:\s*(\w+)", status, re.MULTILINE)[1], 16)
    assert all(blocked >> (number - 1) & 1 for number in OF_MAIN)
    assert not set(OF_MAIN) & signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_an_error_of_a_worker_is_that_of_the_reader_and_its_work_is_kept(tmp_path: Path) -> None:
    config, lines = mixed(tmp_path), list[str]()
    whole = (tmp_path / "stones" / "2.jsonl").read_bytes()
    (tmp_path / "stones" / "2.jsonl").write_bytes(b'{"text": "caf\xe9"}\n' + whole)
    with pytest.raises(DataError, match=r"stones/2\.jsonl, record 1: not UTF-8"):
        prepare(config, lines.append, workers=1, sizes=TINY)
    assert lines[-1] == f"the work so far is kept in {work_path(config.folder, False)}: the same command continues"
    (tmp_path / "stones" / "2.jsonl").write_bytes(whole)
    lines.clear()
    there = prepare(config, lines.append, workers=1, sizes=TINY)
    assert re.fullmatch(r"continues: \d+ of \d+ parts were read before", lines[0])
    afresh = prepare(replace(config, root=str(tmp_path / "afresh")), quiet)
    assert contents(there.folder).keys() == contents(afresh.folder).keys()
    assert all(there.domain_sha256(name) == afresh.domain_sha256(name) for name in ("trees", "stones", "rivers"))


CHILD = """
import pickle, sys
from data.prepare import prepare, say
if __name__ == "__main__":
    config, sizes, workers = pickle.load(sys.stdin.buffer)
    prepare(config, say, workers=workers, sizes=sizes)
"""


@contextmanager
def preparing(config: DataConfig, workers: int, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process that prepares a configuration; it and its workers must end within the block, or soon after."""
    script = folder / "child.py"
    script.write_text(CHILD)
    env = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, str(script)], env=env, start_new_session=True, **pipes) as process:
        assert process.stdin is not None
        process.stdin.write(pickle.dumps((config, TINY, workers)))
        process.stdin.close()
        yield process
    end = time.monotonic() + 60
    while is_alive(process.pid):
        assert time.monotonic() < end
        time.sleep(0.05)


def is_alive(group: int) -> bool:
    """Return whether a process of a group runs."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def killed_after(line: str, config: DataConfig, folder: Path) -> None:
    """Start preparing, and kill the process when it says a line."""
    with preparing(config, 2, folder) as process:
        assert process.stderr is not None
        said = next(said for said in process.stderr if said.startswith(line.encode()))
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert said


@pytest.mark.parametrize(
    ("whole", "line"),
    [("text", "read rivers"), slow("text", "learning a BPE"), slow("images", "read pig"), slow("alike", "dropped")],
    indirect=["whole"],
)
def test_a_killed_preparation_continues_and_its_workers_end(
    whole: tuple[DataConfig, dict[str, bytes]], line: str, tmp_path: Path
) -> None:
    config, before = replace(whole[0], root=str(tmp_path)), whole[1]
    killed_after(line, config, tmp_path)
    lines = list[str]()
    assert contents(prepare(config, lines.append, workers=1, sizes=TINY).folder) == before
    assert lines[0].startswith("continues: ")
    assert os.listdir(tmp_path / "prepared") == [config.folder.name]


@pytest.mark.crash
@pytest.mark.parametrize("seed", range(10))
def test_kills_at_any_moment_change_no_byte(
    whole: tuple[DataConfig, dict[str, bytes]], seed: int, tmp_path: Path
) -> None:
    config, before = whole
    config, chance = replace(config, root=str(tmp_path)), random.Random(seed)
    for _ in range(8):
        with preparing(config, chance.choice([1, 2, 3]), tmp_path) as process:
            with suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0.5, 6))
            process.kill()
    assert contents(prepare(config, quiet, workers=1, sizes=TINY).folder) == before
    assert os.listdir(tmp_path / "prepared") == [config.folder.name]


def test_the_work_folder_of_a_process_killed_at_its_end_is_removed(tmp_path: Path) -> None:
    config = mixed(tmp_path)
    before = contents(prepare(config, quiet).folder)
    work = work_path(config.folder, again=False)
    (work / "parts").mkdir(parents=True)
    assert contents(prepare(config, quiet).folder) == before
    assert not work.exists()


def test_ctrl_c_ends_the_workers_and_says_how_to_continue(tmp_path: Path) -> None:
    config = mixed(tmp_path)
    with preparing(config, 2, tmp_path) as process:
        assert process.stderr is not None
        next(said for said in process.stderr if said.startswith(b"read rivers"))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
        said = process.stderr.read().decode()
    assert said.count("Traceback") == 1  # of the caller of `prepare`
    assert f"the work so far is kept in {work_path(config.folder, False)}: the same command continues" in said
    assert "KeyboardInterrupt" in said


@pytest.mark.slow
def test_files_that_changed_since_a_kill_are_read_again(tmp_path: Path) -> None:
    config = mixed(tmp_path)
    killed_after("read rivers", config, tmp_path)
    write_jsonl(tmp_path / "trees" / "0.jsonl", sentences("branch", 60))
    (tmp_path / "stones" / "1.jsonl").unlink()
    there = prepare(config, quiet, sizes=TINY, workers=1)
    afresh = prepare(replace(config, root=str(tmp_path / "afresh")), quiet)
    assert all(there.domain_sha256(name) == afresh.domain_sha256(name) for name in ("trees", "stones", "rivers"))
