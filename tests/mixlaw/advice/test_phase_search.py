"""The search over switches: never worse than fewer phases, and as good as every other choice of switches."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlaw.advice.ask import ask
from mixlaw.advice.objective import Objective
from mixlaw.advice.optima import optimum
from mixlaw.advice.phase_search import SHORTEST, WORTH, Course, best_at, best_courses
from mixlaw.advice.phased_objective import PhasedObjective
from tests.marks import slow
from tests.mixlaw.synthetic import TRUTHS, fitted

LAW = "multiplicative-phases"
BIG = {"n_params": 1e9, "n_tokens": 1e11, "target": "main"}


@pytest.fixture(scope="module")
def objective():
    laws = fitted(LAW, {"main": TRUTHS[LAW]})
    return Objective(laws.best, ask(laws, **BIG), laws.sizes)


@pytest.fixture(scope="module")
def static(objective):
    return optimum(objective, {})


@pytest.mark.parametrize("count", [2, slow(3), slow(4)])
def test_more_phases_are_never_worse_and_no_other_switches_are_better(objective, static, count):
    best, *others = best_courses(objective, static, count, None)
    fewer = best_courses(objective, static, count - 1, None)[0].value if count > 2 else objective.at(static)
    assert best.value <= fewer + 1e-12
    assert best.value <= min(course.value for course in others) + WORTH
    assert (np.diff(best.ends, prepend=0) >= SHORTEST - 1e-9).all()
    rng = np.random.default_rng(0)
    every = list(combinations(np.arange(0.1, 0.95, 0.1).round(1).tolist(), count - 1))
    for i in rng.choice(len(every), 4):
        assert best_at(objective, (*every[i], 1.0), best).value >= best.value - 1e-4


@given(seed=st.integers(0, 2**32 - 1), ends=st.sampled_from([(0.5, 1.0), (0.3, 0.85, 1.0), (0.1, 0.2, 0.9, 1.0)]))
@settings(max_examples=20)
def test_a_run_that_is_cut_into_finer_phases_is_the_same_run(objective, seed, ends):
    rng = np.random.default_rng(seed)
    course = Course(ends, rng.dirichlet(np.ones(3), len(ends)), 0.0)
    finer = tuple(sorted({*ends, *rng.uniform(0.01, 0.99, 2).tolist()}))
    whole, cut = (PhasedObjective(objective, each) for each in (ends, finer))
    same = cut.at(cut.point_of(course.over(finer)))
    assert same == pytest.approx(whole.at(whole.point_of(course.phases)), rel=1e-12)


def test_fixed_switches_are_kept_and_are_no_worse_than_one_mixture(objective, static):
    [course] = best_courses(objective, static, 3, (0.25, 0.6))
    assert course.ends == (0.25, 0.6, 1.0)
    assert course.value <= objective.at(static)
