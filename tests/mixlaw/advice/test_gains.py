"""Gains of the recommended mixture: per target and for the objective, with the scatter of both runs."""

from dataclasses import replace

import numpy as np
import pytest

from mixlaw.advice.gains import OBJECTIVE, scatter_sd
from mixlaw.advice.objective import Objective
from mixlaw.advice.recommend import recommend
from mixlaw.advice.recommendation import Recommendation
from mixlaw.fitting.differences import Scatter
from mixlaw.fitting.saved import FittedLaws
from mixlaw.mixture import Mixture
from tests.mixlaw.synthetic import TRUTHS, fitted

BIG = {"n_params": 1e9, "n_tokens": 1e11}


def laws(correlation: float) -> FittedLaws:
    """Return laws of two targets whose scatter has this correlation."""
    found = fitted("additive", {"one": TRUTHS["additive"], "two": TRUTHS["additive"] + 0.1})
    scatter = {"one": Scatter(0.01), "two": Scatter(0.02)}
    targets = {name: replace(fit, scatter=scatter[name]) for name, fit in found.best.targets.items()}
    correlations = np.array([[1.0, correlation], [correlation, 1.0]])
    fit = replace(found.best, targets=targets, correlations=correlations)
    return replace(found, fits={"additive": fit})


def test_gains_are_differences_of_predicted_losses_for_every_target_and_baseline():
    answer = recommend(laws(0.3), target="one:1,two:2", baselines={"today": {"code": 1.0}}, **BIG)
    losses, gains = answer.per_target.set_index("mixture"), answer.gains.set_index(["mixture", "target"])
    for name in ("today", "uniform"):
        for target in ("one", "two"):
            gain = losses.loc[name, target] - losses.loc["recommended", target]
            assert gains.loc[(name, target), "gain"] == pytest.approx(gain)
        total = gains.loc[(name, "one"), "gain"] / 3 + 2 * gains.loc[(name, "two"), "gain"] / 3
        assert gains.loc[(name, OBJECTIVE), "gain"] == pytest.approx(total)
        assert answer.outcomes.set_index("mixture").loc[name, "gain"] == pytest.approx(total)
    assert (answer.gains["low"] < answer.gains["gain"]).all()
    assert (answer.gains["gain"] < answer.gains["high"]).all()
    again = Recommendation.from_json(answer.to_json())
    assert again.gains.to_dict("records") == answer.gains.to_dict("records")


@pytest.mark.parametrize("correlation", [-1.0, 0.0, 0.5, 1.0])
def test_the_scatter_of_targets_adds_up_with_their_correlation(correlation):
    found = laws(correlation)
    question = recommend(found, target="one:1,two:1", **BIG).question
    objective, h = Objective(found.best, question, {}), Mixture.uniform(found.best.domains)
    one, two = (2**0.5 * sd * objective.of(t).at(h) / 2 for t, sd in (("one", 0.01), ("two", 0.02)))
    expected = np.sqrt(one**2 + two**2 + 2 * correlation * one * two)
    assert scatter_sd(objective, h, h)[0] == pytest.approx(expected)
