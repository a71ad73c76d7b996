"""What the next runs are worth: nothing where laws agree, at most the whole regret, and in compute as algebra says."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.advice.constraints import Question
from mixlaw.advice.next_runs import Proposal
from mixlaw.advice.next_worth import expected_regret, next_worth, saved_by
from mixlaw.advice.objective import Objective
from mixlaw.advice.optima import optimum
from mixlaw.counts import flops
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.registry import get_law
from mixlaw.report.worth import worth_of_next
from mixlaw.tables.units import NATS
from tests.mixlaw.synthetic import TRUTHS, UNITS, fitted

N, D = 1e9, 1e11
BIG = Question(N, D, {"main": 1.0})


def proposal(laws: FittedLaws, before: float, after: float) -> Proposal:
    """Return two runs of a thousandth of the big run that take the sd of the decision from `before` to `after`."""
    best = optimum(Objective(laws.best, BIG, {}), {})
    middle = (before + after) / 2
    runs = pd.DataFrame({"flops": flops(N, D) / 1000, "sd_before": [before, middle], "sd_after": [middle, after]})
    return Proposal(runs, best[None], best)


@pytest.fixture(scope="module")
def laws() -> FittedLaws:
    return fitted("additive", {"main": TRUTHS["additive"]}, n_draws=20, spread=0.1)


@given(left=st.floats(0.0, 1.0))
def test_runs_remove_the_share_of_the_regret_that_the_variance_loses(laws, left):
    worth = next_worth(laws, BIG, proposal(laws, 0.01, 0.01 * left))
    assert worth.regret > 0
    assert worth.gain == pytest.approx(worth.regret * (1 - left**2), abs=1e-12)
    assert worth.cost == pytest.approx(2 / 1000)
    assert 0 <= worth.saved < 1


def test_the_regret_is_the_mean_excess_over_the_optima_of_all_laws(laws):
    best = optimum(Objective(laws.best, BIG, {}), {})
    theta = laws.best.target("main").draws
    h = np.random.default_rng(0).dirichlet(np.ones(3), 4000)
    x = UNITS.inputs(np.full(4001, N), np.full(4001, D), np.vstack([best, h]).T)
    loss = get_law("additive").loss(theta, x)
    assert expected_regret(Objective(laws.best, BIG, {}), best) == pytest.approx(
        (loss[:, 0] - loss.min(1)).mean(), rel=0.05
    )


def test_widened_intervals_do_not_raise_the_regret(laws):
    wider = replace(laws, fits={"additive": laws.best.widened_by(5.0, {})})
    some = proposal(laws, 0.01, 0.005)
    assert next_worth(wider, BIG, some) == next_worth(laws, BIG, some)


def test_laws_that_agree_leave_nothing_to_gain():
    sure = fitted("additive", {"main": TRUTHS["additive"]}, spread=0.0)
    worth = next_worth(sure, BIG, proposal(sure, 0.0, 0.0))
    assert worth.regret == pytest.approx(0.0, abs=1e-6)
    assert worth.saved == pytest.approx(0.0, abs=1e-6)


def test_a_gain_is_worth_the_tokens_that_give_it():
    laws = fitted("additive", {"main": TRUTHS["additive"]}, spread=0.0)
    term = 0.25 * (D / UNITS.n_tokens) ** -0.30
    saved = saved_by(Objective(laws.best, BIG, {}), np.full(3, 1 / 3), 0.2 * term)
    assert saved == pytest.approx(1 - 0.8 ** (1 / 0.30), rel=1e-3)
    fixed = fitted("additive-fixed-d", {"main": TRUTHS["additive-fixed-d"]}, spread=0.0)
    assert saved_by(Objective(fixed.best, BIG, {}), np.full(3, 1 / 3), 0.01) is None


def test_the_sentence_states_nats_and_compute(laws):
    worth = next_worth(laws, BIG, proposal(laws, 0.01, 0.005))
    assert f"reduce it by {worth.gain:.4f} nats" in worth_of_next(worth, NATS)
    assert "they cost 0.2 % of the big run's FLOPs" in worth_of_next(worth, NATS)
    assert ", worth" not in worth_of_next(replace(worth, saved=None), NATS)
