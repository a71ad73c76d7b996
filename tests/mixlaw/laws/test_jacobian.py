"""Derivatives kept in factored form: every product that the solver takes of them equals dense algebra."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlaw.laws.jacobian import Array, Groups, Jacobian
from mixlaw.laws.law import Law
from mixlaw.laws.registry import LAWS
from mixlaw.laws.terms import Inputs
from tests.mixlaw.synthetic import each_law, random_case

NAMES = list(LAWS)
ROWS, MEMBERS = 24, 3
seeds = st.integers(0, 2**32 - 1)


def slopes_of(law: Law, seed: int, repeated: bool, off: float = 0.0) -> Jacobian:
    """Return a law's derivatives on rows of which many, or none, share their mixture; `off` moves the parameters."""
    theta, x = random_case(law, seed, n=4 if repeated else ROWS, b=MEMBERS)
    if repeated:
        rng = np.random.default_rng(seed)
        x = x.rows(np.append(np.arange(4), rng.integers(0, 4, ROWS - 4)))
        more = {"target": x.target, "columns": x.columns, "log_d_unit": x.log_d_unit}
        x = Inputs.of(rng.normal(size=ROWS), rng.normal(size=ROWS), x.h, **more)
    x = x.rows(x.order()).grouped()
    assert (x.groups is not None) == repeated
    return law.loss_and_factored_jacobian(theta + off, x)[1]


def close(found: Array, dense: Array) -> None:
    np.testing.assert_allclose(found, dense, rtol=1e-9, atol=1e-11 * max(np.abs(dense).max(), 1e-12))


@pytest.mark.parametrize("repeated", [True, False])
@pytest.mark.parametrize("name", each_law(NAMES))
@given(seed=seeds)
@settings(max_examples=8)
def test_products_equal_those_of_the_dense_jacobian(name, repeated, seed):
    jacobian, rng = slopes_of(LAWS[name], seed, repeated), np.random.default_rng(seed)
    full = jacobian.full()
    step, by_value, weight = (rng.normal(size=s) for s in (full.shape[:2], (MEMBERS, ROWS), (MEMBERS, ROWS)))
    close(jacobian.jvp(step), np.einsum("bpn,bp->bn", full, step))
    close(jacobian.vjp(by_value), np.einsum("bpn,bn->bp", full, by_value))
    close(jacobian.normal(weight**2), np.einsum("bpn,bn,bqn->bpq", full, weight**2, full))


@pytest.mark.parametrize("repeated", [True, False])
@pytest.mark.parametrize("name", each_law(NAMES))
@given(seed=seeds)
@settings(max_examples=5)
def test_rows_are_scaled_and_members_taken_and_replaced_without_touching_the_rest(name, repeated, seed):
    jacobian, rng = slopes_of(LAWS[name], seed, repeated), np.random.default_rng(seed)
    before, factor = jacobian.full(), rng.normal(size=(MEMBERS, ROWS))
    some = np.array([True, False, True])
    few = jacobian.members(some)
    assert few.shape == (2, *jacobian.shape[1:])
    close(few.full(), before[some])
    few.scale(factor[some])
    close(few.full(), before[some] * factor[some][:, None])
    close(jacobian.full(), before)
    jacobian.scale(factor)
    scaled = before * factor[:, None]
    close(jacobian.full(), scaled)
    other = slopes_of(LAWS[name], seed, repeated, off=0.01)
    jacobian.replace(some, other)
    close(jacobian.full()[some], other.full()[some])
    close(jacobian.full()[~some], scaled[~some])


@given(data=st.data(), seed=seeds)
def test_sums_over_mixtures_are_the_transpose_of_spreading_over_rows(data, seed):
    counts = data.draw(st.lists(st.integers(1, 5), min_size=1, max_size=6))
    place = np.repeat(np.arange(len(counts)), counts)
    groups, rng = Groups(place, np.cumsum([0, *counts[:-1]])), np.random.default_rng(seed)
    by_mixture, by_row = rng.normal(size=(2, len(counts))), rng.normal(size=(2, len(place)))
    np.testing.assert_array_equal(groups.spread(by_mixture), by_mixture[:, place])
    left, right = (groups.spread(by_mixture) * by_row).sum(), (by_mixture * groups.sums(by_row)).sum()
    np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-9)


def test_a_law_without_a_mixture_has_no_factored_part_and_one_of_the_mixture_alone_no_dense_part():
    assert not slopes_of(LAWS["base"], 0, True).factored
    alone = slopes_of(LAWS["ye-m1"], 0, True)
    assert alone.factored[0].inner.shape == (MEMBERS, 6, 4)
    assert all(rows.shape[1] == 1 for _, rows in alone.dense)  # E
