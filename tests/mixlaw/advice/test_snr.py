"""Signal to noise of targets: what the runs distinguish counts, by a ratio that a hand can compute."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.advice.ask import ask
from mixlaw.advice.recommend import recommend
from mixlaw.advice.snr import distinguished, importances, signals
from mixlaw.errors import ConfigError
from mixlaw.report.answer_tables import signals_table
from mixlaw.report.terminal import summary
from tests.mixlaw.synthetic import DOMAINS, UNITS, fitted, study
from tests.mixlaw.target_laws import opposed, random_targets

ASKED = {"n_params": 1e9, "n_tokens": 1e11}


def test_the_signal_is_the_spread_over_trained_mixtures_at_the_largest_size_and_the_noise_that_between_seeds():
    laws = replace(fitted("additive", opposed()), noise={"one": 0.01})
    found = signals(laws, laws.best, {}, {"one": 1.0}).set_index("target")
    n, d = (np.full(len(laws.mixtures), laws.ranges[name][1]) for name in ("n_params", "n_tokens"))
    x = UNITS.inputs(n, d, laws.mixtures.T)
    for target, fit in laws.best.targets.items():
        assert found["signal"][target] == pytest.approx(laws.best.law.loss(fit.theta[None], x)[0].std())
    around = 1.4826 * np.median(np.abs(laws.best.target("two").noise))
    assert found["noise"].tolist() == pytest.approx([0.01, around])
    assert found["importance"].tolist() == [1.0, 0.0]


@given(st.integers(0, 1000), st.floats(0.001, 1))
def test_importances_are_proportional_to_signal_over_noise_and_halve_with_twice_the_noise(seed, noise):
    laws = replace(fitted("additive", random_targets(seed, 3)), noise={"t0": noise, "t1": noise, "t2": noise})
    noisier = replace(laws, noise=laws.noise | {"t0": 2 * noise})
    one, other = (importances("snr", each, each.best, {}) for each in (laws, noisier))
    assert sum(one.values()) == pytest.approx(1)
    assert one["t0"] / one["t1"] == pytest.approx(2 * other["t0"] / other["t1"])


def test_snr_can_be_asked_for_and_its_weights_are_shown():
    laws = replace(fitted("additive", opposed()), noise={"one": 0.01, "two": 0.03})
    answer = recommend(laws, **ASKED, target="snr")
    weights = answer.question.targets
    assert weights == importances("snr", laws, laws.best, {})
    assert f"target: one {weights['one']:.2f}, two {weights['two']:.2f}" in summary(answer)
    assert signals_table(answer)["importance"].tolist() == [f"{100 * w:.0f} %" for w in weights.values()]


def test_a_target_that_is_called_snr_is_meant_first():
    laws = fitted("additive", opposed() | {"snr": opposed()["one"]})
    assert ask(laws, **ASKED, target="snr").targets == {"snr": 1.0}


def test_mixtures_that_cannot_be_told_apart_give_no_importances():
    laws = fitted("additive", opposed())
    laws = replace(laws, mixtures=np.full((4, len(DOMAINS)), 1 / 3))
    with pytest.raises(ConfigError, match="--target snr: the trained mixtures have the same predicted losses"):
        importances("snr", laws, laws.best, {})


def test_runs_tell_mixtures_apart_by_signal_noise_and_the_error_of_evaluations():
    table = study("additive", noise=0.01)
    frame = table.frame.assign(loss_flat=2.0 + 0.01 * np.random.default_rng(0).normal(size=len(table.frame)))
    frame["loss_se_main"] = np.where(frame["n_params"] == frame["n_params"].max(), 0.02, 0.5)
    both = replace(table, frame=frame, targets=["flat", "main"])
    found = distinguished(both, "additive", n_starts=4, n_bootstrap=8)
    assert found["target"].tolist() == ["main", "flat"]
    main, flat = found.to_dict("records")
    assert main["snr"] > 5 > flat["snr"]
    assert main["noise"] == pytest.approx(0.01, rel=0.5)
    assert main["evaluation"] == pytest.approx(0.02)
    assert np.isnan(flat["evaluation"])
    assert set(found["noise_of"]) == {"the law"}
