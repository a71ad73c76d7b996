"""Exposure to phases: shares, exact derivatives, and the law of one mixture as the special case."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlaw.laws.exposure import Exposed, shares
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import Law, lifted
from mixlaw.laws.multiplicative import Usefulness
from mixlaw.laws.registry import LAWS
from mixlaw.laws.terms import Inputs
from mixlaw.laws.tree import embedded
from tests.mixlaw.synthetic import random_case

NAMES = [name for name in LAWS if "-phases" in name]
STEP = 1e-6
seeds = st.integers(0, 2**32 - 1)


def random_phases(law: Law, seed: int, n: int = 6, n_phases: int = 3) -> tuple[Array, Inputs]:
    """Return parameters (2, p) and n rows of runs with phases; the first row has one mixture, the second a zero."""
    rng = np.random.default_rng(seed)
    theta, x = random_case(law, seed, n=n)
    phases = rng.dirichlet(np.ones(3), (n_phases, n)).transpose(0, 2, 1)
    phases[1, :, 1] = [0.0, 0.5, 0.5]
    until = np.sort(rng.uniform(size=(n_phases, n)), axis=0)
    until[:, 0], until[-1] = 1.0, 1.0
    return theta, with_phases(x, lifted(phases)[0], until)


def with_phases(x: Inputs, phases: Array, until: Array) -> Inputs:
    more = {"target": x.target, "log_d_unit": x.log_d_unit, "columns": {"phases": phases, "until": until}}
    return Inputs.of(x.log_n, x.log_d, x.h, **more)


@given(seed=seeds, log_r=st.floats(-3, 3))
def test_shares_of_exposure_are_a_mixture_of_the_phases(seed, log_r):
    until = np.sort(np.random.default_rng(seed).uniform(size=(4, 5)), axis=0)
    until[-1] = 1.0
    share, _ = shares(np.full((1, 1, 1), np.exp(log_r)), until)
    assert (share >= 0).all()
    np.testing.assert_allclose(share.sum(1), 1.0, rtol=1e-12)


def test_late_tokens_count_more_above_one_early_ones_below_and_all_alike_at_one():
    until = np.array([[0.5], [1.0]])
    late = [shares(np.full((1, 1, 1), r), until)[0][0, 1, 0] for r in (0.5, 1.0, 2.0)]
    np.testing.assert_allclose(late, [1 - 0.5**0.5, 0.5, 0.75])


@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds)
@settings(max_examples=20)
def test_with_equal_phases_the_law_is_the_static_one_whatever_the_powers(name, seed):
    law = LAWS[name]
    theta, x = random_phases(law, seed)
    equal = with_phases(x, np.repeat(x.h[None], 3, 0), x.column("until"))
    alone = Inputs.of(x.log_n, x.log_d, x.h, log_d_unit=x.log_d_unit)
    np.testing.assert_allclose(law.loss(theta, equal), law.loss(theta, alone), rtol=1e-12)
    static = LAWS[law.contains]
    held = np.clip(static.term.start(np.random.default_rng(seed), 2, 3), *static.bounds(3))
    inside = embedded(static.term, held, law.term, 3)
    inside[:, powers(law)] = theta[:, powers(law)]
    np.testing.assert_allclose(law.loss(inside, equal), static.loss(held, alone), rtol=1e-12)


def powers(law: Law) -> list[int]:
    """Return the indices of r and s."""
    return [i for i, name in enumerate(law.natural(np.zeros(law.n_free(3)), ["a", "b", "c"])) if name in ("r", "s")]


@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds)
@settings(max_examples=10)
def test_the_gradient_by_parameters_is_exact(name, seed):
    law = LAWS[name]
    theta, x = random_phases(law, seed)
    value, exact = law.loss_and_jacobian(theta, x)
    for j in range(theta.shape[1]):
        bit = STEP * np.eye(theta.shape[1])[j]
        numeric = (law.loss(theta + bit, x) - law.loss(theta - bit, x)) / (2 * STEP)
        np.testing.assert_allclose(exact[:, j], numeric, rtol=1e-4, atol=1e-6 * np.abs(value).max())


@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds)
@settings(max_examples=10)
def test_the_gradient_by_every_weight_of_every_phase_is_exact(name, seed):
    law = LAWS[name]
    theta, x = random_phases(law, seed)
    _, exact = law.loss_and_gradient_phases(theta, x)
    phases, until = x.column("phases"), x.column("until")
    for p in range(3):
        for i in range(3):
            bit = np.zeros_like(phases)
            bit[p, i] = 1e-7 * phases[p, i]
            up, down = (law.loss(theta, with_phases(x, phases + s * bit, until)) for s in (1, -1))
            numeric = (up - down) / (2 * bit[p, i])
            np.testing.assert_allclose(exact[:, p, i], numeric, rtol=1e-3, atol=1e-4 * np.abs(exact).max())


@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds, share=st.floats(0, 1))
@settings(max_examples=20)
def test_the_law_is_convex_in_all_phases_together(name, seed, share):
    law = LAWS[name]
    theta, one = random_phases(law, seed)
    assert all(law.convex(t, 3) for t in theta)
    other = with_phases(one, random_phases(law, seed + 1)[1].column("phases"), one.column("until"))
    mixed = share * one.column("phases") + (1 - share) * other.column("phases")
    between = law.loss(theta, with_phases(one, mixed, one.column("until")))
    chord = share * law.loss(theta, one) + (1 - share) * law.loss(theta, other)
    assert (between <= chord * (1 + 1e-12)).all()


@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds)
@settings(max_examples=10)
def test_rows_grouped_by_their_phases_give_the_same_losses_and_derivatives(name, seed):
    law, rng = LAWS[name], np.random.default_rng(seed)
    theta, x = random_phases(law, seed)
    x = x.rows(rng.integers(0, 6, 40))
    x = with_phases(
        Inputs.of(rng.normal(size=40), rng.normal(size=40), x.h, log_d_unit=x.log_d_unit),
        x.column("phases"),
        x.column("until"),
    )
    x = x.rows(x.order())
    together = x.grouped()
    assert together.distinct is not None
    np.testing.assert_allclose(law.loss(theta, together), law.loss(theta, x), rtol=1e-12)
    _, factored = law.loss_and_factored_jacobian(theta, together)
    _, exact = law.loss_and_jacobian(theta, x)
    np.testing.assert_allclose(factored.full(), exact, rtol=1e-9, atol=1e-12 * np.abs(exact).max())


def test_rows_of_equal_total_mixture_and_other_phases_are_other_mixtures():
    x = Inputs.of(np.zeros(4), np.zeros(4), np.full((2, 4), 0.5))
    phases = np.array([[[0.2, 0.2, 0.8, 0.8], [0.8, 0.8, 0.2, 0.2]], [[0.8, 0.8, 0.2, 0.2], [0.2, 0.2, 0.8, 0.8]]])
    x = with_phases(x, phases, np.array([[0.5] * 4, [1.0] * 4]))
    assert x.rows(x.order()).grouped().groups.starts.tolist() == [0, 2]
    term = Exposed(Usefulness())
    loss = term.value(np.array([[np.log(2.0), 0.0, 1.0, 0.0, -1.0]]), x)[0][0]
    assert loss[0] == loss[1] != loss[2] == loss[3]


def test_a_domain_read_all_at_once_is_worth_less_than_spread_over_the_run_below_one():
    x = with_phases(
        Inputs.of(np.zeros(2), np.zeros(2), np.full((2, 2), 0.5)),
        lifted(np.array([[[1.0, 0.5], [0.0, 0.5]], [[0.0, 0.5], [1.0, 0.5]]]))[0],  # one after the other, and mixed
        np.array([[0.5, 0.5], [1.0, 1.0]]),
    )
    for log_s, penalty in ((0.0, 0.0), (-0.5, 0.1)):
        apart, mixed = Exposed(Usefulness()).value(np.array([[0.0, log_s, 0.0, 0.0, -1.0]]), x)[0][0]
        assert apart - mixed == pytest.approx(0, abs=1e-3) if penalty == 0 else apart - mixed > penalty
