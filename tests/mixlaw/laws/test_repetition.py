"""Laws of repeated domains: no effect up to one epoch, saturation, harm, model size, and the share of a domain."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixlaw.laws.registry import LAWS
from mixlaw.laws.repetition import Worth
from mixlaw.laws.terms import Inputs
from tests.mixlaw.synthetic import DOMAINS, TRUTHS, random_case

NAME = "multiplicative-repeats"
LAW = LAWS[NAME]
NAMES = [name for name in LAWS if "-repeats" in name]
seeds = st.integers(0, 2**32 - 1)


def with_pools(x: Inputs, pools) -> Inputs:
    return Inputs.of(x.log_n, x.log_d, x.h, columns={"available": pools}, log_d_unit=x.log_d_unit)


def worth(epochs, r=15.0, p=1.0, delta=0.0, sigma=0.0, n=1.0, share=1.0):
    """Return the worth of the tokens of a domain with this share of a run that is read this many times."""
    epochs = np.atleast_1d(np.asarray(epochs, float))
    pool = share / epochs
    x = Inputs.of(np.full(len(pool), np.log(n)), np.zeros(len(pool)), np.full((1, len(pool)), share))
    return Worth(np.array([[np.log(r), np.log(p), delta, sigma]]), with_pools(x, pool[None])).value[0, 0]


@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds)
@settings(max_examples=20)
def test_up_to_one_epoch_the_pools_have_no_effect(name, seed):
    law = LAWS[name]
    theta, x = random_case(law, seed)
    once = x.h * np.exp(x.log_d)
    enough = [law.loss(theta, with_pools(x, pools)) for pools in (once * 1.0000001, once * 2, np.full(x.h.shape, 1e30))]
    np.testing.assert_allclose(enough[0], enough[2], rtol=1e-12)
    np.testing.assert_allclose(enough[1], enough[2], rtol=1e-12)


@given(r=st.floats(0.5, 500), p=st.floats(0.5, 4), delta=st.floats(-0.5, 1.5), n=st.floats(0.01, 100))
def test_tokens_read_again_are_worth_at_most_fresh_ones_and_less_with_every_epoch(r, p, delta, n):
    found = worth([1, 1.5, 2, 4, 8, 32, 128], r, p, delta, n=n)
    assert found[0] == 1
    assert (np.diff(found) <= 0).all()
    assert (found >= 0).all()


def test_at_p_one_a_domain_is_worth_at_most_r_epochs_and_above_it_repetition_harms():
    epochs = np.array([1, 10, 100, 1e4])
    assert (np.diff(epochs * worth(epochs, p=1)) > 0).all()
    assert 1e4 * worth(1e4, p=1)[0] == pytest.approx(15, rel=2e-3)
    total = epochs * worth(epochs, p=2)
    assert total.argmax() == 1
    assert total[-1] < 1


def test_larger_models_memorise_sooner():
    small, large = (worth(8, delta=0.4, n=n)[0] for n in (0.1, 10))
    assert large < small < 1


def test_a_small_share_of_a_mixture_is_memorised_later():
    small, large = (worth(16, p=2, sigma=0.6, share=share)[0] for share in (0.05, 0.8))
    assert large < small < 1


def test_the_harm_of_a_domain_is_bounded_by_the_loss_of_the_others_alone():
    """A small share of a domain that is read a million times costs nothing but its share of the tokens."""
    theta = TRUTHS[NAME][None]
    h = np.array([[0.1, 0.0], [0.45, 0.5], [0.45, 0.5]])
    x = Inputs.of(np.zeros(2), np.log([1.0, 0.9]), np.maximum(h, 1e-4))
    used_up, without = LAW.loss(theta, with_pools(x, np.array([[1e-7, 1e9], [1e9, 1e9], [1e9, 1e9]])))[0]
    assert used_up == pytest.approx(without, rel=0.02)


def test_a_run_of_one_domain_has_no_such_bound():
    theta = TRUTHS[NAME][None]
    x = Inputs.of(np.zeros(3), np.zeros(3), np.repeat([[1 - 2e-4], [1e-4], [1e-4]], 3, 1))
    pools = np.full((3, 3), 1e9)
    pools[0] = [1.0, 1 / 32, 1 / 1024]
    once, often, very_often = LAW.loss(theta, with_pools(x, pools))[0]
    assert once < often < very_often
    assert very_often > once + 0.5


@pytest.mark.parametrize("name", NAMES)
@given(seed=seeds)
@settings(max_examples=10)
def test_the_gradient_by_every_weight_is_exact_where_domains_repeat(name, seed):
    law = LAWS[name]
    theta, x = random_case(law, seed)
    x = x.with_h(0.05 + 0.85 * x.h)  # pools of domains with next to no weight would be next to nothing
    pools = x.h * np.exp(x.log_d) / np.random.default_rng(seed).uniform(1.5, 40, x.h.shape)
    _, exact = law.loss_and_gradient_h(theta, with_pools(x, pools))
    for i in range(len(DOMAINS)):
        bit = np.zeros_like(x.h)
        bit[i] = 1e-5 * x.h[i]
        up, down = (
            law.loss(theta, with_pools(Inputs.of(x.log_n, x.log_d, x.h + s * bit, log_d_unit=x.log_d_unit), pools))
            for s in (1, -1)
        )
        numeric = (up - down) / (2 * bit[i])
        np.testing.assert_allclose(exact[:, i], numeric, rtol=1e-3, atol=1e-4 * np.abs(exact).max())
