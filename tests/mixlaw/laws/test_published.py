"""Published laws: numbers that sources print, limits that follow from formulas, and user-defined formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlaw.errors import ConfigError
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import Units
from mixlaw.laws.published import Formula, SharePower, worth
from mixlaw.laws.registry import LAWS
from mixlaw.laws.terms import Inputs
from mixlaw.laws.tree import Sum
from tests.mixlaw.synthetic import DOMAINS, free_parameters, random_case

seeds = st.integers(0, 2**32 - 1)

# Abnar et al. 2025, table 3: N = parameters, D = tokens
ABNAR = {
    "E": 0.94,
    "A": 16612.50,
    "alpha": 0.5962,
    "B": 5455.67,
    "beta": 0.3954,
    "C": 0.4598,
    "lambda": -0.1666,
    "F": 17.26,
    "delta": 0.1603,
    "gamma": 0.1595,
}
# Muennighoff et al. 2023, the authors' repository datablations
MUENNIGHOFF = {
    "E": np.exp(0.6254804),
    "A": np.exp(6.255414),
    "alpha": 0.3526596,
    "B": np.exp(7.3049974),
    "beta": 0.3526596,
    "R_D": 15.387756,
    "R_N": 5.309743,
}
# Kang et al. 2024: optimal billions of tokens per domain for 0.3 B and 1.2 B, and the extrapolated ones
AUTOSCALE = [
    [0.06677956, 0.00857143, 0.04991128, 0.06099997, 0.06409308, 0.02922205, 0.02042263],
    [0.27963676, 0.03428571, 0.22316654, 0.20815835, 0.31417061, 0.10629632, 0.03428571],
    [1.17096789, 0.13714286, 0.99783655, 0.71032654, 1.53999724, 0.38665696, 0.0575592],
]


def raw(n: float, d: float, h: Array, **more: object) -> Inputs:
    """Return one row, N and D in single parameters and tokens, weights as they are."""
    return Inputs.of(np.log([n]), np.log([d]), np.asarray(h, float)[:, None], **more)


def own(h: Array) -> Inputs:
    """Return rows of two domains, of which the first is the target's own, with weights h (n,)."""
    target = np.zeros(len(h), int)
    return Inputs.of(np.zeros(len(h)), np.zeros(len(h)), np.stack([h, 1 - np.asarray(h)]), target=target)


@pytest.mark.parametrize(
    ("n", "d", "sparsity", "loss"),
    [
        (1e9, 2e10, 0.0, 2.5656813),
        (1e9, 2e10, 0.5, 2.5899488),
        (1e9, 2e10, 0.9, 2.7018723),
        (1e9, 2e10, 0.98, 2.8977568),
        (1e10, 2e11, 0.98, 2.2043634),
        (18.8e9, 110.2e9, 0.98, 2.1693353),
    ],
)
def test_the_published_law_of_sparse_models_gives_its_losses(n, d, sparsity, loss):
    x = raw(n, d, [1.0], columns={"sparsity": np.array([sparsity])})
    assert LAWS["moe"].loss(free_parameters(LAWS["moe"], ["all"], **ABNAR), x).item() == pytest.approx(loss, abs=2e-7)


def test_the_published_law_of_sparse_models_lies_within_the_bounds_in_units_of_its_runs():
    scaled = ABNAR | {
        "A": ABNAR["A"] / 1e9 ** ABNAR["alpha"],
        "B": ABNAR["B"] / 1e10 ** ABNAR["beta"],
        "F": ABNAR["F"] / 1e9 ** ABNAR["gamma"],
    }
    theta = free_parameters(LAWS["moe"], ["all"], **scaled)
    low, high = LAWS["moe"].bounds(1)
    assert ((theta > low) & (theta < high)).all()
    more = {"columns": {"sparsity": np.array([0.9])}}
    x = Units(1e9, 1e10).inputs(np.array([1e9]), np.array([2e10]), np.ones((1, 1)), **more)
    assert LAWS["moe"].loss(theta, x).item() == pytest.approx(2.7018723, abs=2e-7)


def test_large_sparse_models_should_be_sparse_and_small_ones_dense():
    theta = free_parameters(LAWS["moe"], ["all"], **ABNAR)
    sparsity = np.linspace(0, 0.999, 2000)

    def best(n):
        x = Inputs.of(np.full(2000, np.log(n)), np.full(2000, 25.0), np.ones((1, 2000)), columns={"sparsity": sparsity})
        return sparsity[LAWS["moe"].loss(theta, x)[0].argmin()]

    assert best(5e9) == 0
    np.testing.assert_allclose([best(1e10), best(1e11), best(1e12)], [0.231, 0.750, 0.919], atol=2e-3)


@pytest.mark.parametrize(
    ("n", "d", "unique", "loss", "digits"),
    [
        (6.34e9, 242e9, 25e9, 2.2256440889984477, 1e-13),
        (8.67e9, 178e9, 25e9, 2.2269634075087867, 1e-13),
        (1e9, 2e10, 2e10, 2.5646350, 1e-7),
        (1e9, 2e10, 5e9, 2.5974578, 1e-7),
        (1e9, 2e10, 1e9, 2.8104422, 1e-7),
        (1e8, 1e11, 1e9, 3.0390230, 1e-7),
    ],
)
def test_the_published_law_of_repeated_data_gives_its_losses(n, d, unique, loss, digits):
    law, h = LAWS["muennighoff"], np.array([0.3, 0.7])
    x = raw(n, d, h, columns={"available": unique * h[:, None]})
    theta = free_parameters(law, ["a", "b"], **MUENNIGHOFF)
    assert law.loss(theta, x).item() == pytest.approx(loss, abs=digits)


def test_four_epochs_are_worth_nearly_four_and_no_number_of_epochs_more_than_sixteen():
    half_life = np.array(MUENNIGHOFF["R_D"])
    assert worth(np.array(4.0), half_life) == pytest.approx(3.726, abs=5e-4)
    assert worth(np.array(1e6), half_life) == pytest.approx(16.388, abs=5e-4)


@given(half_life=st.floats(0.1, 1e3), epochs=st.floats(0, 1e5), more=st.floats(1.0, 10.0))
def test_repetition_is_never_worth_more_than_fresh_data_and_never_less_than_nothing(half_life, epochs, more):
    here, there = worth(np.array(epochs), np.array(half_life)), worth(np.array(epochs * more), np.array(half_life))
    assert here <= there <= here * more * (1 + 1e-12)
    assert here <= epochs * (1 + 1e-12)
    assert worth(np.array(1.0), np.array(half_life)) == 1


def test_with_more_data_than_it_sees_and_few_parameters_the_law_of_repeated_data_is_the_base_law():
    theta = free_parameters(LAWS["muennighoff"], DOMAINS, **MUENNIGHOFF)
    base = free_parameters(LAWS["base"], DOMAINS, **{s: MUENNIGHOFF[s] for s in ("E", "A", "alpha", "B", "beta")})
    x = raw(1e8, 1e11, np.full(3, 1 / 3), columns={"available": np.full((3, 1), 1e12)})
    np.testing.assert_allclose(LAWS["muennighoff"].loss(theta, x), LAWS["base"].loss(base, x), rtol=1e-12)


def test_the_best_parameters_for_unique_tokens_are_a_twentieth_of_them():
    law, theta = LAWS["muennighoff"], free_parameters(LAWS["muennighoff"], ["a"], **MUENNIGHOFF)
    free = free_parameters(law, ["a"], **MUENNIGHOFF | {"R_N": 1e12})
    for share, differs in ((0.0509, False), (0.0511, True)):
        x = raw(share * 1e10, 1e10, [1.0], columns={"available": np.array([[1e10]])})
        assert (law.loss(theta, x).item() > law.loss(free, x).item() + 1e-12) == differs


def test_the_rule_of_autoscale_extrapolates_its_published_mixtures():
    first, second, third = map(np.array, AUTOSCALE)
    np.testing.assert_allclose(second**2 / first, third, rtol=1e-6)
    steps = [second, third]
    for total in (21.38933448, 93.22814587, 412.44002731):
        steps.append(steps[-1] ** 2 / steps[-2])
        assert steps[-1].sum() == pytest.approx(total, rel=1e-6)


def test_the_rule_of_autoscale_follows_the_optimum_of_its_law_without_tokens_from_elsewhere():
    # At the optimum all domains have the same slope: N_i = (gamma_i / mu)^(1 / (1 + gamma_i)), a line in log mu
    law, gamma, mu = LAWS["autoscale"], np.array([0.1, 0.15, 0.3]), np.array([1e-10, 1e-11])
    first, second = ((gamma / m) ** (1 / (1 + gamma)) for m in mu)
    third = second**2 / first
    named = {f"N0_{d}": 1e-9 for d in DOMAINS} | {f"gamma_{d}": g for d, g in zip(DOMAINS, gamma, strict=True)}
    theta = free_parameters(law, DOMAINS, E=1.0, **named)
    for tokens in (first, second, third):
        x = raw(1.0, tokens.sum(), tokens / tokens.sum())
        slope = law.loss_and_gradient_h(theta, x)[1].ravel()
        np.testing.assert_allclose(slope, slope[0], rtol=1e-6)
        elsewhere = raw(1.0, tokens.sum(), np.roll(tokens, 1) / tokens.sum())
        assert np.ptp(law.loss_and_gradient_h(theta, elsewhere)[1]) > 0.1 * abs(slope[0])


def test_autoscale_counts_raw_tokens_whatever_the_units():
    law = LAWS["autoscale"]
    theta = random_case(law, 3)[0]
    n, d, h = np.full(2, 1e8), np.array([1e9, 4e10]), np.array([[0.3, 0.2], [0.7, 0.8]])
    theta = theta[:, [0, 1, 2, 4, 5]]
    losses = [law.loss(theta, Units(1e8, unit).inputs(n, d, h)) for unit in (1.0, 1e9, 1e12)]
    np.testing.assert_allclose(losses[1:], [losses[0]] * 2, rtol=1e-12)
    # ... so counting in thousands does change it
    assert (np.abs(law.loss(theta, Units(1e8, 1.0).inputs(n, d / 1e3, h)) / losses[0] - 1) > 1e-6).any()


def sedova(available: float, d: float, h: Array, **changed: float) -> Array:
    """Return losses at weights h (n,) of a target pool."""
    p = {"E": 1.0, "C": 0.3, "beta": 0.3, "B": 0.5, "delta": 0.1, "alpha": 0.4, "gamma": 0.05, "tau": 3.0, "r1": 6.0}
    law, h = LAWS["sedova"], np.asarray(h, float)
    theta = free_parameters(law, ["target", "generic"], **p | changed)
    x = Inputs.of(
        np.zeros(len(h)),
        np.full(len(h), np.log(d)),
        np.stack([h, 1 - h]),
        target=np.zeros(len(h), int),
        columns={"available": np.full((2, len(h)), available)},
    )
    return law.loss(theta, x)[0]


def test_without_weight_on_a_finite_pool_its_size_does_not_matter_and_all_tokens_count_as_generic():
    assert sedova(1e-3, 5.0, [0.0]) == sedova(1e3, 5.0, [0.0]) == pytest.approx(1.3 + 0.5 * 5.0**-0.4, rel=1e-12)


def test_a_finite_pools_tokens_are_worth_tau_each_until_it_is_used_up_and_at_most_one_and_r1_times_over():
    h = np.array([0.25])
    before = sedova(10.0, 4.0, h)  # 1 token of 10
    assert before == pytest.approx(1.3 + 0.5 * (3.0 + 3.0 * 1.0) ** -0.4 + 0.05 * 0.25, rel=1e-12)
    endless = sedova(1e-6, 4.0, h)
    assert endless == pytest.approx(1.3 + 0.5 * (3.0 + 3.0 * 7e-6) ** -0.4 + 0.05 * 0.25, rel=1e-12)
    just = sedova(1.0, 4.0, np.array([0.25 - 1e-9, 0.25, 0.25 + 1e-9]))  # the pool is used up: no jump, no kink
    assert np.abs(np.diff(just)).max() < 1e-8
    assert np.diff(just)[0] == pytest.approx(np.diff(just)[1], rel=1e-3)


def test_one_source_alone_follows_the_law_of_repeated_data():
    alone = sedova(1.0, 4.0, [1.0], gamma=0.0, tau=1.0, r1=MUENNIGHOFF["R_D"])
    assert alone == pytest.approx(1.3 + 0.5 * 3.7259**-0.4, rel=1e-5)


def test_a_little_old_data_makes_a_model_forget_like_a_nine_times_larger_one():
    law = LAWS["forgetting"]
    for much, times in ((829.0, 9.29), (1e4, 101.0)):
        theta = free_parameters(law, ["old", "new"], A=0.4, beta=0.5, alpha=0.6, B=much)
        columns, target = {"before": np.full(1, 2.5)}, np.zeros(1, int)
        mixed = raw(1e8, 1e6, [0.01, 0.99], columns=columns, target=target)
        larger = raw(times * 1e8, 1e6, [0.0, 1.0], columns=columns, target=target)
        np.testing.assert_allclose(law.loss(theta, mixed), law.loss(theta, larger), rtol=1e-12)
        none = raw(1e8, 1e-300, [0.0, 1.0], columns=columns, target=target)
        assert law.loss(theta, none).item() == pytest.approx(2.5, rel=1e-12)


D_CPT = {"E": 1.1, "A": 0.2, "alpha": 0.3, "B": 0.4, "eta": 0.5, "beta": 0.6, "C": 0.3, "gamma": 0.7, "eps": 0.05}


@given(d=st.floats(-5, 5), n=st.floats(-5, 5))
def test_without_weight_on_the_target_continual_pretraining_does_not_depend_on_tokens(d, n):
    law, target = LAWS["d-cpt"], np.zeros(1, int)
    theta = free_parameters(law, ["a", "b"], **D_CPT)
    x = Inputs.of(np.array([n]), np.array([d]), np.array([[0.0], [1.0]]), target=target)
    expected = 1.1 + 0.2 * np.exp(-0.3 * n) + 0.3 * 0.05**-0.7
    assert law.loss(theta, x).item() == pytest.approx(expected, rel=1e-9)
    alone = Inputs.of(np.array([n]), np.array([d]), np.array([[1.0], [0.0]]), target=target)
    expected = 1.1 + 0.2 * np.exp(-0.3 * n) + 0.4 * np.exp(-0.6 * d) + 0.3 * 1.05**-0.7
    assert law.loss(theta, alone).item() == pytest.approx(expected, rel=1e-12)


@given(seed=seeds)
def test_more_of_the_target_makes_tokens_count_more_in_continual_pretraining(seed):
    law, rng = LAWS["d-cpt"], np.random.default_rng(seed)
    theta, x = random_case(law, seed)
    step, h = 0.1, np.sort(rng.uniform(0.05, 0.95, 2))

    def gain(share):
        mixture = np.stack([share, (1 - share) / 2, (1 - share) / 2])[:, None] * np.ones(6)
        rows = Inputs.of(x.log_n, x.log_d, mixture, target=np.zeros(6, int))
        later = Inputs.of(x.log_n, x.log_d + step, mixture, target=np.zeros(6, int))
        return law.loss(theta, rows) - law.loss(theta, later)

    assert (gain(h[1]) >= gain(h[0]) - 1e-9 * np.abs(gain(h[0])).max() - 1e-12).all()


@given(seed=seeds, log_d=st.floats(-3, 3), shares=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)))
def test_in_bimix_two_shares_losses_have_the_same_ratio_at_every_number_of_tokens(seed, log_d, shares):
    law = LAWS["bimix"]
    theta, _ = random_case(law, seed)
    x = own(np.array(shares))
    losses = law.loss(theta, Inputs.of(x.log_n, x.log_d + log_d, x.h, target=x.target))
    power = np.exp(theta[:, 0])
    np.testing.assert_allclose(losses[:, 0] / losses[:, 1], (shares[1] / shares[0]) ** power, rtol=1e-9)


def test_bimix_has_no_floor_and_ends_at_its_constant():
    theta = free_parameters(LAWS["bimix"], ["a", "b"], a=0.3, C=2.0, B=1.0, beta=0.5)
    x = Inputs.of(np.zeros(2), np.full(2, 600.0), np.array([[1.0, 1e-12], [0.0, 1.0]]), target=np.zeros(2, int))
    np.testing.assert_allclose(LAWS["bimix"].loss(theta, x)[0], [2.0, 2.0 * 1e12**0.3], rtol=1e-12)


def test_scheffes_coefficients_are_the_corners_and_the_bends_of_the_edges():
    law = LAWS["scheffe"]
    corners, bends = (
        {"b_code": 2.0, "b_docs": 3.0, "b_web": 4.0},
        {"b_code*docs": -1.0, "b_code*web": 2, "b_docs*web": 0.5},
    )
    theta = free_parameters(law, DOMAINS, **corners, **bends)
    h = np.hstack([np.eye(3), 0.5 * (1 - np.eye(3))])
    losses = law.loss(theta, Inputs.of(np.zeros(6), np.zeros(6), h))[0]
    np.testing.assert_allclose(losses[:3], [2, 3, 4], rtol=1e-12)
    np.testing.assert_allclose(losses[3:], [3.5 + 0.5 / 4, 3 + 2 / 4, 2.5 - 1 / 4], rtol=1e-12)
    plane = free_parameters(LAWS["linear"], DOMAINS, **corners)
    flat = free_parameters(law, DOMAINS, **corners, **dict.fromkeys(bends, 0.0))
    x = random_case(law, 0)[1]
    np.testing.assert_allclose(LAWS["linear"].loss(plane, x), law.loss(flat, x), rtol=1e-12)


def test_scheffes_law_is_convex_where_it_bends_upward_inside_the_simplex():
    # sum h_i^2 = 1 - 2 sum_{i<j} h_i h_j there, though the Hessian has eigenvalues of both signs
    for bend, convex in ((-2.0, True), (2.0, False), (0.0, True)):
        assert LAWS["scheffe"].convex(np.array([1.0, 2, 3, bend, bend, bend]), 3) == convex
    assert not LAWS["scheffe"].convex(np.array([1.0, 2, 3, -2, -2, 2]), 3)


@given(seed=seeds, shift=st.floats(-3, 3))
def test_in_the_data_mixing_law_a_common_shift_of_the_slopes_is_a_factor(seed, shift):
    law = LAWS["ye-m4"]
    theta, x = random_case(law, seed)
    x = x.with_h(x.h / x.h.sum(0))
    moved = theta + shift * np.array([0, -1, 1, 1, 1])
    np.testing.assert_allclose(law.loss(moved, x), law.loss(theta, x), rtol=1e-9)


@given(seed=seeds, factor=st.floats(0.2, 5))
def test_in_yes_third_form_only_the_product_of_the_slopes_matters(seed, factor):
    law = LAWS["ye-m3"]
    theta, x = random_case(law, seed)
    theta[:, 2:] = theta[:, 2:].clip(-3, 3)
    moved = theta * np.array([1, 1, factor, 1 / factor, 1])
    np.testing.assert_allclose(law.loss(moved, x), law.loss(theta, x), rtol=1e-9)
    none = x.with_h(np.array([[0.0], [0.4], [0.6]]) * np.ones(6))
    np.testing.assert_allclose(law.loss(theta, none), np.exp(theta[:, :2]).sum(1)[:, None] * np.ones(6), rtol=1e-12)


def test_a_share_to_a_power_is_convex_below_zero_and_from_one_on():
    for sign, power, convex in ((-1, 0.2, True), (-1, 3.0, True), (1, 0.5, False), (1, 1.0, True), (1, 2.0, True)):
        assert SharePower("a", sign).convex(np.log([power]), 2) == convex


def rising(p, x):
    return p.E + (p.C * x.h).sum(-2) * np.exp(-p.s * x.log_d)


RISING = Formula(rising, "Dh", ("C",), E=(0.1, 10), C=(0.01, 10), s=(-1, 1))


@given(seed=seeds)
@settings(max_examples=25)
def test_a_formulas_derivatives_are_exact_to_the_last_digits(seed):
    rng = np.random.default_rng(seed)
    theta = RISING.start(rng, 2, 3)
    _, x = random_case(LAWS["base"], seed)
    value, cache = RISING.value(theta, x)
    by_theta, by_h = np.empty((2, 5, 6)), np.zeros((2, 3, 6))
    RISING.vjp(cache, np.ones((2, 6)), by_theta, by_h)
    e, c, s = np.exp(theta[:, :1]), np.exp(theta[:, 1:4, None]), theta[:, 4:]
    decay = np.exp(-s * x.log_d)
    mixed = (c * x.h).sum(1)
    np.testing.assert_allclose(value, e + mixed * decay, rtol=1e-13)
    np.testing.assert_allclose(by_theta[:, 0], e * np.ones(6), rtol=1e-13)
    np.testing.assert_allclose(by_theta[:, 1:4], c * x.h * decay[:, None], rtol=1e-13)
    np.testing.assert_allclose(by_theta[:, 4], -x.log_d * mixed * decay, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(by_h, c * decay[:, None], rtol=1e-13)


def test_a_formulas_parameters_are_positive_where_their_range_is_and_named_by_domain_where_they_are_many():
    low, high = RISING.bounds(2)
    np.testing.assert_allclose(low, [np.log(0.1), np.log(0.01), np.log(0.01), -1])
    np.testing.assert_allclose(high, [np.log(10), np.log(10), np.log(10), 1])
    assert RISING.natural(np.zeros(4), ["a", "b"]) == {"E": 1.0, "C_a": 1.0, "C_b": 1.0, "s": 0.0}
    assert not RISING.convex(np.zeros(4), 2)


def test_a_formula_that_reads_what_it_did_not_name_is_refused_before_it_is_worked_out_once_per_mixture():
    term = Sum(Formula(rising, "h", ("C",), E=(0.1, 10), C=(0.01, 10), s=(-1, 1)))
    theta, x = term.start(np.random.default_rng(0), 1, 3), random_case(LAWS["base"], 0)[1]
    with pytest.raises(ConfigError, match=r"the formula reads D, but its `uses` is \['h'\]: add D"):
        term.value(theta, x)

    def undeclared(p, x):
        return p.E * x.column("before")

    with pytest.raises(ConfigError, match="the formula reads before"):
        Formula(undeclared, (), E=(0.1, 1)).value(np.zeros((1, 1)), x)


def test_a_formula_that_names_what_there_is_not_is_refused_with_the_near_match():
    with pytest.raises(ConfigError, match="unknown input of a formula 'availible'; did you mean 'available'"):
        Formula(rising, ("D", "availible"), E=(0.1, 1))
    with pytest.raises(ConfigError, match="unknown input of a formula 's'"):
        Formula(rising, "share", E=(0.1, 1))


def test_a_formula_of_parameters_alone_has_a_value_for_every_row():
    term = Formula(lambda p, x: p.E, "h", E=(0.1, 10))
    _, x = random_case(LAWS["base"], 0)
    assert term.value(np.zeros((2, 1)), x)[0].shape == (2, 6)
