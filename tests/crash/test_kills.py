"""Signals at random moments; the same command again ends with the bytes of a run that was left alone."""

import random
import signal
from pathlib import Path

import pytest

from tests.crash.conftest import Cases
from tests.crash.harness import AGAIN, FINISHED, Case
from tests.marks import slow
from train.checkpoint import newest_checkpoint


def strike(case: Case, number: int, n_wanted: int, seed: int) -> None:
    """Send a signal at random moments until enough of them hit; when a run comes to its end, begin anew."""
    rng, n_hits = random.Random(seed), 0
    while n_hits < n_wanted:
        end = case.struck(number, rng.uniform(0, 0.9 * case.duration_s))
        if end.code == FINISHED:
            case.finish()  # nothing is left to do: what it is compared with is what the process above wrote
            continue
        assert end.code in (AGAIN, -number), end.said
        if number == signal.SIGKILL and not (case.folder / ".lock").exists():
            continue  # it had not begun
        if end.code == AGAIN or number == signal.SIGKILL:
            n_hits += 1
            case.counts[f"hits of {signal.Signals(number).name}"] += 1
        if end.code == AGAIN and '"evaluation_pending": true' in (newest(case) / "state.json").read_text():
            case.counts["stops inside an evaluation"] += 1
        if list(case.checkpoints.glob(".tmp-*")):
            case.counts["half-written checkpoints left behind"] += 1
    case.finish()


def newest(case: Case) -> Path:
    found = newest_checkpoint(case.checkpoints)
    assert found  # who stops in order has saved
    return found


@pytest.mark.parametrize("n", [2, slow(13)])
def test_kills(n: int, case: Case) -> None:
    strike(case, signal.SIGKILL, n, seed=1)


@pytest.mark.slow
def test_kills_of_finetuning(pretrained: Path, cases: Cases) -> None:
    strike(cases(f"init_from={pretrained}", "mixture.weights={code:0.9,docs:0.1}"), signal.SIGKILL, 6, seed=3)


@pytest.mark.parametrize("number", [signal.SIGTERM, slow(signal.SIGUSR2)])
def test_warnings(number: int, averaged: Case) -> None:
    strike(averaged, number, 2, seed=2)


@pytest.mark.crash
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(5))
def test_many_kills(seed: int, case: Case) -> None:
    strike(case, signal.SIGKILL, 50, seed=10 + seed)


@pytest.mark.crash
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_many_warnings(number: int, case: Case) -> None:
    strike(case, number, 25, seed=20)
