"""Laws on a grid of mixtures by pairs of N and D: values and products equal those computed row by row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlaw.laws.grid import GridJacobian
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import Law
from mixlaw.laws.registry import LAWS
from mixlaw.laws.terms import Inputs
from tests.marks import slow
from tests.mixlaw.synthetic import each_law, random_case

SEPARABLE = [name for name, law in LAWS.items() if law.term.separable]
MIXTURES, SCALES, MEMBERS = 4, 6, 3
seeds = st.integers(0, 2**32 - 1)


def study(law: Law, seed: int, missing: int = 0, repeated: int = 0) -> tuple[Array, Inputs]:
    """Return parameters and rows of every mixture at every pair of N and D, some rows missing, some there twice."""
    theta, x = random_case(law, seed, n=MIXTURES, b=MEMBERS)
    rng = np.random.default_rng(seed)
    log_n, log_d = np.repeat(rng.normal(size=2), SCALES // 2), rng.normal(size=SCALES)
    h = np.repeat(x.h, SCALES, axis=1)
    long = Inputs.of(np.tile(log_n, MIXTURES), np.tile(log_d, MIXTURES), h, log_d_unit=x.log_d_unit)
    kept = rng.permutation(MIXTURES * SCALES)[missing:]
    kept = np.concatenate([kept, kept[:repeated]])
    long = long.rows(kept)
    return theta, long.rows(long.order()).grouped()


def close(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-11 * max(np.abs(expected).max(), 1e-12))


def test_the_laws_of_auto_are_worked_out_on_grids_and_laws_that_read_more_than_N_D_and_h_are_not():
    assert {"multiplicative", "additive", "joint", "base", "full"} <= set(SEPARABLE)
    assert not {"moe", "bimix", "d-cpt", "autoscale", "muennighoff", "dai-zheng-3"} & set(SEPARABLE)


@pytest.mark.parametrize(("missing", "repeated"), [slow(0, 0), slow(5, 0), slow(0, 2), (3, 1)])
@pytest.mark.parametrize("name", each_law(SEPARABLE))
@given(seed=seeds)
@settings(max_examples=4)
def test_values_and_products_on_a_grid_equal_those_of_single_rows(name, missing, repeated, seed):
    law, rng = LAWS[name], np.random.default_rng(seed)
    theta, x = study(law, seed, missing, repeated)
    value, factored = law.loss_and_factored_jacobian(theta, x)
    assert isinstance(factored, GridJacobian)
    expected, full = law.loss_and_jacobian(theta, x.without_groups())
    close(value, expected)
    close(law.loss(theta, x), expected)
    close(factored.full(), full)
    step, by_value, weight = (rng.normal(size=s) for s in (theta.shape, value.shape, value.shape))
    close(factored.jvp(step), np.einsum("bpn,bp->bn", full, step))
    close(factored.vjp(by_value), np.einsum("bpn,bn->bp", full, by_value))
    close(factored.normal(weight**2), np.einsum("bpn,bn,bqn->bpq", full, weight**2, full))


@pytest.mark.parametrize("name", each_law(SEPARABLE))
@given(seed=seeds)
@settings(max_examples=4)
def test_rows_are_scaled_and_members_taken_and_replaced_without_touching_the_rest(name, seed):
    law, some = LAWS[name], np.array([True, False, True])
    theta, x = study(law, seed, missing=3)
    factored, other = (law.loss_and_factored_jacobian(theta + off, x)[1] for off in (0.0, 0.01))
    before = factored.full()
    factor = np.random.default_rng(seed).normal(size=(MEMBERS, before.shape[2]))
    few = factored.members(some)
    few.scale(factor[some])
    close(few.full(), before[some] * factor[some][:, None])
    factored.replace(some, other)
    close(factored.full()[some], other.full()[some])
    close(factored.full()[~some], before[~some])


def test_few_rows_of_many_cells_are_not_worked_out_on_a_grid():
    _, x = study(LAWS["joint"], 0)
    assert not x.grid.full
    x = x.rows(np.argsort(x.grid.cell))
    assert x.grid.full
    assert x.grid.shape == (MIXTURES, SCALES)
    assert x.rows(np.arange(18)).grid.shape == (3, SCALES)
    assert x.rows(np.array([0, 1, 8, 9, 16, 17])).grid is None


def test_a_row_that_repeats_mixture_and_scale_has_a_cell_of_its_own():
    _, x = study(LAWS["joint"], 0, repeated=3)
    assert len(set(x.grid.cell)) == len(x.log_n) == MIXTURES * SCALES + 3
    np.testing.assert_array_equal(x.scales.log_d[x.grid.cell % x.grid.shape[1]], x.log_d)
