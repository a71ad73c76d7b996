"""Limits on losses and the worst target: what is returned meets all limits, and nothing that meets them is better."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from mixlaw.advice.constraints import WORST, Question
from mixlaw.advice.goal import Goal
from mixlaw.advice.objective import Objective
from mixlaw.advice.optima import drawn_optima, optimum, require_met
from mixlaw.advice.sensitivity import flat_frontier, prices
from mixlaw.errors import ConfigError
from mixlaw.laws.registry import get_law
from mixlaw.mixture import Mixture
from tests.marks import examples
from tests.mixlaw.synthetic import DOMAINS, fitted
from tests.mixlaw.target_laws import opposed, random_targets

seeds = st.integers(0, 10_000)
TARGETS = ("t0", "t1", "t2")


def goal(seed: int, **asked) -> Goal:
    """Return a goal over three random targets, with a random mixture in use today."""
    rng = np.random.default_rng(seed)
    laws = fitted("additive", random_targets(seed, 3), n_draws=3)
    in_use = Mixture(DOMAINS, rng.dirichlet(np.full(3, 3.0)))
    question = Question(1e9, 1e11, dict.fromkeys(TARGETS, 1 / 3), baselines={"today": in_use}, **asked)
    return Goal(Objective(laws.best, question, {}))


def best(of: Goal) -> np.ndarray:
    return optimum(of.objective, of.objective.question.baselines)


@examples(40)
@given(seeds, st.lists(st.floats(0, 5), min_size=3, max_size=3))
def test_limits_of_losses_and_weights_hold_and_loosening_never_raises_the_loss(seed, percents):
    floors, caps = {"web": 0.05}, {"code": 0.6}
    strict = goal(seed, not_worse=dict(zip(TARGETS, percents, strict=True)), floors=floors, caps=caps)
    in_use = strict.objective.question.in_use
    if not (in_use["web"] >= 0.05 and in_use["code"] <= 0.6):
        return  # then there need not be a mixture that meets all limits
    loose = goal(seed, not_worse=dict(zip(TARGETS, np.add(percents, 0.5), strict=True)), floors=floors, caps=caps)
    h = best(strict)
    assert strict.excess(h[None])[0] <= 1e-6
    assert h[DOMAINS.index("web")] >= 0.05 - 1e-9
    assert h[DOMAINS.index("code")] <= 0.6 + 1e-9
    assert loose.penalised(best(loose)) <= strict.penalised(h) + 1e-6
    assert strict.penalised(h) <= strict.penalised(in_use.array) + 1e-6


@examples(20)
@given(seeds, st.sampled_from(["mean", WORST]), st.floats(0.2, 5))
def test_no_mixture_that_another_solver_finds_is_better(seed, objective, percent):
    ours = goal(seed, not_worse=dict.fromkeys(TARGETS, percent), objective=objective)
    assert ours.penalised(best(ours)) <= with_slsqp(ours) + 1e-5


def with_slsqp(of: Goal) -> float:
    """Return the lowest criterion by sequential quadratic programming, in the epigraph form."""
    criteria, bounds = (lambda z: of.criteria(z[None, :3])), (lambda z: of.bounds(z[None, :3]))
    top = {
        "type": "ineq",
        "fun": lambda z: z[3] - criteria(z)[0][0],
        "jac": lambda z: np.c_[-criteria(z)[1][0], np.ones(len(criteria(z)[0][0]))],
    }
    met = {
        "type": "ineq",
        "fun": lambda z: -bounds(z)[0][0],
        "jac": lambda z: np.c_[-bounds(z)[1][0], np.zeros(len(bounds(z)[0][0]))],
    }
    whole = {"type": "eq", "fun": lambda z: z[:3].sum() - 1, "jac": lambda z: np.array([1.0, 1, 1, 0])}
    begin = of.objective.question.in_use.array
    found = minimize(
        lambda z: z[3],
        np.append(begin, of.penalised(begin)),
        jac=lambda z: np.array([0.0, 0, 0, 1]),
        bounds=[(0, 1)] * 3 + [(None, None)],
        constraints=[top, met, whole],
        options={"ftol": 1e-12},
    )
    return float(found.x[3]) if found.success else np.inf


@examples(40)
@given(seeds)
def test_the_worst_target_is_better_off_than_under_the_mean_and_no_worse_than_today(seed):
    mean, worst = goal(seed), goal(seed, objective=WORST)
    h = best(worst)
    assert worst.penalised(h) <= worst.penalised(best(mean)) + 1e-6
    assert worst.penalised(h) <= worst.penalised(worst.objective.question.in_use.array) + 1e-6
    assert mean.penalised(best(mean)) <= mean.penalised(h) + 1e-6


@examples(40)
@given(seeds, st.floats(0, 2))
def test_prices_of_limits_on_losses_are_not_negative_and_name_what_binds(seed, percent):
    limited = goal(seed, not_worse=dict.fromkeys(TARGETS, percent))
    h = best(limited)
    table = prices(limited.objective, h, best(goal(seed))[None])
    assert (table["cost"] > 0).all()
    assert set(table["constraint"]) <= {f"not worse {target}" for target in limited.binding(h)}


@examples(20)
@given(seeds)
def test_the_flat_frontier_of_a_limited_mixture_holds_it_and_narrows(seed):
    limited, free = goal(seed, not_worse=dict.fromkeys(TARGETS, 0.5)), goal(seed)
    h = best(limited)
    low, high = flat_frontier(limited.objective, h, 0.01).T
    assert (low <= h + 1e-9).all()
    assert (h <= high + 1e-9).all()
    wide = flat_frontier(free.objective, best(free), 10.0)
    assert (high - low).max() <= np.ptp(wide, 1).max() + 1e-9


@examples(20)
@given(seeds)
def test_every_resampled_law_meets_the_limits_by_its_own_losses(seed):
    drawn = goal(seed, not_worse=dict.fromkeys(TARGETS, 1.0)).objective.drawn()
    optima = drawn_optima(drawn, [np.full(3, 1 / 3), drawn.question.in_use.array])
    assert (Goal(drawn).excess(optima) <= 1e-4).all()


@pytest.mark.slow
@examples(16)
@given(seeds)
def test_limits_that_contradict_each_other_are_refused_with_what_can_be_met(seed):
    strict = goal(seed, not_worse=dict.fromkeys(TARGETS, -60.0))
    with pytest.raises(ConfigError, match=r"--not-worse .*t\d:-60 .*: the nearest that can be met is") as refused:
        require_met(strict.objective, best(strict))
    text = str(refused.value).partition("that can be met is ")[2]
    pairs = [part.split(":") for part in text.split(", ")]
    possible = dict.fromkeys(TARGETS, -60.0) | {target: float(percent) for target, percent in pairs}
    met = goal(seed, not_worse=possible)
    require_met(met.objective, best(met))
    tighter = goal(seed, not_worse={target: percent - 0.1 for target, percent in possible.items()})
    with pytest.raises(ConfigError):
        require_met(tighter.objective, best(tighter))


def test_one_limit_that_cannot_be_met_is_said_so_alone():
    laws = fitted("additive", opposed())
    asked = {"not_worse": {"one": -50.0, "two": 90.0}, "baselines": {"uniform": Mixture.uniform(DOMAINS)}}
    objective = Objective(laws.best, Question(1e9, 1e11, {"one": 1.0}, **asked), {})
    capped = objective.asking(replace(objective.question, caps={"code": 0.1}))
    with pytest.raises(ConfigError, match=r"one:-50 cannot be met within the limits of weights: the nearest"):
        require_met(capped, optimum(capped, {}))
    with pytest.raises(ConfigError, match=r"one:-50 cannot be met: the nearest that can be met is one:-[\d.]+$"):
        require_met(objective, optimum(objective, {}))


@pytest.mark.parametrize("law", ["additive", "joint", "d-cpt"])
@pytest.mark.parametrize("laws", ["mean", "best", "drawn"])
def test_losses_of_all_targets_at_once_are_those_of_each(law, laws):
    theta = get_law(law).term.start(np.random.default_rng(0), 3, len(DOMAINS))
    one_domain_each = dict(zip(DOMAINS, np.clip(theta, *get_law(law).bounds(len(DOMAINS))), strict=True))
    wide = fitted(law, one_domain_each, n_draws=5).best.widened_by(1.5, {})
    objective = Objective(wide, Question(1e9, 1e11, dict.fromkeys(DOMAINS, 1.0)), {}, laws)
    h, rows = np.random.default_rng(1).dirichlet(np.ones(3), 7), np.array([0, 1, 2, 3, 4, 0, 3])
    value, gradient = objective.each(h, rows)
    for i, target in enumerate(DOMAINS):
        alone, slope = objective.of(target)(h, rows)
        np.testing.assert_allclose(value[:, i], alone, rtol=1e-12)
        np.testing.assert_allclose(gradient[:, i], slope, rtol=1e-9, atol=1e-12)
