"""Phases: their loss and its gradient, limits, gains over single mixtures, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlaw.advice.ask import ask
from mixlaw.advice.constraints import limits
from mixlaw.advice.objective import Objective
from mixlaw.advice.optima import optimum
from mixlaw.advice.phase_plan import AskedPhases, plan_phases
from mixlaw.advice.phased_objective import PhasedGoal, PhasedObjective
from mixlaw.advice.recommend import recommend
from mixlaw.advice.recommendation import Recommendation
from mixlaw.errors import ConfigError
from mixlaw.fitting.fitted import LEVEL
from mixlaw.mixture import Mixture
from mixlaw.report.terminal import summary
from tests.mixlaw.synthetic import DOMAINS, TRUTHS, fitted

LAW = "multiplicative-phases"
BIG = {"n_params": 1e9, "n_tokens": 1e11, "target": "main"}
NAMES = list(fitted(LAW, {"main": TRUTHS[LAW]}).best.law.natural(TRUTHS[LAW], DOMAINS))


def laws_with(spread=0.01, sizes=None, **changed):
    """Return fitted laws of known parameters (logarithms)."""
    theta = TRUTHS[LAW].copy()
    for name, value in changed.items():
        theta[NAMES.index(name)] = value
    return fitted(LAW, {"main": theta}, spread=spread, sizes=sizes)


def loss_of(laws, ends=(0.7, 1.0), laws_of="mean", **asked):
    return PhasedObjective(Objective(laws.best, ask(laws, **BIG, **asked), laws.sizes, laws_of), ends)


def plan_of(laws, phases=2, switch=None, seen=(), **asked):
    """Return the plan that `recommend` makes, without the rest of the answer, which takes most of the time."""
    question = ask(laws, **BIG | asked)
    objective = Objective(laws.best, question, laws.sizes)
    best = optimum(objective, question.baselines)
    return plan_phases(objective, best, question.baselines, AskedPhases.of(phases, switch, seen), LEVEL)


@pytest.mark.parametrize("laws_of", ["mean", "drawn"])
@given(seed=st.integers(0, 2**32 - 1), ends=st.sampled_from([(0.7, 1.0), (0.2, 0.5, 0.9, 1.0)]))
@settings(max_examples=10)
def test_gradients_by_every_share_are_exact(laws_of, seed, ends):
    near = {"stay_near": "uniform", "kl_penalty": 0.5}
    loss = loss_of(laws_with(), ends, laws_of=laws_of, **near, max_epochs=1, available={"web": 2e10, "docs": 1e10})
    phases = np.random.default_rng(seed).dirichlet(np.ones(3), (loss.count, len(ends)))
    points = np.stack([loss.point_of(h) for h in phases])
    goal = PhasedGoal(loss)
    for values, exact in (loss(points), (lambda v: (v[0][:, 0], v[1][:, 0]))(goal.bounds(points))):
        assert values.shape == (len(points),)
        assert exact.shape == points.shape
    for i in range(points.shape[1]):
        bit = 1e-6 * points[:, i : i + 1] * np.eye(points.shape[1])[i]
        for of, at in ((loss, 0), (goal.bounds, 1)):
            up, down = of(points + bit)[0], of(points - bit)[0]
            numeric = (up - down).reshape(len(points), -1) / (2 * bit[:, i : i + 1])
            slope = of(points)[1].reshape(len(points), -1, points.shape[1])[:, :, i]
            np.testing.assert_allclose(
                slope, numeric, rtol=1e-4, atol=1e-6 * max(np.abs(slope).max(), 1e-3), err_msg=str(at)
            )


@given(seed=st.integers(0, 2**32 - 1), switch=st.floats(0.01, 0.99))
@settings(max_examples=20)
def test_equal_phases_have_the_loss_of_their_mixture(seed, switch):
    asked = {"stay_near": "uniform", "kl_penalty": 0.5}
    for laws_of in ("mean", "drawn"):
        loss = loss_of(laws_with(), (switch, 1.0), laws_of=laws_of, **asked)
        mixture = Mixture(DOMAINS, np.random.default_rng(seed).dirichlet(np.ones(3)))
        np.testing.assert_allclose(loss.by_law(mixture), loss.static.by_law(mixture), rtol=1e-12)
        one, many = (each(np.tile(each.point(mixture), (each.count, 1)))[0] for each in (loss.static, loss))
        np.testing.assert_allclose(one, many, rtol=1e-12)


def test_no_other_phases_are_better_and_the_switch_is_the_best_of_those_tried():
    laws = laws_with()
    plan = plan_of(laws)
    assert plan.predicted == plan.switches["predicted"].min()
    assert plan.until[0] == plan.switches["switch"][plan.switches["predicted"].argmin()]
    loss, rng = loss_of(laws, tuple(plan.until)), np.random.default_rng(0)
    best = loss.point(plan.mixture)
    far = np.stack([loss.point_of(h) for h in rng.dirichlet(np.ones(3), (200, 2))])
    near = best + 0.01 * (far - best)
    assert loss(np.vstack([far, near]))[0].min() >= plan.predicted - 1e-6


def test_without_recency_no_phases_gain_and_the_first_line_says_so():
    answer = recommend(laws_with(r=0.0, spread=1e-5), **BIG, phases=2, switch=0.7)
    assert answer.phases.gains["gain"][0] == pytest.approx(0, abs=1e-5)
    assert not answer.phases.certain
    assert summary(answer).startswith("Two phases gain nothing that two runs could show")


def test_a_gain_above_the_noise_is_stated_in_the_first_line():
    answer = recommend(laws_with(b_code=1.5, r=2.0, s=-0.05, spread=1e-5), **BIG, phases=2, switch=0.7)
    gain = answer.phases.gains.iloc[0]
    assert 0 < gain["low"] < gain["gain"] < gain["high"]
    assert gain["gain"] == pytest.approx(answer.outcomes["predicted"][0] - answer.phases.predicted, abs=1e-9)
    assert summary(answer).startswith(f"Two phases gain {gain['gain']:+.4f} nats")


def test_floors_caps_and_pins_hold_in_both_phases():
    asked = {"floors": {"code": 0.2}, "caps": {"web": 0.3}, "pins": {"docs": 0.4}}
    for h in plan_of(laws_with(), **asked).weights:
        assert h["code"] >= 0.2 - 1e-9
        assert h["web"] <= 0.3 + 1e-9
        assert h["docs"] == pytest.approx(0.4)


def test_groups_hold_in_every_phase_and_cost_what_they_must():
    laws, groups = laws_with(), {"text": (["docs", "web"], 0.5, 0.6)}
    free, plan = (plan_of(laws, **asked, switch=0.7) for asked in ({}, {"groups": groups}))
    for h in plan.weights:
        assert 0.5 - 1e-9 <= h["docs"] + h["web"] <= 0.6 + 1e-9
    assert plan.predicted > free.predicted
    loss, rng = loss_of(laws, (0.7, 1.0)), np.random.default_rng(0)
    text, split = rng.uniform(0.5, 0.6, (300, 2, 1)), rng.uniform(size=(300, 2, 1))
    others = np.concatenate([1 - text, text * split, text * (1 - split)], 2)
    assert loss(np.stack([loss.point_of(h) for h in others]))[0].min() >= plan.predicted - 1e-9


def test_the_penalty_of_the_distance_draws_every_phase_nearer():
    laws, near = laws_with(), Mixture.of({"code": 0.1, "docs": 0.1, "web": 0.8})
    free, plan = (plan_of(laws, switch=0.7, stay_near=near, kl_penalty=penalty) for penalty in (1e-9, 0.3))
    for before, after in zip(free.weights, plan.weights, strict=True):
        assert after.distance(near) < before.distance(near)


def two_targets(**changed):
    theta, other = TRUTHS[LAW].copy(), TRUTHS[LAW].copy()
    other[[NAMES.index("b_code"), NAMES.index("b_web")]] = 1.0, -1.0
    theta[[NAMES.index("b_code"), NAMES.index("b_web")]] = -1.0, 1.0
    for name, value in changed.items():
        theta[NAMES.index(name)] = other[NAMES.index(name)] = value
    return fitted(LAW, {"main": theta, "other": other})


TODAY = Mixture.of({"code": 0.3, "docs": 0.4, "web": 0.3})


def losses_on(laws, mixture):
    """Return target -> predicted loss on one mixture."""
    objective = Objective(laws.best, ask(laws, **BIG), laws.sizes)
    return {target: objective.of(target).at(mixture) for target in laws.best.targets}


def predicted(plan):
    return plan.losses.set_index("target")["predicted"].drop("objective")


@pytest.mark.slow
def test_losses_at_the_end_of_the_run_keep_their_limits():
    laws = two_targets(r=2.0)
    free, kept = (
        plan_of(laws, baselines={"today": TODAY}, not_worse=limit, switch=0.6) for limit in ({}, {"other": 1.0})
    )
    was = losses_on(laws, TODAY)["other"]
    assert predicted(free)["other"] > 1.01 * was
    assert predicted(kept)["other"] <= 1.01 * was * (1 + 1e-4)
    assert free.predicted <= kept.predicted
    assert kept.gains["gain"][0] >= -1e-9


@pytest.mark.slow
def test_the_worst_target_is_better_than_on_the_best_single_mixture():
    laws, was = two_targets(r=2.0), losses_on(two_targets(r=2.0), TODAY)
    asked = {"target": "main:1,other:1", "baselines": {"today": TODAY}, "objective": "worst"}
    plan, objective = plan_of(laws, **asked, switch=0.6), Objective(laws.best, ask(laws, **BIG | asked), laws.sizes)
    single = losses_on(laws, Mixture(DOMAINS, optimum(objective, {"today": TODAY})))
    static = max(single[target] / was[target] for target in was)
    phased = max(predicted(plan)[target] / was[target] for target in was)
    gain = plan.gains.iloc[0]
    assert phased <= static + 1e-9
    assert gain["gain"] == pytest.approx((static - phased) * sum(was.values()) / 2, abs=1e-6)
    assert gain["low"] < gain["gain"] < gain["high"]


def test_gains_over_baselines_are_differences_of_predicted_losses():
    plan = plan_of(laws_with(), baselines={"today": TODAY}, switch=0.8)
    was, over = losses_on(laws_with(), TODAY)["main"], plan.over.set_index(["mixture", "target"])
    assert over.loc[("today", "main"), "gain"] == pytest.approx(was - plan.predicted, abs=1e-9)
    assert (over["low"] < over["gain"]).all()


@pytest.mark.slow
def test_phases_stay_within_the_weights_of_the_runs_unless_asked_beyond():
    seen = [
        {"code": (0.1, 0.6), "docs": (0.1, 0.7), "web": (0.1, 0.7)},
        {"code": (0.2, 0.5), "docs": (0.1, 0.7), "web": (0.2, 0.6)},
    ]
    laws = replace(laws_with(b_code=1.5, r=2.0, s=-0.05), phase_ranges=seen)
    inside, beyond = (recommend(laws, **BIG, phases=2, switch=0.8, beyond_runs=each) for each in (False, True))
    static = inside.weights
    for h in inside.phases.weights:
        for domain, low, high in (("code", 0.1, 0.6), ("docs", 0.1, 0.7), ("web", 0.1, 0.7)):
            assert min(low, static[domain]) - 1e-6 <= h[domain] <= max(high, static[domain]) + 1e-6
    assert beyond.phases.predicted < inside.phases.predicted <= inside.outcomes["predicted"][0] + 1e-9
    assert any("phase 1" in warning for warning in beyond.warnings)


@pytest.mark.slow
def test_epochs_hold_in_the_whole_run_and_not_in_each_phase():
    laws = laws_with(b_code=1.5, r=2.0, s=-0.05)
    free = plan_of(laws, switch=0.8)
    late = max(DOMAINS, key=lambda d: free.weights[1][d] - free.weights[0][d])
    total = 0.8 * free.weights[0][late] + 0.2 * free.weights[1][late]
    cap = 0.9 * total
    plan = plan_of(laws, switch=0.8, max_epochs=1, available={late: cap * 1e11})
    assert 0.8 * plan.weights[0][late] + 0.2 * plan.weights[1][late] <= cap * (1 + 1e-4)
    assert plan.weights[1][late] > cap


def test_intervals_hold_the_weights_and_are_mixtures():
    laws = laws_with(spread=0.1)
    plan = plan_of(laws, switch=0.8)
    table = plan.table
    assert (table["low"] <= table["weight"]).all()
    assert (table["weight"] <= table["high"]).all()
    assert table.groupby("phase")["weight"].sum().tolist() == pytest.approx([1.0, 1.0])
    assert (table["high"] > table["low"]).any()
    where = limits(DOMAINS, ask(laws, **BIG))
    assert (table["low"] >= np.tile(where.low, 2) - 1e-9).all()


def test_a_saved_answer_keeps_its_phases_and_their_override(tmp_path):
    answer = recommend(laws_with(), **BIG, phases=2, switch=0.8)
    answer.save(tmp_path / "answer.json")
    again = Recommendation.load(tmp_path / "answer.json")
    assert json.dumps(again.to_json()) == json.dumps(answer.to_json())
    first, second = (h.hydra_override().removeprefix("mixture.weights=") for h in again.phases.weights)
    assert again.phases.override == f"mixture.phases=[{{until:0.8,weights:{first}}},{{until:1,weights:{second}}}]"


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"phases": 5}, "--phases must be 1 to 4, not 5"),
        ({"phases": 0}, "--phases must be 1 to 4, not 0"),
        ({"switch": 0.5}, "--switch 0.5 needs --phases 2: one switch fewer than phases, not --phases 1"),
        ({"phases": 3, "switch": (0.5,)}, "--switch 0.5 needs --phases 2"),
        ({"phases": 2, "switch": 1.0}, "--switch 1: give shares .* between 0 and 1, in increasing order"),
        ({"phases": 3, "switch": (0.8, 0.6)}, "--switch 0.8,0.6: give shares .* in increasing order"),
        ({"phases": 2, "not_worse": {"main": -90}, "baselines": "uniform"}, "--not-worse main:-90 cannot be met"),
    ],
)
def test_what_phases_cannot_do_is_refused_in_a_sentence(asked, error):
    with pytest.raises(ConfigError, match=error):
        recommend(laws_with(), **BIG, **asked)


def test_a_law_that_does_not_tell_phases_apart_is_refused():
    laws = fitted("multiplicative", {"main": TRUTHS["multiplicative"]})
    with pytest.raises(ConfigError, match="the multiplicative law does not tell phases apart"):
        recommend(laws, **BIG, phases=2)
