"""Sensitivity: costs of constraints, paths over scale and flat directions, against independent computations."""

from dataclasses import replace

import numpy as np
import pytest

from mixlaw.advice.constraints import Question
from mixlaw.advice.objective import Objective, run_noise
from mixlaw.advice.recommend import recommend
from mixlaw.laws.registry import get_law
from mixlaw.mixture import Mixture
from mixlaw.report.notebook import answer_html
from mixlaw.report.plots_mixture import path as path_figure
from mixlaw.report.terminal import summary
from tests.mixlaw.synthetic import DOMAINS, TRUTHS, fitted, optimum


def ask(**more) -> Question:
    return Question(1e9, 1e11, {"main": 1.0}, **more)


ADDITIVE = {"main": TRUTHS["additive"]}
JOINT = {"main": TRUTHS["joint"]}


def loss(laws, question, weights):
    return Objective(laws.best, question, laws.sizes).at(Mixture.of(weights))


def test_each_limit_costs_what_taking_it_away_alone_saves():
    laws = fitted("additive", ADDITIVE)
    question = ask(floors={"docs": 0.2}, caps={"web": 0.4, "code": 0.99})
    answer = recommend(laws, question)
    cost = answer.prices.set_index("constraint")
    assert list(cost.index) == ["min docs", "max web"]  # the cap of code does not bind
    for name, other in (("min docs", ask(caps=question.caps)), ("max web", ask(floors=question.floors))):
        saved = loss(laws, question, answer.weights) - loss(laws, other, optimum(laws, other))
        assert cost.loc[name, "cost"] == pytest.approx(saved, abs=1e-7)
        assert saved > 0
    assert cost.loc["max web", "weight"] == pytest.approx(0.4)
    assert cost.loc["max web", "weight_without"] > 0.4
    assert answer.table.set_index("domain")["unconstrained"].to_dict() == pytest.approx(optimum(laws, ask()), abs=1e-5)
    assert "max web" in summary(answer)


def test_a_group_and_the_epochs_of_a_small_domain_have_prices_too():
    laws = fitted("additive", ADDITIVE)
    question = ask(groups={"g": (("web", "docs"), 0.0, 0.5)}, available={"web": 1e10}, max_epochs=4.0)
    answer = recommend(laws, question)
    assert answer.weights["web"] <= 0.4 + 1e-6
    assert answer.weights["web"] + answer.weights["docs"] == pytest.approx(0.5, abs=1e-6)
    cost = answer.prices.set_index("constraint")["cost"]
    assert cost["group g"] > 0
    for name in cost.index:
        other = question.without(name)
        saved = loss(laws, question, answer.weights) - loss(laws, other, optimum(laws, other))
        assert cost[name] == pytest.approx(saved, abs=1e-7)


def test_a_mixture_that_the_limits_make_impossible_is_refused_with_the_table():
    laws = fitted("additive", ADDITIVE)
    with pytest.raises(ValueError, match="no mixture fits"):
        recommend(laws, ask(available=dict.fromkeys(DOMAINS, 1e9), max_epochs=1.0))


def test_a_penalty_of_distance_goes_from_the_optimum_to_the_mixture_and_has_a_price():
    laws = fitted("additive", ADDITIVE)
    near = Mixture.of({"code": 0.6, "docs": 0.3, "web": 0.1})
    free = optimum(laws, ask())
    weak, strong, all_ = (recommend(laws, ask(stay_near=near, kl_penalty=p)) for p in (1e-4, 0.1, 1e3))
    assert weak.weights == pytest.approx(free, abs=0.01)
    assert all_.weights == pytest.approx(near, abs=1e-3)
    assert free["code"] < strong.weights["code"] < near["code"]
    cost = strong.prices.set_index("constraint").loc["stay near", "cost"]
    assert cost == pytest.approx(loss(laws, ask(), strong.weights) - loss(laws, ask(), free), abs=1e-6)


def test_the_flat_frontier_holds_the_mixtures_that_noise_cannot_tell_from_the_best():
    laws = fitted("additive", ADDITIVE)
    laws = replace(laws, noise={"main": 0.004})
    question = ask()
    answer = recommend(laws, question)
    assert answer.noise == 0.004
    best = loss(laws, question, answer.weights)
    rng = np.random.default_rng(0)
    near = np.clip(list(answer.weights.values()) + rng.normal(0, 0.15, (20_000, 3)), 0, 1)
    near /= near.sum(1, keepdims=True)
    inside = near[Objective(laws.best, question, {}).loss(near) <= best + 0.004]
    for i, row in enumerate(answer.table.itertuples()):
        assert row.flat_low == pytest.approx(inside[:, i].min(), abs=0.03)
        assert row.flat_high == pytest.approx(inside[:, i].max(), abs=0.03)
        assert row.flat_low <= row.weight <= row.flat_high


def test_limits_end_the_flat_frontier():
    laws = fitted("additive", ADDITIVE)
    laws = replace(laws, noise={"main": 10.0})
    table = recommend(laws, ask(caps={"web": 0.7}, pins={"docs": 0.1})).table.set_index("domain")
    assert table.loc["docs", ["flat_low", "flat_high"]].tolist() == pytest.approx([0.1, 0.1])
    assert table.loc["web", ["flat_low", "flat_high"]].tolist() == pytest.approx([0.0, 0.7], abs=1e-6)
    assert table.loc["code", ["flat_low", "flat_high"]].tolist() == pytest.approx([0.2, 0.9], abs=1e-6)


def test_the_path_moves_with_scale_under_joint_only_and_its_regret_is_what_the_big_run_would_lose():
    for law, theta, moves in (("additive", ADDITIVE, False), ("joint", JOINT, True)):
        laws = fitted(law, theta)
        question = ask()
        answer = recommend(laws, question)
        path = answer.path
        assert path["n_params"].iloc[[0, -1]].tolist() == pytest.approx([2e7, 1e9])
        assert path["n_tokens"].iloc[[0, -1]].tolist() == pytest.approx([5e10, 1e11])
        assert path.iloc[-1]["weights"] == pytest.approx(answer.weights)
        first = path.iloc[0]["weights"]
        assert first == pytest.approx(optimum(laws, Question(2e7, 5e10, {"main": 1.0})), abs=1e-4)
        lost = loss(laws, question, first) - loss(laws, question, answer.weights)
        assert path["regret"].iloc[0] == pytest.approx(lost, abs=1e-7)
        assert (path["regret"].iloc[0] > 1e-5) == moves
        last = path.iloc[-1]["interval"]
        assert all(last[d][0] <= answer.weights[d] <= last[d][1] for d in DOMAINS)
        spread = answer.table.set_index("domain").eval("high - low")
        assert {d: last[d][1] - last[d][0] for d in DOMAINS} == pytest.approx(spread.to_dict(), abs=1e-3)


def test_repeated_runs_are_the_noise():
    laws = fitted("additive", ADDITIVE)
    quiet = recommend(laws, ask())
    assert quiet.noise == pytest.approx(run_noise(Objective(laws.best, ask(), {}), {}))
    laws = replace(laws, noise={"main": 5.0})
    loud = recommend(laws, ask())
    assert loud.noise == 5.0


def test_a_gain_whose_interval_holds_zero_is_called_uncertain():
    laws = fitted("additive", ADDITIVE)
    assert not any("is not certain" in w for w in recommend(laws, ask()).warnings)
    main = replace(laws.best.target("main"), noise=np.array([-1.0, 1.0]))
    loud = replace(laws, fits={"additive": replace(laws.best, targets={"main": main})})
    answer = recommend(loud, ask())
    assert any(w.startswith("the gain over uniform, ") and "is not certain" in w for w in answer.warnings)
    row = answer.outcomes.set_index("mixture").loc["uniform"]
    assert row["gain_low"] < 0 < row["gain"] < row["gain_high"]


def test_a_baseline_that_is_better_but_excluded_by_the_limits_is_warned_of():
    laws = fitted("additive", ADDITIVE)
    answer = recommend(laws, ask(pins={"docs": 0.9}))
    assert any(w.startswith("uniform is predicted to be better by") for w in answer.warnings)
    assert answer.outcomes.set_index("mixture").loc["uniform", "gain"] < 0


def test_a_mixture_far_from_all_runs_is_warned_of():
    laws = fitted("additive", ADDITIVE)
    laws = replace(laws, mixtures=np.array([[0.9, 0.05, 0.05], [0.8, 0.1, 0.1]]))
    warnings = recommend(laws, ask()).warnings
    assert any(w.startswith("the nearest mixture that was trained differs from h* in") for w in warnings)
    assert any("of 'web', runs had 0.05 to 0.10: train a run near it" in w for w in warnings)


def test_a_mixture_gains_nothing_over_itself_but_its_runs_differ():
    laws = fitted("joint", JOINT, spread=0.2, n_draws=40)
    answer = recommend(laws, ask(pins=dict.fromkeys(DOMAINS, 1 / 3)))
    row = answer.outcomes.set_index("mixture").loc["uniform"]
    assert row["gain"] == pytest.approx(0, abs=1e-12)
    assert row["gain_high"] == pytest.approx(-row["gain_low"])
    seeds = 2**0.5 * np.std(laws.best.target("main").noise)
    assert row["gain_high"] == pytest.approx(1.645 * seeds, rel=1e-3)


def test_a_law_that_reads_neither_n_nor_d_says_so():
    laws = fitted("additive-fixed-nd", {"main": TRUTHS["additive-fixed-nd"]})
    warnings = recommend(laws, ask()).warnings
    assert any("does not depend on N: losses are those of the runs' n_params" in w for w in warnings)


def test_other_laws_are_asked_too_and_theirs_costs_what_the_trusted_one_says():
    laws = fitted("additive", ADDITIVE)
    laws = replace(laws, fits=laws.fits | fitted("joint", JOINT).fits | fitted("base", {"main": TRUTHS["base"]}).fits)
    question = ask()
    answer = recommend(laws, question)
    assert answer.others["law"].tolist() == ["joint"]  # base cannot recommend
    other = answer.others.iloc[0]
    assert other["predicted"] == pytest.approx(Objective(laws.fits["joint"], question, {}).at(other["weights"]))
    lost = loss(laws, question, other["weights"]) - loss(laws, question, answer.weights)
    assert other["regret"] == pytest.approx(lost, abs=1e-7)
    assert other["regret"] > 1e-4
    assert "joint" in summary(answer)
    assert recommend(fitted("additive", ADDITIVE), question).others.empty


def test_a_law_that_reads_neither_n_nor_d_has_no_path_and_nothing_about_it_is_shown():
    additive = TRUTHS["additive"]
    fixed = get_law("additive-fixed-nd")
    laws = fitted("additive-fixed-nd", {"main": additive[: fixed.n_free(len(DOMAINS))]})
    answer = recommend(laws, ask())
    assert answer.path.empty
    assert answer.to_json()["path"] == []
    assert "on the way" not in summary(answer)
    assert "smallest run" not in summary(answer)
    assert "on the way" not in answer_html(answer)
    with pytest.raises(ValueError, match="no path"):
        path_figure(None, answer)


def test_a_law_that_reads_d_alone_has_a_path_over_d_at_the_n_that_was_asked():
    laws = fitted("additive-fixed-n", {"main": fixed_n()})
    path = recommend(laws, ask()).path
    assert path["n_params"].tolist() == pytest.approx([1e9] * 5)
    assert path["n_tokens"].iloc[[0, -1]].tolist() == pytest.approx([5e10, 1e11])


def fixed_n() -> np.ndarray:
    """Return the additive truth without its term in N."""
    law, truth, k = get_law("additive-fixed-n"), TRUTHS["additive"], len(DOMAINS)
    return np.concatenate([truth[: 1 + 2 * k], truth[-2:]])[: law.n_free(k)]


def test_the_mean_over_laws_is_the_same_for_one_mixture_and_for_many_at_once():
    laws = fitted("joint", JOINT, spread=0.2, n_draws=40)
    objective = Objective(laws.best, ask(), {})
    h = np.random.default_rng(0).dirichlet(np.ones(3), 2000)
    value, gradient = objective(h)
    for i in (0, 555, 1999):
        one, slope = objective(h[i : i + 1])
        assert value[i] == pytest.approx(one[0], abs=1e-12)
        assert gradient[i] == pytest.approx(slope[0], abs=1e-10)


def test_some_of_the_drawn_laws_can_be_asked_alone():
    drawn = Objective(fitted("joint", JOINT, spread=0.2, n_draws=9).best, ask(), {}).drawn()
    h = np.random.default_rng(0).dirichlet(np.ones(3), 9)
    value, gradient = drawn(h)
    some = np.array([7, 2])
    assert drawn(h[some], some)[0] == pytest.approx(value[some])
    np.testing.assert_allclose(drawn(h[some], some)[1], gradient[some])
