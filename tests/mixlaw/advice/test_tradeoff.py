"""Trade-off curves: no mixture lies below them, they bend the right way, and the ends are the optima."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.advice.goal import Goal
from mixlaw.advice.objective import Objective
from mixlaw.advice.recommend import recommend
from mixlaw.advice.tradeoff import DISTANCE, between_targets, from_baseline, tradeoff
from mixlaw.errors import ConfigError
from mixlaw.mixture import Mixture
from mixlaw.report.plots_tradeoff import tradeoff as figure
from tests.marks import examples, slow
from tests.mixlaw.advice.test_goal import goal
from tests.mixlaw.synthetic import DOMAINS, fitted
from tests.mixlaw.target_laws import opposed, random_targets

ASKED = {"n_params": 1e9, "n_tokens": 1e11}
UNIFORM = {"uniform": Mixture.uniform(DOMAINS)}


def random_mixtures(count: int) -> np.ndarray:
    """Return mixtures of all kinds: even ones, and ones near corners."""
    rng = np.random.default_rng(0)
    return np.vstack([rng.dirichlet(np.full(3, a), count) for a in (0.3, 1.0, 5.0)])


@examples(24)
@given(st.integers(0, 10_000))
def test_no_mixture_has_both_losses_below_the_front(seed):
    objective = goal(seed).objective
    laws = fitted("additive", random_targets(seed, 3), n_draws=3)
    found = between_targets(objective, ("t0", "t1"), UNIFORM, laws)
    x, y = found.curve["x"].to_numpy(), found.curve["y"].to_numpy()
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) < 0).all()
    first, second = (objective.of(target).loss for target in ("t0", "t1"))
    every = random_mixtures(50)
    for i in range(len(x)):
        assert (second(every)[first(every) <= x[i]] >= y[i] - 1e-3).all()
    assert y[-1] <= second(every).min() + 1e-4
    assert x[0] <= first(every).min() + 1e-3


@pytest.mark.parametrize("objective", ["mean", slow("worst")])
@examples(8)
@given(st.integers(0, 10_000))
def test_no_mixture_as_near_to_the_baseline_is_better_than_the_front(objective, seed):
    asked = goal(seed, objective=objective)
    laws = fitted("additive", random_targets(seed, 3), n_draws=3)
    found = from_baseline(asked.objective, UNIFORM, laws)
    x, y = found.curve["x"].to_numpy(), found.curve["y"].to_numpy()
    in_use, every = asked.objective.question.in_use.array, random_mixtures(50)
    assert found.x == DISTANCE
    assert x[0] == 0
    assert y[0] == pytest.approx(float(asked.value(in_use[None])[0]))
    assert (np.diff(y) < 0).all()
    towards = np.linspace(0, 1, 11)[:, None, None] * (every - in_use) + in_use
    h = towards.reshape(-1, 3)
    far, value = np.abs(h - in_use).sum(1) / 2, asked.value(h)
    for i in range(len(x)):
        assert (value[far <= x[i]] >= y[i] - 1e-3).all()


@pytest.mark.slow
def test_limits_hold_on_the_whole_curve():
    laws = fitted("additive", opposed())
    limits = {"floors": {"docs": 0.2}, "not_worse": {"two": 2.0}, "baselines": "uniform"}
    answer = recommend(laws, **ASKED, target="one", **limits)
    found = tradeoff(laws, answer)
    h = np.array([mixture.array for mixture in found.curve["weights"]])
    assert (h[:, DOMAINS.index("docs")] >= 0.2 - 1e-6).all()
    assert (Goal(Objective(laws.best, answer.question, {})).excess(h) <= 2e-4).all()
    best = found.marks.set_index("mixture").loc["recommended"]
    assert found.curve["y"].iloc[-1] == pytest.approx(best["y"], abs=1e-4)


def test_two_targets_are_traded_off_and_h_lies_on_the_front():
    laws = fitted("additive", opposed())
    answer = recommend(laws, **ASKED, target="one:1,two:1")
    found = tradeoff(laws, answer)
    best = found.marks.set_index("mixture").loc["recommended"]
    on_curve = np.interp(best["x"], found.curve["x"], found.curve["y"])
    assert (found.x, found.y) == ("one", "two")
    assert best["y"] == pytest.approx(on_curve, abs=0.01)
    ax = figure(None, answer, found)
    assert ax.get_xlabel() == "predicted one loss [nats/token]"
    assert {"recommended", "uniform"} <= set(ax.get_legend_handles_labels()[1])


def test_a_baseline_at_the_optimum_is_a_curve_of_one_point():
    laws = fitted("additive", opposed())
    best = recommend(laws, **ASKED, target="one").weights
    answer = recommend(laws, **ASKED, target="one", baselines={"today": best})
    assert len(tradeoff(laws, answer).curve) <= 2
    figure(None, answer, tradeoff(laws, answer))


def test_one_target_without_a_baseline_has_no_trade_off():
    laws = fitted("additive", opposed())
    with pytest.raises(ConfigError, match=r"a trade-off needs two targets .*, or a mixture to compare with"):
        tradeoff(laws, recommend(laws, **ASKED, target="one"))
