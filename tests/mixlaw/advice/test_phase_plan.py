"""Two phases: their loss and its gradient, limits, the gain over the best single mixture, and what is refused."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlaw.advice.ask import ask
from mixlaw.advice.constraints import limits
from mixlaw.advice.objective import Objective
from mixlaw.advice.phased_loss import PhasedLoss
from mixlaw.advice.recommend import recommend
from mixlaw.advice.recommendation import Recommendation
from mixlaw.errors import ConfigError
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
    return PhasedLoss(Objective(laws.best, ask(laws, **BIG, **asked), laws.sizes, laws_of), ends)


@pytest.mark.parametrize("laws_of", ["mean", "drawn"])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_the_gradient_by_every_share_is_exact(laws_of, seed):
    loss = loss_of(laws_with(), laws_of=laws_of)
    phases = np.random.default_rng(seed).dirichlet(np.ones(3), (loss.objective.count, 2))
    points = np.stack([loss.point(h) for h in phases])
    _, exact = loss(points)
    for i in range(6):
        bit = 1e-6 * points[:, i : i + 1] * np.eye(6)[i]
        numeric = (loss(points + bit)[0] - loss(points - bit)[0]) / (2 * bit[:, i])
        np.testing.assert_allclose(exact[:, i], numeric, rtol=1e-4, atol=1e-6 * np.abs(exact).max())


@given(seed=st.integers(0, 2**32 - 1), switch=st.floats(0.01, 0.99))
@settings(max_examples=20)
def test_equal_phases_have_the_loss_of_their_mixture(seed, switch):
    loss = loss_of(laws_with(), (switch, 1.0))
    h = np.random.default_rng(seed).dirichlet(np.ones(3))
    np.testing.assert_allclose(loss(loss.point(np.tile(h, (2, 1)))[None])[0], loss.objective.at(h), rtol=1e-12)


def test_no_other_phases_are_better_and_the_switch_is_the_best_of_those_tried():
    laws = laws_with()
    plan = recommend(laws, **BIG, phases=2).phases
    assert plan.predicted == plan.switches["predicted"].min()
    assert plan.until[0] == plan.switches["switch"][plan.switches["predicted"].argmin()]
    loss, rng = loss_of(laws, tuple(plan.until)), np.random.default_rng(0)
    best = loss.point(np.stack([h.array for h in plan.weights]))
    far = np.stack([loss.point(h) for h in rng.dirichlet(np.ones(3), (200, 2))])
    near = best + 0.01 * (far - best)
    assert loss(np.vstack([far, near]))[0].min() >= plan.predicted - 1e-6


def test_without_recency_no_phases_gain_and_the_first_line_says_so():
    answer = recommend(laws_with(r=0.0, spread=1e-5), **BIG, phases=2)
    assert answer.phases.gains["gain"][0] == pytest.approx(0, abs=1e-5)
    assert not answer.phases.certain
    assert summary(answer).startswith("Two phases gain nothing that two runs could show")


def test_a_gain_above_the_noise_is_stated_in_the_first_line():
    answer = recommend(laws_with(b_code=1.5, r=2.0, s=-0.05, spread=1e-5), **BIG, phases=2)
    gain = answer.phases.gains.iloc[0]
    assert 0 < gain["low"] < gain["gain"] < gain["high"]
    assert gain["gain"] == pytest.approx(answer.outcomes["predicted"][0] - answer.phases.predicted, abs=1e-9)
    assert summary(answer).startswith(f"Two phases gain {gain['gain']:+.4f} nats")


def test_floors_caps_and_pins_hold_in_both_phases():
    asked = {"floors": {"code": 0.2}, "caps": {"web": 0.3}, "pins": {"docs": 0.4}}
    for h in recommend(laws_with(), **BIG, **asked, phases=2).phases.weights:
        assert h["code"] >= 0.2 - 1e-9
        assert h["web"] <= 0.3 + 1e-9
        assert h["docs"] == pytest.approx(0.4)


def test_epochs_hold_in_the_whole_run_and_not_in_each_phase():
    laws = laws_with(b_code=1.5, r=2.0, s=-0.05)
    free = recommend(laws, **BIG, phases=2, switch=0.8).phases
    late = max(DOMAINS, key=lambda d: free.weights[1][d] - free.weights[0][d])
    total = 0.8 * free.weights[0][late] + 0.2 * free.weights[1][late]
    cap = 0.9 * total
    plan = recommend(laws, **BIG, phases=2, switch=0.8, max_epochs=1, available={late: cap * 1e11}).phases
    assert 0.8 * plan.weights[0][late] + 0.2 * plan.weights[1][late] <= cap * (1 + 1e-4)
    assert plan.weights[1][late] > cap


def test_intervals_hold_the_weights_and_are_mixtures():
    laws = laws_with(spread=0.1)
    plan = recommend(laws, **BIG, phases=2, switch=0.8).phases
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
        ({"phases": 3}, "--phases must be 1 or 2"),
        ({"switch": 0.5}, "--switch needs --phases 2"),
        ({"phases": 2, "switch": 1.0}, "--switch must be a share .* between 0 and 1, not 1"),
        ({"phases": 2, "groups": {"text": (["docs", "web"], 0.2, 0.8)}}, "--phases cannot be combined with --group"),
        ({"phases": 2, "stay_near": "uniform"}, "--phases cannot be combined with --stay-near"),
    ],
)
def test_what_phases_cannot_do_is_refused_in_a_sentence(asked, error):
    with pytest.raises(ConfigError, match=error):
        recommend(laws_with(), **BIG, **asked)


def test_a_law_that_does_not_tell_phases_apart_is_refused():
    laws = fitted("multiplicative", {"main": TRUTHS["multiplicative"]})
    with pytest.raises(ConfigError, match="the multiplicative law does not tell phases apart"):
        recommend(laws, **BIG, phases=2)
