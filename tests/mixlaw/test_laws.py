"""The laws: the paper's formulas, their exact gradients, and the properties that follow from them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlaw.errors import ConfigError
from mixlaw.laws import (
    EXPONENT_POWER,
    FLOOR,
    INVERSE_SUM,
    LAWS,
    POWER_OF_SUM,
    Array,
    Inputs,
    Law,
    Units,
    get_law,
    lifted,
)
from tests.mixlaw.synthetic import DOMAINS, TRUTHS, random_case

NAMES = list(LAWS)
COUNTS = {
    "base": lambda k: 5,
    "additive": lambda k: 5 + 2 * k,
    "joint": lambda k: 5 + 4 * k,
    "simple": lambda k: 6 + k,
    "full": lambda k: 5 + 6 * k,
    "additive-fixed-nd": lambda k: 1 + 2 * k,
    "additive-fixed-n": lambda k: 3 + 2 * k,
}
seeds = st.integers(0, 2**32 - 1)


def with_gamma_away_from_zero(law: Law, theta: Array, k: int) -> Array:
    """The paper's C_i of a power of a sum are value^(1/gamma): finite only away from gamma = 0."""
    theta = theta.copy()
    for name, form in law.pieces():
        if form in (POWER_OF_SUM, EXPONENT_POWER):
            at = law.slices(k)[name].start + 1
            theta[:, at] = np.where(theta[:, at] < 0, -1, 1) * np.maximum(np.abs(theta[:, at]), 0.2)
    return theta


def relabelled(law: Law, theta: Array, order: list[int]) -> Array:
    """Return the parameters of the same law after its domains were put into another order."""
    k, theta = len(order), theta.copy()
    for name, form in law.pieces():
        part = theta[0, law.slices(k)[name]]
        if form is INVERSE_SUM:
            part[:] = np.concatenate([part[:k][order], part[k:][order]])
        elif form in (POWER_OF_SUM, EXPONENT_POWER):
            ratios = np.append(part[2:], 0.0)[order]
            part[0] += part[1] * ratios[-1]
            part[2:] = (ratios - ratios[-1])[:-1]
    return theta


def paper_loss(name: str, p: dict[str, float], n: float, d: float, h: Array) -> float:
    """Return the loss as the paper writes it, section 2, 6 and appendix B."""
    named = dict(zip(DOMAINS, h, strict=True))

    def inverse_sum() -> float:
        return 1 / sum(p[f"C_{i}"] * w ** p[f"gamma_{i}"] for i, w in named.items())

    def power(symbol: str) -> float:
        return sum(p[f"C{symbol}_{i}"] * w for i, w in named.items()) ** p[f"gamma{symbol}"]

    def constants() -> float:
        return p["A"] / n ** p["alpha"] + p["B"] / d ** p["beta"]

    terms = {
        "base": lambda: constants(),
        "additive": lambda: inverse_sum() + constants(),
        "simple": lambda: power("") + constants(),
        "joint": lambda: inverse_sum() + power("A") / n ** p["alpha"] + power("B") / d ** p["beta"],
        "full": lambda: inverse_sum() + power("A") / n ** power("alpha") + power("B") / d ** power("beta"),
        "additive-fixed-nd": lambda: inverse_sum(),
        "additive-fixed-n": lambda: inverse_sum() + p["B"] / d ** p["beta"],
    }
    return p["E"] + terms[name]()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [2, 3, 7])
def test_a_law_has_as_many_parameters_as_the_paper_counts(name, k):
    law = LAWS[name]
    assert law.n_free(k) == COUNTS[name](k)
    assert [len(side) for side in law.bounds(k)] == [law.n_free(k)] * 2


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20)
@given(seed=seeds)
def test_the_gradient_by_parameters_is_exact_also_at_zero_weights(name, seed):
    law = LAWS[name]
    theta, x = random_case(law, seed)
    steps = 1e-5 * np.eye(theta.shape[1])
    numeric = (law.loss(theta + steps, x) - law.loss(theta - steps, x)) / 2e-5
    exact = law.loss_and_jacobian(theta, x)[1][0].T
    np.testing.assert_allclose(exact, numeric, rtol=1e-5, atol=1e-7 * np.abs(exact).max())


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20)
@given(seed=seeds)
def test_the_gradient_by_weights_is_exact(name, seed):
    law, k = LAWS[name], 3
    theta, x = random_case(law, seed)
    h = 0.8 * x.h + 0.2 / k
    steps = 1e-6 * np.eye(k)[:, None, :]
    each = np.repeat(theta, k, 0)
    high, low = (law.loss(each, Inputs(x.log_n, x.log_d, h + sign * steps)) for sign in (1, -1))
    exact = law.loss_and_gradient_h(theta, Inputs(x.log_n, x.log_d, h))[1][0]
    np.testing.assert_allclose(exact.T, (high - low) / 2e-6, rtol=1e-5, atol=1e-7 * max(1, np.abs(exact).max()))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=20)
@given(seed=seeds)
def test_the_reported_parameters_put_into_the_papers_formula_give_the_loss(name, seed):
    law = LAWS[name]
    theta, x = random_case(law, seed)
    theta = with_gamma_away_from_zero(law, theta, 3)
    reported = law.natural(theta[0], DOMAINS)
    assert len(reported) == law.n_free(3)
    rows = zip(np.exp(x.log_n), np.exp(x.log_d), x.h, strict=True)
    expected = [paper_loss(name, reported, n, d, h) for n, d, h in rows]
    np.testing.assert_allclose(law.loss(theta, x)[0], expected, rtol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds, order=st.permutations([0, 1, 2]))
@settings(max_examples=20)
def test_the_names_order_of_domains_does_not_matter(name, seed, order):
    law = LAWS[name]
    theta, x = random_case(law, seed)
    moved = law.loss(relabelled(law, theta, order), Inputs(x.log_n, x.log_d, x.h[:, order]))
    np.testing.assert_allclose(moved, law.loss(theta, x), rtol=1e-9)


@pytest.mark.parametrize("name", ["base", "additive"])
@given(seed=seeds, factor=st.floats(1.1, 1e6))
@settings(max_examples=30)
def test_more_parameters_and_more_tokens_lower_the_loss(name, seed, factor):
    law = LAWS[name]
    theta, x = random_case(law, seed)
    here, more = law.loss(theta, x), np.log(factor)
    assert (law.loss(theta, Inputs(x.log_n + more, x.log_d, x.h)) < here).all()
    assert (law.loss(theta, Inputs(x.log_n, x.log_d + more, x.h)) < here).all()


@given(seed=seeds, amplitudes=st.tuples(st.floats(-3, 2), st.floats(-3, 2)))
@settings(max_examples=30)
def test_joint_with_equal_domains_and_power_one_is_additive(seed, amplitudes):
    additive, joint = LAWS["additive"], LAWS["joint"]
    theta, x = random_case(additive, seed)
    nested = np.zeros((1, joint.n_free(3)))
    at, additive_at = joint.slices(3), additive.slices(3)
    for name in ("E", "", "alpha", "beta"):
        nested[:, at[name]] = theta[:, additive_at[name]]
    for name, amplitude in zip(("A", "B"), amplitudes, strict=True):
        theta[:, additive_at[name]] = amplitude
        nested[:, at[name]] = [amplitude, 1.0, 0.0, 0.0]
    np.testing.assert_allclose(joint.loss(nested, x), additive.loss(theta, x), rtol=1e-12)


@given(seed=seeds, share=st.floats(0, 1))
@settings(max_examples=50)
def test_additive_is_convex_in_the_mixture_when_no_gamma_exceeds_one(seed, share):
    law = LAWS["additive"]
    theta, x = random_case(law, seed, n=6)
    gamma = slice(law.slices(3)[""].start + 3, law.slices(3)[""].stop)
    theta[:, gamma] = np.minimum(theta[:, gamma], 0.0)
    same = [np.zeros(3), np.zeros(3)]
    ends = [law.loss(theta, Inputs(*same, h))[0] for h in (x.h[:3], x.h[3:])]
    middle = law.loss(theta, Inputs(*same, share * x.h[:3] + (1 - share) * x.h[3:]))[0]
    chord = share * ends[0] + (1 - share) * ends[1]
    assert (middle <= chord * (1 + 1e-9)).all()


@given(seed=seeds, factor=st.floats(1e-6, 1e6))
@settings(max_examples=30)
def test_the_unit_of_parameters_and_tokens_does_not_matter(seed, factor):
    theta, x = random_case(LAWS["joint"], seed)
    n, d = 1e8 * np.exp(x.log_n), 1e10 * np.exp(x.log_d)
    here = LAWS["joint"].loss(theta, Units(1e8, 1e10).inputs(n, d, x.h))
    there = LAWS["joint"].loss(theta, Units(1e8 * factor, 1e10 * factor).inputs(n * factor, d * factor, x.h))
    np.testing.assert_allclose(there, here, rtol=1e-9)


def test_weights_are_lifted_smoothly_off_zero_and_are_themselves_from_half_a_percent_on():
    h = np.concatenate([[0.0], np.geomspace(1e-9, 1, 400)])
    seen, slope = lifted(h)
    assert seen[0] == pytest.approx(FLOOR)
    assert (np.diff(seen) >= 0).all()
    np.testing.assert_allclose(seen[h >= 5 * FLOOR], h[h >= 5 * FLOOR], rtol=4.1e-4)
    step = 1e-7
    np.testing.assert_allclose(slope, (lifted(h + step)[0] - lifted(h - step)[0]) / (2 * step), atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_no_law_has_a_cliff_between_a_weight_of_zero_and_the_next_one(name):
    theta, _ = random_case(LAWS[name], 5)
    h = np.array([[0.0, 0.5, 0.5], [1e-4, 0.4999, 0.5]])
    at_zero, beside = LAWS[name].loss(theta, Units(1e8, 1e10).inputs(np.full(2, 1e8), np.full(2, 1e10), h))[0]
    assert at_zero == pytest.approx(beside, abs=1e-3)


def test_units_are_powers_of_ten_in_the_middle_of_the_data():
    assert Units.of(np.array([2e7, 1e8, 5e8]), np.array([2e9, 9e9])) == Units(1e8, 1e10)


@pytest.mark.parametrize("name", NAMES)
def test_every_member_of_a_batch_may_have_a_mixture_of_its_own(name):
    law = LAWS[name]
    theta, x = random_case(law, 1)
    own = law.loss(np.repeat(theta, 5, 0), Inputs(x.log_n, x.log_d, np.repeat(x.h[:, None], 5, 1)))
    shared = np.stack([law.loss(theta, Inputs(x.log_n, x.log_d, np.repeat(h[None], 5, 0)))[0] for h in x.h])
    np.testing.assert_allclose(own, shared, rtol=1e-12)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("k", [2, 7])
def test_starting_points_lie_in_the_box_and_give_finite_losses(name, k):
    law, rng = LAWS[name], np.random.default_rng(0)
    theta = law.random(rng, 200, k, 2.5, 1.0)
    low, high = law.bounds(k)
    assert ((theta >= low) & (theta <= high)).all()
    x = Inputs(rng.normal(size=20), rng.normal(size=20), rng.dirichlet(np.ones(k), 20))
    assert np.isfinite(law.loss(theta, x)).all()


def test_the_truths_of_these_tests_lie_inside_the_bounds():
    for name, theta in TRUTHS.items():
        low, high = LAWS[name].bounds(3)
        assert ((theta > low) & (theta < high)).all(), name


def test_an_unknown_law_is_refused_with_the_near_match():
    with pytest.raises(ConfigError, match=r"unknown law 'aditive'; did you mean 'additive'\? known: additive, "):
        get_law("aditive")
