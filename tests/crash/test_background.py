"""Checkpoints that are written while training goes on: what happens to such runs costs one checkpoint more at most."""

import signal
from functools import partial

import pytest

from tests.crash.conftest import BEHIND, SHARDED, Cases
from tests.crash.harm import DIED, break_operation
from tests.crash.harness import FINISHED, Case
from tests.crash.test_files import HOW, harmed_at
from tests.crash.test_kills import strike


@pytest.fixture
def behind(cases: Cases) -> Case:
    """Return a run whose checkpoints are written behind its training."""
    return cases(*BEHIND)


@pytest.mark.slow
@pytest.mark.parametrize("how", HOW)
def test_an_operation_of_a_run(how: str, behind: Case) -> None:
    for n in (3, 11, 24):
        assert harmed_at(behind, n, how)


@pytest.mark.slow
def test_kills(behind: Case) -> None:
    strike(behind, signal.SIGKILL, 6, seed=3)


def test_warnings(behind: Case) -> None:
    strike(behind, signal.SIGUSR2, 2, seed=4)


@pytest.mark.crash
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("how", HOW)
def test_every_operation_of_a_whole_run(how: str, behind: Case) -> None:
    n = 1
    while harmed_at(behind, n, how):
        n += 1
    assert n > {"before": 100, "after": 100, "halfway": 25, "full": 30}[how]


@pytest.mark.crash
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_many_signals(number: int, behind: Case) -> None:
    strike(behind, number, 40, seed=30)


@pytest.mark.slow
@pytest.mark.parametrize(("how", "rank", "n"), [("before", 0, 30), ("after", 1, 6), ("full", 1, 3)])
def test_an_operation_of_two_ranks_with_shards(how: str, rank: int, n: int, cases: Cases) -> None:
    case = cases(*SHARDED, "machine.background_saves=true", n_ranks=2)
    end = case.attempt(partial(break_operation, n, how), rank)
    assert end.codes != (FINISHED, FINISHED)
    assert how == "full" or end.codes[rank] == DIED, end.said
    case.finish()
