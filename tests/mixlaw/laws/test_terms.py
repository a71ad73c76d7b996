"""Terms of laws: sums, products and decays of them, and rows grouped by mixture."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlaw.laws.jacobian import Jacobian
from mixlaw.laws.registry import LAWS
from mixlaw.laws.terms import Constant, Inputs, InverseSum, Number, PowerOfSum, Term, exponent
from mixlaw.laws.tree import Decay, Nested, Product, Sum, embedded
from tests.mixlaw.synthetic import random_case

seeds = st.integers(0, 2**32 - 1)
DEEP = Sum(
    Constant("E"),
    Product(InverseSum(), Sum(Constant("C"), Product(PowerOfSum("B"), Decay("D", exponent("beta")))), Constant("F")),
    Product(Constant("G"), Decay("active", Number("lambda", (-1.0, 1.0)))),
)


def nodes(term: Term) -> list[Term]:
    """Return a tree's nodes."""
    below = term.children if isinstance(term, Nested) else ()
    return [term, *(node for child in below for node in nodes(child))]


@pytest.mark.parametrize("name", list(LAWS))
@given(seed=seeds, factor=st.floats(-2, 2))
@settings(max_examples=5)
def test_along_its_amplitude_every_piece_is_only_multiplied(name, seed, factor):
    law = LAWS[name]
    _, x = random_case(law, seed)
    for term in nodes(law.term):
        direction = term.amplitude(3)
        if direction is not None:
            theta = term.start(np.random.default_rng(seed), 2, 3)
            value, scaled = (term.value(t, x)[0] for t in (theta, theta + factor * direction))
            np.testing.assert_allclose(scaled, value * np.exp(factor), rtol=1e-9)


@pytest.mark.parametrize("tree", [DEEP])
@given(seed=seeds)
@settings(max_examples=25)
def test_a_tree_of_any_depth_has_exact_derivatives(tree, seed):
    _, x = random_case(LAWS["joint"], seed)
    theta, step = tree.start(np.random.default_rng(seed), 2, 3), 1e-6
    value, cache = tree.value(theta, x)
    ones, by_theta, by_h = np.ones((2, 6)), np.full((2, theta.shape[1], 6), np.nan), np.zeros((2, 3, 6))
    tree.vjp(cache, ones, by_theta, by_h)
    factored = Jacobian((2, theta.shape[1], 6), None)
    tree.write_jacobian(cache, ones, factored, 0)
    np.testing.assert_allclose(factored.full(), by_theta, rtol=1e-12)
    scale = np.abs(value).max()
    for i, exact in enumerate(by_theta.transpose(1, 0, 2)):
        bit = step * np.eye(theta.shape[1])[i]
        numeric = (tree.value(theta + bit, x)[0] - tree.value(theta - bit, x)[0]) / (2 * step)
        np.testing.assert_allclose(exact, numeric, rtol=1e-5, atol=1e-8 * scale)
    step = 1e-7  # weights may be as small as 1e-4
    for i, exact in enumerate(by_h.transpose(1, 0, 2)):
        bit = step * np.eye(3)[:, i : i + 1]
        numeric = (tree.value(theta, x.with_h(x.h + bit))[0] - tree.value(theta, x.with_h(x.h - bit))[0]) / (2 * step)
        np.testing.assert_allclose(exact, numeric, rtol=1e-4, atol=1e-7 * scale)


@given(seed=seeds)
@settings(max_examples=25)
def test_a_power_of_a_sum_is_smooth_where_its_power_is_zero(seed):
    term, rng = PowerOfSum("A"), np.random.default_rng(seed)
    theta = term.start(rng, 1, 3)
    h = rng.dirichlet(np.ones(3), 4).T
    x = Inputs.of(np.zeros(4), np.zeros(4), h)
    at_zero, near = theta.copy(), theta.copy()
    at_zero[:, 1], near[:, 1] = 0, 1e-9
    np.testing.assert_allclose(term.value(at_zero, x)[0], np.exp(theta[0, 0]), rtol=1e-12)
    np.testing.assert_allclose(term.value(near, x)[0], term.value(at_zero, x)[0], rtol=1e-6)
    named = term.natural(theta[0], ["a", "b", "c"])
    total = sum(named[f"CA_{d}"] * h[i] for i, d in enumerate("abc"))
    if abs(theta[0, 1]) > 0.05:
        np.testing.assert_allclose(total ** named["gammaA"], term.value(theta, x)[0][0], rtol=1e-8)


@given(seed=seeds, rows=st.lists(st.integers(0, 29), min_size=1, max_size=30))
@settings(max_examples=50)
def test_any_rows_of_grouped_ones_give_their_own_losses_in_their_order(seed, rows):
    law = LAWS["full"]
    theta, x = random_case(law, seed, n=5)
    x = x.rows(np.random.default_rng(seed).integers(0, 5, 30))
    x = x.rows(x.order())
    together = x.grouped()
    for at in (np.array(rows), np.sort(rows), slice(rows[0], None)):
        expected, jacobian = law.loss_and_jacobian(theta, x.rows(at))
        value, factored = law.loss_and_factored_jacobian(theta, together.rows(at))
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        np.testing.assert_allclose(factored.full(), jacobian, rtol=1e-9, atol=1e-12 * np.abs(jacobian).max())
        by_value = np.ones_like(value)
        np.testing.assert_allclose(factored.vjp(by_value), jacobian.sum(2), rtol=1e-8, atol=1e-10)


def test_rows_are_grouped_only_where_mixtures_repeat():
    h = np.array([[0.2, 0.2, 0.2, 0.5], [0.8, 0.8, 0.8, 0.5]])
    x = Inputs.of(np.zeros(4), np.zeros(4), h)
    together = x.grouped()
    assert together.groups.place.tolist() == [0, 0, 0, 1]
    assert together.groups.starts.tolist() == [0, 3]
    np.testing.assert_array_equal(together.distinct.h, h[:, [0, 3]])
    assert x.rows(np.array([0, 3])).grouped().distinct is None


def test_a_law_put_into_a_larger_one_keeps_its_own_pieces_and_gives_the_new_ones_equal_domains():
    small, big = LAWS["additive"].term, LAWS["full"].term
    theta = np.arange(11.0)[None]
    inside = embedded(small, theta, LAWS["joint"].term, 3)
    assert inside[0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 1, 0, 0, 8, 9, 1, 0, 0, 10]
    assert embedded(LAWS["joint"].term, inside, big, 3).shape == (1, LAWS["full"].n_free(3))


def test_parameters_are_named_as_the_source_names_them():
    assert list(LAWS["joint"].natural(np.zeros(13), ["a", "b"])) == [
        "E",
        "C_a",
        "C_b",
        "gamma_a",
        "gamma_b",
        "CA_a",
        "CA_b",
        "gammaA",
        "alpha",
        "CB_a",
        "CB_b",
        "gammaB",
        "beta",
    ]
    assert list(LAWS["d-cpt"].natural(np.zeros(9), ["a", "b"])) == [
        "E",
        "A",
        "alpha",
        "B",
        "eta",
        "beta",
        "C",
        "gamma",
        "eps",
    ]
