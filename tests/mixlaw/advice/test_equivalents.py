"""Compute-equivalent gains: equal to algebra where a law has a closed form, and consistent with gains elsewhere."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.advice.constraints import Question
from mixlaw.advice.equivalents import MOST, equivalents
from mixlaw.advice.objective import Objective
from mixlaw.laws.jacobian import Array
from mixlaw.laws.registry import get_law
from mixlaw.mixture import Mixture
from tests.mixlaw.synthetic import DOMAINS, TRUTHS, UNITS, fitted

N, D = 1e9, 1e11
EVEN, BETTER = Mixture.uniform(DOMAINS), Mixture(DOMAINS, [0.3, 0.1, 0.6])


def factors(law: str, theta: Array | None = None, spread: float = 0.0, swap: bool = False, n: float = N, d: float = D):
    """Return the table of one baseline for a law with these parameters."""
    laws = fitted(law, {"main": TRUTHS[law] if theta is None else theta}, spread=spread, n_draws=20)
    first, second = (EVEN, BETTER) if swap else (BETTER, EVEN)
    objective = Objective(laws.best, Question(n, d, {"main": 1.0}), {})
    return equivalents(objective, {"recommended": first, "today": second}, 0.9).set_index(["target", "by"])


def additive(beta: float = 0.3, alpha: float = 0.35) -> Array:
    """Return the additive law's parameters with these exponents, and a mixture term that a factor of D can make up."""
    return np.array(
        [np.log(1.6), *np.log([8.0, 7.0, 9.0, 0.5, 0.4, 0.6]), *np.log([0.9, alpha, 1.2, beta])]
    )


def gap(theta: Array, first: Mixture = BETTER, second: Mixture = EVEN) -> float:
    """Return by how much the second mixture's loss is above the first's, at any N and D."""
    h = np.stack([first.array, second.array], axis=1)
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
    assert found == pytest.approx(min(exact, MOST), rel=5e-3)
