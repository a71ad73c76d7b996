"""Chains of deaths: a run that is resumed many times ends as one that was never stopped."""

import random
import signal
from functools import partial

import pytest

from tests.crash.conftest import AVERAGED, PHASED, POOLED, Cases
from tests.crash.harm import die_at
from tests.crash.harness import Case
from tests.marks import slow


def tender_steps(case: Case) -> dict[str, set[int]]:
    """Return the steps where something special happens, by what it is."""
    plan, stream = case.plan, case.plan.stream()
    spent = [stream.tokens_by_domain(step)["docs"] for step in range(plan.n_steps + 1)]
    steps = range(1, plan.n_steps + 1)
    return {
        "save": {step for step in steps if plan.saves_after(step)},
        "evaluation": set(plan.evaluation_steps()),
        "epoch wrap": wraps(case, "docs"),
        "shard boundary": {step for step in steps if spent[step] > spent[step - 1]},  # every window of docs crosses one
    }


def wraps(case: Case, domain: str) -> set[int]:
    """Return the steps in which an epoch of a domain, or of its pool, begins after the first one."""
    plan, stream = case.plan, case.plan.stream()
    size = (plan.kinds | plan.pools)[domain].total("n_tokens")
    epochs = [(stream.tokens_by_domain(step)[domain] - 1) // size for step in range(plan.n_steps + 1)]
    return {step for step in range(1, plan.n_steps + 1) if epochs[step] > epochs[step - 1] >= 0}


def test_the_run_has_all_that_can_go_wrong(case: Case) -> None:
    found = tender_steps(case)
    assert {what: len(steps) >= 3 for what, steps in found.items()} == dict.fromkeys(found, True)
    files = case.plan.manifest.entry("docs")["splits"]["train"]["files"]
    assert max(file["n_bytes"] for file in files) <= 2 * 8  # tokens of two bytes, in windows of 17
    assert len(case.plan.manifest.entry("code")["splits"]["train"]["files"]) > 10
    assert len(case.reference) == 3 + bool(case.plan.config.evaluation.average)


def chain(case: Case, n: int, seed: int) -> None:
    """Die n times on purpose at, before or after tender steps; where n is large, several times at one."""
    rng, last = random.Random(seed), case.plan.n_steps
    around = {what: {s + d for s in steps for d in (-1, 0, 1)} for what, steps in tender_steps(case).items()}
    kinds = rng.sample(sorted(around), len(around))
    deaths = sorted(rng.choice(sorted(around[kinds[i % len(kinds)]] & set(range(1, last + 1)))) for i in range(n))
    for step in deaths:
        end = case.attempt(partial(die_at, step * case.plan.tokens_per_step))
        assert end.code == -signal.SIGKILL, end.said
        case.counts["deaths in chains"] += 1
    case.finish()


@pytest.mark.parametrize("n", [slow(1), slow(2), 3, slow(10)])
def test_a_chain_of_deaths(n: int, case: Case) -> None:
    chain(case, n, seed=n)


@pytest.mark.slow
def test_deaths_around_the_ends_of_phases(cases: Cases) -> None:
    case = cases(*AVERAGED, *PHASED)
    ends = [phase.end for phase in case.plan.phases[:-1]]
    assert ends == [7, 12]
    for step in (end + d for end in ends for d in (-1, 0, 1)):
        assert case.attempt(partial(die_at, step * case.plan.tokens_per_step)).code == -signal.SIGKILL
        case.counts["deaths around the ends of phases"] += 1
    case.finish()


@pytest.mark.slow
def test_deaths_around_the_wraps_of_a_pool(cases: Cases) -> None:
    case = cases(*AVERAGED, *POOLED)
    ends = wraps(case, "code")
    assert len(ends) == 3
    for step in sorted({end + d for end in ends for d in (-1, 0, 1)}):
        assert case.attempt(partial(die_at, step * case.plan.tokens_per_step)).code == -signal.SIGKILL
        case.counts["deaths around the wraps of a pool"] += 1
    case.finish()


@pytest.mark.crash
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("seed", range(4))
def test_a_long_chain_of_deaths(seed: int, case: Case) -> None:
    chain(case, 50, seed)
