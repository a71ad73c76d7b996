"""Two ranks that hold shards: one dies at any file operation, the other must not hang, and nothing is lost."""

from functools import partial

import pytest

from mixlaw.errors import CheckpointError, RunLogError
from tests.crash.conftest import PHASED, POOLED, SHARDED, Cases
from tests.crash.harm import DIED, break_operation
from tests.crash.harness import FINISHED, Case
from tests.marks import slow

STEP = 4  # the second save of three


@pytest.fixture
def sharded(cases: Cases) -> Case:
    """Return a run of two ranks whose checkpoints are shards."""
    return cases(*SHARDED, n_ranks=2)


def harmed_at(case: Case, n: int, how: str, rank: int, n_tokens: int = 0) -> bool:
    """Let the n-th operation of a rank go wrong, then have the run end well; say whether there was such one."""
    end = case.attempt(partial(break_operation, n, how, n_tokens), rank)
    finished = end.codes == (FINISHED, FINISHED)
    if not finished:
        refused = (RunLogError.exit_code, CheckpointError.exit_code)
        assert end.codes[rank] in (refused if how == "full" else (DIED,)), end.said
        case.counts["full disks of a rank" if how == "full" else f"deaths of a rank {how} a file operation"] += 1
    case.finish()
    return not finished


@pytest.mark.parametrize(("how", "rank", "n"), [("before", 0, 4), slow("halfway", 1, 1), slow("full", 1, 1)])
def test_an_operation_of_a_save(how: str, rank: int, n: int, sharded: Case) -> None:
    assert harmed_at(sharded, n, how, rank, STEP * sharded.plan.tokens_per_step)


@pytest.mark.slow  # phases without ranks: test_chains
def test_a_save_before_and_one_after_the_end_of_a_phase(cases: Cases) -> None:
    phased = cases(*SHARDED, *PHASED, n_ranks=2)
    assert [phase.end for phase in phased.plan.phases] == [2, 3, 6]
    for step in (2, STEP):
        assert harmed_at(phased, 4, "before", 0, step * phased.plan.tokens_per_step)


@pytest.mark.slow
def test_every_save_of_a_run_that_repeats_its_pools(cases: Cases) -> None:
    pooled = cases(*SHARDED, *POOLED, n_ranks=2)
    read = pooled.plan.stream().tokens_by_domain(STEP)
    assert read["docs"] > pooled.plan.pool_tokens()["docs"]  # what is saved second lies behind a wrap
    for step, rank in ((2, 0), (STEP, 1)):
        assert harmed_at(pooled, 4, "before", rank, step * pooled.plan.tokens_per_step)


@pytest.mark.crash
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("how", ["before", "after", "halfway", "full"])
def test_every_operation_of_a_whole_run(how: str, rank: int, sharded: Case) -> None:
    n = 1
    while harmed_at(sharded, n, how, rank):
        n += 1
    assert n > {"before": 20, "after": 20, "halfway": 6, "full": 6}[how]
