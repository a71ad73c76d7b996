"""Next runs with phases: rows of branches, what conditioning on them removes, costs, and chosen against random runs."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.advice.constraints import Question
from mixlaw.advice.decision import Decision
from mixlaw.advice.design import Size
from mixlaw.advice.next_runs import branching_from, choose, trained
from mixlaw.advice.next_worth import next_worth
from mixlaw.advice.phase_candidates import phase_candidates
from mixlaw.advice.posterior import curves, posterior_of
from mixlaw.counts import flops
from mixlaw.fitting.saved import FittedLaws
from mixlaw.tables.table import Table
from tests.marks import examples, slow
from tests.mixlaw.synthetic import DOMAINS, SIZES, TOKENS, laws_of, phase_study

LAW = "multiplicative-phases"
BIG = Question(1e9, 1e11, {"main": 1.0})
POINTS = (5, 1.4)
SIZE = Size("m", SIZES[0], TOKENS[-1])
WEIGHTS = [f"weight_{d}" for d in DOMAINS]


@pytest.fixture(scope="module")
def table() -> Table:
    return phase_study(LAW, noise=0.01, n_mixtures=8, n_phased=10)


@pytest.fixture(scope="module")
def laws(table: Table) -> FittedLaws:
    return laws_of(table, LAW, n_bootstrap=20, n_starts=8)


def decision(laws: FittedLaws, table: Table) -> Decision:
    return Decision(laws.best, BIG, {}, table, POINTS, (0.75, 1.0))


def offered(asked: Decision, table: Table) -> pd.DataFrame:
    """Return candidates at the smallest size, some of which branch from static runs of the study."""
    last = table.frame.sort_values("n_tokens").groupby("run_id").tail(1)
    static = last[last["until@1"].isna() & (last["n_params"] == SIZE.n_params)].round(dict.fromkeys(WEIGHTS, 2)).head(3)
    static[WEIGHTS[0]] = 1 - static[WEIGHTS[1]] - static[WEIGHTS[2]]
    trunks = pd.concat([static.assign(**{"until@1": t, "model": "m"}) for t in (0.5, 0.75)])
    return phase_candidates(DOMAINS, [SIZE], asked.contenders, asked.phases, trunks, (0.5, 0.75))


def test_candidates_are_static_runs_branches_of_the_study_and_new_pairs(laws: FittedLaws, table: Table) -> None:
    found = offered(decision(laws, table), table)
    two, branch = found["until@1"].notna(), found["n_taken"] > 0
    assert (~two).any()
    assert branch.any()
    assert (two & ~branch).any()
    assert np.allclose(found["flops"], flops(found["n_params"], found["n_tokens"] - found["n_taken"]))
    assert np.allclose(found["n_taken"][branch], (found["until@1"] * found["n_tokens"])[branch])
    for columns in (WEIGHTS, *([f"{w}@{p}" for w in WEIGHTS] for p in (1, 2))):
        assert np.allclose(found[columns].sum(axis=1)[two if "@" in columns[0] else slice(None)], 1)


@given(until=st.sampled_from([0.3, 0.5, 0.75]), branches=st.booleans())
def test_the_rows_of_a_pair_are_those_of_the_run_so_far(until: float, branches: bool) -> None:
    run = {"n_params": 1.0, "n_tokens": 1000.0, "until@1": until, "n_taken": branches * until * 1000}
    first, second = (0.2, 0.8), (0.6, 0.4)
    cells = {f"weight_{d}@{p}": h[i] for p, h in ((1, first), (2, second)) for i, d in enumerate("ab")}
    whole = {f"weight_{d}": until * first[i] + (1 - until) * second[i] for i, d in enumerate("ab")}
    rows = curves(pd.DataFrame([run | cells | whole]), (7, 1.3))
    share = rows["n_tokens"] / 1000
    read = np.minimum(share, until) * 0.2 + np.maximum(share - until, 0) * 0.6
    assert np.allclose(rows["weight_a"] * share, read)
    assert np.allclose(rows["until@1"] * share, np.minimum(share, until))
    assert (rows["until@2"].notna() == (share > until)).all()
    assert (share.min() > until) == branches
    assert share.max() == 1


def test_the_gain_of_a_branch_is_the_variance_that_conditioning_on_it_removes(laws: FittedLaws, table: Table) -> None:
    asked = decision(laws, table)
    some = offered(asked, table)
    some = pd.concat([some.head(2), some[some["n_taken"] > 0].tail(2)], ignore_index=True)
    part, (offer,) = asked.parts[0], asked.whitened(some)
    before, gain = part.variance(), part.gain(offer)
    after = posterior_of(laws.best, table, "main").given(some.iloc[[3]], DOMAINS, POINTS)
    part.update(offer[:, :, 3])
    assert before - part.variance() == pytest.approx(gain[3], rel=1e-5)
    assert np.allclose(part.posterior.covariance, after.covariance, rtol=1e-4, atol=1e-9)


def spent(asked: Decision, runs: pd.DataFrame, order: list[int], most: float) -> float:
    """Return the sd after the runs that fit into a budget of `most` FLOPs, taken in this order."""
    total = 0.0
    for i in order:
        cost = float(runs["flops"].iloc[i])
        if total + cost <= most:
            total += cost
            for part, offer in zip(asked.parts, asked.whitened(runs.iloc[[i]]), strict=True):
                part.update(offer[:, :, 0])
            runs = branching_from(runs, i, DOMAINS)
    return asked.sd()


@pytest.mark.parametrize("seed", [0, *map(slow, range(1, 6))])
def test_chosen_runs_narrow_the_decision_more_than_random_ones_of_the_same_cost(seed: int) -> None:
    table = phase_study(LAW, noise=0.01, seed=seed, n_mixtures=8, n_phased=10)
    laws = laws_of(table, LAW, n_bootstrap=20, n_starts=8)
    asked = decision(laws, table)
    runs = offered(asked, table)
    proposal = choose(asked, runs, 5)
    sd = proposal.runs[["sd_before", "sd_after"]].to_numpy()
    assert (sd[:, 1] < sd[:, 0]).all()
    assert proposal.runs["until@1"].notna().any()
    rng, most = np.random.default_rng(seed), float(proposal.runs["flops"].sum())
    fresh = [spent(decision(laws, table), runs, rng.permutation(len(runs))[:40].tolist(), most) for _ in range(4)]
    assert sd[-1, 1] < min(fresh)


def test_the_worth_of_phases_is_at_most_the_regret(laws: FittedLaws, table: Table) -> None:
    asked = decision(laws, table)
    worth = next_worth(laws, BIG, choose(asked, offered(asked, table), 3))
    assert 0 < worth.gain <= worth.regret
    assert 0 < (worth.saved or 0) < 1


@given(order=st.permutations(range(4)))
@examples(24)
def test_runs_with_one_beginning_cost_the_same_in_every_order(order: list[int]) -> None:
    until = np.array([np.nan, 0.3, 0.6, 0.6])
    runs = pd.DataFrame({"n_params": 1.0, "n_tokens": 100.0, "n_taken": 0.0, "flops": 600.0}, range(4))
    runs[["weight_a", "weight_b", "weight_a@1", "weight_b@1"]] = 0.5
    runs = runs.assign(**{"weight_a@2": [0.5, 1.0, 0.0, 0.9], "weight_b@2": [0.5, 0.0, 1.0, 0.1]})
    runs = runs.assign(**{"until@1": until, "until@2": np.where(np.isnan(until), np.nan, 1.0)})
    total = 0.0
    for i in order:
        total += runs["flops"].iloc[i]
        runs = branching_from(runs, i, ["a", "b"])
    assert total == pytest.approx(600 + 6 * (70 + 40 + 40))


def test_pairs_that_were_trained_are_known_by_both_phases_and_the_switch(table: Table) -> None:
    last = table.frame.sort_values("n_tokens").groupby("run_id").tail(1)
    same = last[last["until@1"].notna()].head(3).drop(columns=["run_id", "row", "loss_main"])
    later = same.assign(**{"until@1": same["until@1"] + 0.1})
    other = same.assign(**{f"{WEIGHTS[0]}@2": same[f"{WEIGHTS[1]}@2"], f"{WEIGHTS[1]}@2": same[f"{WEIGHTS[0]}@2"]})
    static = same.assign(**{"until@1": np.nan} | {f"{w}@{p}": np.nan for w in WEIGHTS for p in (1, 2)})
    assert trained(pd.concat([same, later, other, static]), table).tolist() == [True] * 3 + [False] * 9
