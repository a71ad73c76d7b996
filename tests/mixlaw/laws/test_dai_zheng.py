"""Dai and Zheng's law: the authors' published numbers, and consequences of their theorem."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mixlaw.advice.simplex import Limits, Rows, lowest, starts
from mixlaw.laws.dai_zheng import capacities
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import Law, lifted
from mixlaw.laws.registry import LAWS
from mixlaw.laws.terms import Inputs
from tests.mixlaw.synthetic import free_parameters, random_case

seeds = st.integers(0, 2**32 - 1)

# The authors' example: N in millions, D in billions, the order of their code
SEVEN = ["arxiv", "book", "c4", "github", "cc", "se", "wiki"]
PUBLISHED = {
    "b": [1.2931, 0.2504, 0.7759, 4.2533, 0.8209, 2.1420, 0.9245],
    "c": [6.1217, 3.3571, 7.8612, 7.3098, 2.3083, 3.8489, 2.3059],
    "A": [0.3931, 0.4080, 0.7319, 1.2868, 0.7130, 2.0230, 0.8802],
    "a": [0.9685, 1.6999, 0.3088, 0.0827, 1.0596, 0.0777, 0.5132],
    "E": [0.9448, 0.8770, 0.5612, 0.0, 2.4074, 0.0001, 1.3406],
}
HEAD = 4.877181


def published() -> Array:
    """Return the authors' parameters (1, 36)."""
    named = {f"{s}_{d}": v for s, values in PUBLISHED.items() for d, v in zip(SEVEN, values, strict=True)}
    return free_parameters(LAWS["dai-zheng-3"], SEVEN, H=HEAD, **named)


def every_domain(h: Array, n: float = 1.0, d: float = 1.0) -> Inputs:
    """Return one row per domain of the same run, h (k,), N and D as the law counts them."""
    k = len(h)
    return Inputs.of(np.full(k, np.log(n)), np.full(k, np.log(d)), np.tile(h[:, None], k), target=np.arange(k))


def best_mixture(law: Law, theta: Array, importance: Array, n: float, d: float) -> tuple[Array, float]:
    """Return the mixture (k,) of lowest weighted loss over all domains, and that loss."""
    k = len(importance)

    def objective(h: Array, rows: Rows | None = None) -> tuple[Array, Array]:
        seen, slope = lifted(h)
        losses, gradients = zip(
            *(law.loss_and_gradient_h(theta, every_domain(each, n, d)) for each in seen), strict=True
        )
        return np.array([v[0] @ importance for v in losses]), np.array([g[0] @ importance for g in gradients]) * slope

    anywhere = Limits(np.zeros(k), np.ones(k))
    h = lowest(objective, starts(anywhere)[:1], anywhere)
    return h, float(objective(h[None])[0][0])


def test_the_published_parameters_give_the_published_capacities():
    p = {s: np.array([v]) for s, v in PUBLISHED.items()}
    log_x, inside = capacities(p["b"], p["c"], np.array([[HEAD]]), every_domain(np.full(7, 1 / 7), 1300.0))
    expected = [91.696, 660.489, 295.191, 9.3256, 134.969, 27.402, 110.191]
    np.testing.assert_allclose(np.exp(log_x)[0, :, 0], expected, rtol=1e-5)
    assert np.exp(log_x)[0, :, 0].sum() == pytest.approx(1300 + 6 * HEAD, rel=1e-12)
    assert inside.all()


def test_the_published_parameters_give_the_published_losses():
    losses = LAWS["dai-zheng-3"].loss(published(), every_domain(np.full(7, 1 / 7), 1300.0, 30.0))[0]
    expected = [1.058582, 1.571874, 1.123429, 1.141436, 2.601115, 1.810010, 1.787533]
    np.testing.assert_allclose(losses, expected, atol=1e-6)
    assert losses.mean() == pytest.approx(1.584854, abs=1e-6)


def test_the_published_parameters_have_the_published_optimum():
    h, loss = best_mixture(LAWS["dai-zheng-3"], published(), np.full(7, 1 / 7), 1300.0, 30.0)
    assert loss == pytest.approx(1.5803065, abs=2e-7)
    np.testing.assert_allclose(h, [0.1214, 0.1136, 0.1503, 0.1073, 0.1575, 0.1544, 0.1955], atol=2e-4)


@given(seed=seeds, n=st.floats(0.1, 100))
@settings(max_examples=8)
def test_without_noise_the_best_mixture_is_the_importance_of_the_targets(seed, n):
    law, rng = LAWS["dai-zheng-1"], np.random.default_rng(seed)
    importance = rng.dirichlet(np.full(4, 5.0)) * 0.8 + 0.05
    theta = law.term.start(rng, 1, 4)
    x = every_domain(importance, n)
    # stationary point at h = w: all components of the gradient are equal
    _, gradient = law.loss_and_gradient_h(theta, x)
    pull = gradient[0] @ importance
    assert np.ptp(pull) < 1e-9 * np.abs(gradient).max()
    here = law.loss(theta, x)[0] @ importance
    for other in rng.dirichlet(np.ones(4), 20):
        assert law.loss(theta, every_domain(0.99 * other + 0.0025, n))[0] @ importance >= here - 1e-12


def test_without_noise_the_search_finds_the_importance_of_the_targets():
    law, importance = LAWS["dai-zheng-1"], np.array([0.5, 0.3, 0.2])
    theta = law.term.start(np.random.default_rng(1), 1, 3)
    h, _ = best_mixture(law, theta, importance, 3.0, 1.0)
    np.testing.assert_allclose(h, importance, atol=1e-4)


@given(seed=seeds, k=st.integers(2, 8), log_head=st.floats(-10, 4), log_n=st.floats(-3, 8))
def test_capacities_fill_the_model_and_none_is_below_the_shared_head(seed, k, log_head, log_n):
    assume(abs(log_head - log_n) > 1e-9)
    rng = np.random.default_rng(seed)
    b, c = np.exp(rng.normal(-1, 1, (2, k))), np.exp(rng.normal(0, 1, (2, k)))
    x = every_domain(rng.dirichlet(np.ones(k)), np.exp(log_n))
    log_x, inside = capacities(b, c, np.full((2, 1), np.exp(log_head)), x)
    assert (log_x >= log_head - 1e-12).all()
    if log_head >= log_n:  # no room to compete for
        np.testing.assert_allclose(log_x, log_head, atol=1e-12)
        assert not inside.any()
    else:
        room = np.exp(log_n) + (k - 1) * np.exp(log_head)
        np.testing.assert_allclose(np.exp(log_x).sum(1), room, rtol=1e-9)


@given(seed=seeds, b=st.floats(0.05, 4))
def test_with_equal_powers_capacities_are_a_power_of_amount_times_weight(seed, b):
    rng = np.random.default_rng(seed)
    c, h = np.exp(rng.normal(0, 1, (1, 4))), rng.dirichlet(np.ones(4))
    log_x, _ = capacities(np.full((1, 4), b), c, np.full((1, 1), 1e-12), every_domain(h, 5.0))
    expected = (c[0] * h) ** (1 / (b + 1))
    np.testing.assert_allclose(np.exp(log_x)[0, :, 0], 5.0 * expected / expected.sum(), rtol=1e-8)


def with_long_exponents(theta: Array, k: int) -> Array:
    theta = theta.copy()
    theta[:, [*range(k), *range(3 * k, 4 * k)]] = np.maximum(theta[:, [*range(k), *range(3 * k, 4 * k)]], np.log(0.2))
    return theta


@given(seed=seeds)
def test_with_tokens_without_end_the_third_equation_is_the_first_and_with_parameters_without_end_noise_is_left(seed):
    third, first = LAWS["dai-zheng-3"], LAWS["dai-zheng-1"]
    theta, x = random_case(third, seed)
    theta = with_long_exponents(theta, 3)
    theta[:, -1] = np.log(1e-12)
    more = {"target": x.target}
    endless = Inputs.of(x.log_n, x.log_d + 300, x.h, **more)
    np.testing.assert_allclose(third.loss(theta, endless), first.loss(theta[:, [*range(6), 12, 13, 14]], x), rtol=1e-9)
    large = Inputs.of(x.log_n + 300, x.log_d, x.h, **more)
    p = np.exp(theta)
    noise = p[:, 6 + x.own()] * (np.exp(x.log_d) * x.share()) ** -p[:, 9 + x.own()]
    np.testing.assert_allclose(third.loss(theta, large), noise + p[:, 12 + x.own()], rtol=1e-9)


@given(seed=seeds)
def test_more_of_one_domain_never_leaves_more_room_for_another(seed):
    law = LAWS["dai-zheng-1"]
    theta, x = random_case(law, seed)
    _, by_h = law.loss_and_gradient_h(theta, x)
    others = np.arange(3)[:, None] != x.own()
    assert (by_h[:, others] >= -1e-12 * np.abs(by_h).max()).all()


def test_a_domain_without_weight_gets_the_shared_head():
    law, theta = LAWS["dai-zheng-3"], np.zeros((1, 11))
    theta[0, -1] = np.log(0.1)
    log_x, inside = capacities(
        np.ones((1, 2)), np.ones((1, 2)), np.full((1, 1), 0.1), every_domain(np.array([0.0, 1.0]))
    )
    np.testing.assert_allclose(np.exp(log_x)[0, :, 0], [0.1, 1.0], rtol=1e-9)
    assert inside[0, :, 0].tolist() == [0, 1]
    assert np.isfinite(law.loss(theta, every_domain(lifted(np.array([0.0, 1.0]))[0]))).all()


@given(seed=seeds, excess=st.floats(-1, 3))
@settings(max_examples=30)
def test_derivatives_are_exact_also_where_the_shared_head_is_as_large_as_the_model(seed, excess):
    law, step = LAWS["dai-zheng-3"], 1e-6
    theta, x = random_case(law, seed)
    theta[:, -1] = x.log_n.max() + excess
    value, exact = law.loss_and_jacobian(theta, x)
    scale = np.maximum(np.abs(exact).max((1, 2)), np.abs(value).max(1))[:, None]
    for j in range(theta.shape[1]):
        bit = step * np.eye(theta.shape[1])[j]
        sides = (law.loss(theta + bit, x) - value) / step, (value - law.loss(theta - bit, x)) / step
        assert (exact[:, j] >= np.minimum(*sides) - 1e-6 * scale).all()
        assert (exact[:, j] <= np.maximum(*sides) + 1e-6 * scale).all()
