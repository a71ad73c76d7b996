"""Laws of forgetting: the limits that their formulas state."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.laws.registry import LAWS
from mixlaw.laws.terms import Inputs
from tests.mixlaw.synthetic import free_parameters

OLD_NEW = ["old", "new"]
LAW = LAWS["forgetting-saturating"]
THETA = free_parameters(LAW, OLD_NEW, E=4.0, kappa=0.8, beta=0.6, D1=0.5, B=30.0, gamma=0.7)


def finetuning(before, d, share):
    """Return runs of d tokens, in the unit of D1, that finetune a model with the loss `before`."""
    h = np.repeat([[share], [1 - share]], len(d), axis=1)
    return Inputs.of(
        np.zeros(len(d)), np.log(d), h, target=np.zeros(len(d), int), columns={"before": np.full(len(d), before)}
    )


def rise(before, d, share):
    """Return the rise of the loss of `old` after finetuning on `new`."""
    return LAW.loss(THETA, finetuning(before, [d], share)).item() - before


@given(before=st.floats(1, 4))
def test_half_of_what_can_be_lost_is_forgotten_at_d1_and_all_of_it_in_the_end(before):
    most = 4.0 - 0.8 * before
    assert rise(before, 0.5, 0.0) == pytest.approx(most / 2)
    assert rise(before, 1e12, 0.0) == pytest.approx(most)
    assert rise(before, 1e-12, 0.0) == pytest.approx(0, abs=1e-6)


@given(d=st.floats(0.01, 1e3), share=st.floats(0, 0.5))
def test_better_models_forget_more_and_injected_tokens_keep(d, share):
    assert rise(2.0, d, share) > rise(2.5, d, share)
    assert rise(2.0, d, share + 0.1) < rise(2.0, d, share)


def test_a_model_that_knows_less_than_finetuning_leaves_forgets_nothing():
    assert rise(6.0, 10.0, 0.0) == 0


@pytest.mark.parametrize("name", ["forgetting", "forgetting-injected"])
def test_laws_without_saturation_forget_without_bound(name):
    values = {"A": 0.4, "beta": 0.5, "alpha": 0.6, "B": 30.0, "gamma": 0.7}
    theta = free_parameters(LAWS[name], OLD_NEW, **values)
    first, last = LAWS[name].loss(theta, finetuning(2.0, [1.0, 1e10], 0.0))[0] - 2
    assert last / first == pytest.approx(1e5)
