"""The run that everything happens to."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from data.store.tokens import SPLITS, token_dtype, write_manifest, write_split
from tests.crash.harness import Artefacts, Case
from tests.train.tiny import TINY
from train.compose import compose_config, plan_run
from train.loop import run

SETTINGS = [
    "schedule.n_tokens=1536",  # 24 steps of 4 sequences
    "checkpoint.every_steps=2",
    "evaluation.n_points=6",
    "evaluation.n_sequences=4",
    "mixture.weights={code:0.6,docs:0.4}",
    "stream.max_epochs=100",
]
AVERAGED = ["evaluation.average=0.3"]
BEHIND = [*AVERAGED, "machine.background_saves=true", "schedule.n_tokens=640"]  # 10 steps
SHARDED = [*AVERAGED, "machine.parallel=fsdp", "schedule.n_tokens=384", "evaluation.n_points=3"]  # 6 steps
PHASED = [  # the mixture changes between saves (every second step), and in the middle
    "mixture.weights=null",
    "mixture.phases=[{until:0.3,weights:{code:1}},{until:0.5,weights:{code:0.3,docs:0.7}},{until:1,weights:{docs:1}}]",
]
POOLED = ["stream.unique_tokens={code:240,docs:64}"]  # 15 and 4 sequences, of which a run reads 58 and 38
DOMAINS = {  # role, documents, tokens in each, tokens in a shard
    "code": ("train", 30, 100, 250),
    "docs": ("train", 20, 8, 8),  # nine sequences, each of which crosses the ends of two shards or more
    "reviews": ("target", 10, 20, 1000),
}
Cases = Callable[..., Case]


def write_corpus(folder: Path) -> None:
    """Write a prepared folder: a large domain, a small one that a run reads several times, and a target."""
    rng, domains = np.random.default_rng(0), {}
    for name, (role, n_documents, n_tokens, shard_tokens) in DOMAINS.items():
        splits = {}
        for split in SPLITS:
            documents = rng.integers(0, 256, (n_documents, n_tokens)) if (role, split) != ("target", "train") else []
            splits[split] = write_split(folder / name, split, documents, token_dtype(256), shard_tokens)
        domains[name] = {"role": role, "splits": splits}
    tokenizer = {"kind": "bytes", "vocab_size": 256, "end_id": 0, "sha256": "0" * 64}
    write_manifest(folder, {"format": 1, "tokenizer": tokenizer, "domains": domains})


@pytest.fixture(scope="session")
def crash_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data.root whose quick start is that corpus."""
    root = tmp_path_factory.mktemp("data")
    write_corpus(compose_config([f"data.root={root}"]).data.folder)
    return root


@pytest.fixture(scope="session")
def learned() -> dict[tuple[str, ...], tuple[Artefacts, float]]:
    """Return what runs of some settings leave, and how long they take, as far as it is known."""
    return {}


@pytest.fixture
def cases(
    crash_root: Path,
    tmp_path: Path,
    learned: dict[tuple[str, ...], tuple[Artefacts, float]],
    request: pytest.FixtureRequest,
) -> Iterator[Cases]:
    """Return a maker of cases from overrides and a number of ranks; report in the end what happened to them."""
    made = []

    def make(*overrides: str, n_ranks: int = 1) -> Case:
        places = [f"data.root={crash_root}", f"machine.runs={tmp_path / 'runs'}"]
        case = Case([*TINY, *SETTINGS, *overrides, *places], n_ranks)
        if overrides not in learned:
            case.learn()
            learned[overrides] = case.reference, case.duration_s
        case.reference, case.duration_s = learned[overrides]
        made.append(case)
        return case

    yield make
    for what, n in sum((case.counts for case in made), Counter()).items():
        request.node.user_properties.append((what, n))


@pytest.fixture(params=[[], AVERAGED], ids=["raw", "averaged"])
def case(request: pytest.FixtureRequest, cases: Cases) -> Case:
    """Return a run whose evaluations are of its weights, and one where they are of their average."""
    return cases(*request.param)


@pytest.fixture(scope="session")
def pretrained(crash_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run, whose weights others start from."""
    places = [f"data.root={crash_root}", f"machine.runs={tmp_path_factory.mktemp('pretrained')}"]
    plan = plan_run(compose_config([*TINY, *SETTINGS, *places]))
    assert run(plan) == "finished"
    return plan.folder


@pytest.fixture
def averaged(cases: Cases) -> Case:
    """Return the run that has more to lose."""
    return cases(*AVERAGED)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how often what happened."""
    counts: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "teardown" and "tests/crash" in report.nodeid:
                counts.update(dict(report.user_properties))
    if counts:
        terminalreporter.write_sep("-", "crashes")
        for what, n in sorted(counts.items()):
            terminalreporter.write_line(f"{n:7,} {what}")
