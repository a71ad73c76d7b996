"""The sigmoid from loss to score: its limits and its derivatives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.benchmarks.sigmoid import N_FREE, natural, scores, scores_and_jacobian

THETAS = st.tuples(st.floats(-1.5, 1.5), st.floats(-1, 3), st.floats(-3, 4)).map(np.array)
CHANCES = st.sampled_from([0.0, 0.25, 0.5])
LOSSES = np.linspace(0.1, 5, 23)


@given(THETAS, CHANCES)
def test_scores_fall_from_the_ceiling_to_chance_as_the_loss_rises(theta, chance):
    found, params = scores(theta, LOSSES, chance), natural(theta, chance)
    assert (np.diff(found) <= 0).all()
    assert (found >= chance).all()
    assert (found <= params["ceiling"] + 1e-12).all()
    halfway = scores(theta, np.array([params["midpoint"]]), chance)
    assert halfway == pytest.approx((chance + params["ceiling"]) / 2)


@given(THETAS, CHANCES)
def test_the_jacobian_is_that_of_differences(theta, chance):
    found, jacobian = scores_and_jacobian(theta, LOSSES, chance)
    assert found == pytest.approx(scores(theta, LOSSES, chance))
    for i in range(N_FREE):
        step = np.eye(N_FREE)[i] * 1e-6
        numeric = (scores(theta + step, LOSSES, chance) - scores(theta - step, LOSSES, chance)) / 2e-6
        assert jacobian[:, i] == pytest.approx(numeric, abs=1e-7)
