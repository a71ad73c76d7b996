"""Compute-equivalent gains: equal to algebra where a law has a closed form, and consistent with gains elsewhere."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.advice.constraints import Question
from mixlaw.advice.equivalents import MOST, equivalents, spread_of
from mixlaw.advice.gains import gains
from mixlaw.advice.objective import KNOWN_INPUTS, Objective
from mixlaw.advice.recommend import recommend
from mixlaw.advice.recommendation import Recommendation
from mixlaw.errors import RunLogError
from mixlaw.fitting.differences import Scatter
from mixlaw.laws.jacobian import Array
from mixlaw.laws.registry import LAWS, get_law
from mixlaw.mixture import Mixture
from mixlaw.report.answer_tables import sentences
from mixlaw.report.terminal import summary
from mixlaw.report.worth import times, worth, worth_table
from tests.mixlaw.synthetic import DOMAINS, TRUTHS, UNITS, fitted

N, D = 1e9, 1e11
EVEN, BETTER = Mixture.uniform(DOMAINS), Mixture(DOMAINS, [0.2, 0.05, 0.75])


def factors(law: str, theta: Array, pair: tuple[Mixture, Mixture] = (BETTER, EVEN), d: float = D, **how: float) -> Any:
    """Return the table of one baseline for a law with these parameters, by target and way."""
    laws = fitted(law, {"main": theta}, **{"spread": 0.0, "n_draws": 12} | how)
    objective = Objective(laws.best, Question(N, d, {"main": 1.0}), {})
    return worth_of(objective, pair).set_index(["target", "by"])


def worth_of(objective: Objective, pair: tuple[Mixture, Mixture]) -> pd.DataFrame:
    """Return the table of one baseline, the second mixture."""
    mixtures = {"recommended": pair[0], "today": pair[1]}
    return equivalents(objective, mixtures, gains(objective, mixtures, 0.9), 0.9)


def additive(beta: float = 0.3, alpha: float = 0.35) -> Array:
    """Return parameters of the additive law with these exponents, and a mixture term that more tokens can make up."""
    return np.log([5.0, 20.0, 5.0, 40.0, 0.5, 0.4, 0.6, 0.9, alpha, 1.2, beta])


def gap(theta: Array) -> float:
    """Return by how much the additive law's loss on EVEN is above that on BETTER, at any N and D."""
    h = np.stack([BETTER.array, EVEN.array], axis=1)
    loss = get_law("additive").loss(theta[None], UNITS.inputs(np.full(2, N), np.full(2, D), h))[0]
    return float(loss[1] - loss[0])


@given(beta=st.floats(0.15, 0.8), log_d=st.floats(-2, 2))
def test_the_factor_of_tokens_is_the_one_that_algebra_gives(beta, log_d):
    theta, d = additive(beta), D * np.exp(log_d)
    term = 1.2 * (d / UNITS.n_tokens) ** -beta
    left = term - gap(theta)
    exact = (left / term) ** (-1 / beta) if left > 0 else np.inf
    found = factors("additive", theta, d=d).loc[("objective", "tokens"), "factor"]
    assert found == pytest.approx(min(exact, MOST), rel=1e-3)


@given(alpha=st.floats(0.2, 0.5), beta=st.floats(0.2, 0.5))
def test_the_factor_of_compute_follows_the_closed_form_of_the_optimal_path(alpha, beta):
    """Along the path the reducible loss of A/N^alpha + B/D^beta is proportional to C^-(alpha beta / (alpha + beta))."""
    theta, both = additive(beta, alpha), alpha * beta / (alpha + beta)
    compute = N / UNITS.n_params * D / UNITS.n_tokens
    size = (alpha * 0.9 / (beta * 1.2) * compute**beta) ** (1 / (alpha + beta))
    term = 0.9 * size**-alpha + 1.2 * (compute / size) ** -beta
    left = term - gap(theta)
    exact = (left / term) ** (-1 / both) if left > 0 else np.inf
    found = factors("additive", theta).loc[("objective", "flops"), "factor"]
    assert found == pytest.approx(min(exact, MOST), rel=1e-3)


@given(
    law=st.sampled_from(["additive", "joint", "simple", "multiplicative"]),
    first=st.lists(st.floats(0.02, 1.0), min_size=3, max_size=3),
    second=st.lists(st.floats(0.02, 1.0), min_size=3, max_size=3),
)
def test_a_factor_is_above_one_exactly_where_the_mixture_gains(law, first, second):
    pair = tuple(Mixture(DOMAINS, np.array(h) / sum(h)) for h in (first, second))
    laws = fitted(law, {"main": TRUTHS[law]}, spread=0.02, n_draws=12)
    objective = Objective(laws.best, Question(N, D, {"main": 1.0}), {})
    table = worth_of(objective, pair)
    row = table[(table["by"] == "tokens") & (table["target"] == "objective")].iloc[0]
    gain = objective.at(pair[1]) - objective.at(pair[0])
    assert (row["factor"] > 1) == (gain > 0) or abs(gain) < 1e-9
    assert row["low"] <= row["factor"] <= row["high"]
    assert table[["factor", "low", "high"]].to_numpy().min() >= 1 / MOST * (1 - 1e-9)


@given(beta=st.floats(0.1, 0.9), ratio=st.floats(-1, 1))
def test_factors_are_reciprocal_if_the_mixtures_swap_and_the_reducible_loss_is_a_power_of_tokens(beta, ratio):
    """The joint law at fixed N, its term of the mixture alone removed: L = E + (sum_i C_i h_i)^gamma / D^beta."""
    theta = np.array([0.5, *np.full(3, 15.9), *np.log([0.5, 0.5, 0.5]), -1.0, 0.8, ratio, -ratio, np.log(beta)])
    there, back = (
        factors("joint-fixed-n", theta, pair).loc[("objective", "tokens"), "factor"]
        for pair in ((BETTER, EVEN), (EVEN, BETTER))
    )
    assert there * back == pytest.approx(1.0, rel=2e-3)


def test_what_no_number_of_tokens_makes_up_is_the_largest_factor_and_said_in_words():
    theta = additive()
    theta[1:4] -= 5.0
    found = factors("additive", theta)
    assert found["factor"].tolist() == pytest.approx([MOST] * len(found))
    assert times(found["factor"].iloc[0]) == "more than 1000x"


def test_a_law_of_fewer_variables_has_only_the_factors_that_exist():
    ways = {
        "additive-fixed-n": {"tokens"},
        "additive-fixed-d": set(),
        "additive-fixed-nd": set(),
        "additive": {"tokens", "flops"},
    }
    for law, by in ways.items():
        assert set(factors(law, TRUTHS[law]).reset_index()["by"]) == by


def test_a_recommendation_says_its_worth_first_and_keeps_it_in_its_file(tmp_path):
    laws = fitted("additive", {"main": additive(), "other": TRUTHS["additive"]}, n_draws=12)
    answer = recommend(laws, n_params=N, n_tokens=D, target="main")
    answer.save(tmp_path / "answer.json")
    loaded = Recommendation.load(tmp_path / "answer.json")
    pd.testing.assert_frame_equal(loaded.equivalents, answer.equivalents)
    assert set(answer.equivalents["target"]) == {"objective", "main", "other"}
    (sentence,) = worth(answer)
    assert sentence in summary(answer).splitlines()[:4]
    assert sentence in sentences(answer)
    old = answer.to_json()
    del old["equivalents"]
    assert worth(Recommendation.from_json(old)) == []
    assert worth_table(Recommendation.from_json(old)).empty


@given(low=st.floats(-3.0, 0.0), high=st.floats(0.0, 3.0), seed=st.integers(0, 99))
def test_moved_gains_keep_their_ranks_and_have_the_interval_of_the_gain(low, high, seed):
    values = np.random.default_rng(seed).normal(size=2000)
    moved = spread_of(values, (low, high), 0.9)
    assert np.percentile(moved, [5, 95]).tolist() == pytest.approx([low, high], abs=0.01)
    order = values.argsort()
    assert (np.diff(moved[order]) >= 0).all()


def test_an_interval_of_factors_holds_one_where_that_of_the_gain_holds_zero():
    for noise in (0.0, 0.5):
        laws = fitted("additive", {"main": additive()}, spread=0.01, n_draws=40)
        scatter = replace(laws.best.target("main"), scatter=Scatter(noise))
        objective = Objective(replace(laws.best, targets={"main": scatter}), Question(N, D, {"main": 1.0}), {})
        mixtures = {"recommended": BETTER, "today": EVEN}
        gained = gains(objective, mixtures, 0.9)
        table = equivalents(objective, mixtures, gained, 0.9).query("by == 'tokens'")
        assert (gained["low"] > 0).tolist() == (table["low"] > 1).tolist() == [noise == 0.0] * 2


MIXING = [name for name, law in LAWS.items() if law.mixes and not law.uses - KNOWN_INPUTS and not law.joint_targets]


@pytest.mark.parametrize("name", MIXING)
def test_every_law_has_finite_factors_and_a_curve_through_the_big_run(name):
    law, rng = get_law(name), np.random.default_rng(3)
    theta = np.clip(law.term.start(rng, 1, 3), *law.bounds(3))[0]
    laws = fitted(name, {"web": theta}, spread=0.02, n_draws=8)
    objective = Objective(laws.best, Question(N, D, {"web": 1.0}), dict.fromkeys(DOMAINS, 2e10))
    table = worth_of(objective, (BETTER, EVEN))[["factor", "low", "high"]].to_numpy(float)
    assert ((table >= 0.999 / MOST) & (table <= 1.001 * MOST)).all()
    assert objective.curve(EVEN, np.array([N]), np.array([D]))[0, 0] == pytest.approx(objective.at(EVEN), rel=1e-12)


@pytest.mark.parametrize("part", ["equivalents", "sizes", "break_even"])
def test_a_damaged_file_is_refused_in_a_sentence(tmp_path, part):
    laws = replace(fitted("additive", {"main": additive()}), study_flops=1e18)
    facts = recommend(laws, flops=6e20, target="main").to_json()
    number = next(column for column, value in facts[part][0].items() if isinstance(value, float))
    facts[part][0][number] = "many"
    (tmp_path / "answer.json").write_text(json.dumps(facts))
    with pytest.raises(RunLogError, match=f"{part} needs numbers as"):
        Recommendation.load(tmp_path / "answer.json")
