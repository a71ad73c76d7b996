"""What a big run that repeats domains is told: epochs, fresh tokens, and the loss over epochs."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from mixlaw.advice.recommend import recommend
from mixlaw.advice.repeats import repeats
from mixlaw.errors import ConfigError
from mixlaw.report.drawings import choose_drawings
from mixlaw.report.material import Material
from mixlaw.report.plots_repeats import epochs
from mixlaw.report.repeats_text import epochs_table, repeats_sentences
from mixlaw.report.sections import sections
from tests.mixlaw.synthetic import DOMAINS, TRUTHS, fitted

LAW = "multiplicative-repeats"
BIG = {"n_params": 1e8, "n_tokens": 1e10, "target": "main"}
SCARCE = {"docs": 1e8}


@pytest.fixture(scope="module")
def laws():
    return fitted(LAW, {"main": TRUTHS[LAW]})


@pytest.fixture(scope="module")
def answer(laws):
    return recommend(laws, **BIG, available=SCARCE, baselines="uniform")


@pytest.fixture(scope="module")
def found(laws, answer):
    return repeats(laws, answer)


def test_epochs_are_given_under_h_star_and_the_baselines(answer, found):
    row = found.epochs.set_index("domain").loc["docs"]
    assert row["available"] == 1e8
    assert row["recommended"] == pytest.approx(100 * answer.weights["docs"])
    assert row["uniform"] == pytest.approx(100 / len(DOMAINS))


def test_unlimited_tokens_are_the_recommendation_of_the_same_law_with_plenty(laws, answer, found):
    plenty = recommend(laws, **BIG, available={"docs": 1e15})
    known = found.scarcity
    assert known.unlimited.array == pytest.approx(plenty.weights.array, abs=1e-3)
    lower = answer.outcomes["predicted"][0] - plenty.outcomes["predicted"][0]
    assert known.gain == pytest.approx(lower, abs=1e-5)
    (row,) = known.fresh.to_dict("records")
    assert 0 < row["low"] <= row["gain"] <= row["high"]
    assert row["gain"] < known.gain  # the best mixture for plenty is better still


def test_limits_of_weights_hold_with_unlimited_tokens_too(laws):
    capped = recommend(laws, **BIG, available=SCARCE, caps={"docs": 0.1})
    assert repeats(laws, capped).scarcity.unlimited["docs"] == pytest.approx(0.1)


def test_the_loss_is_that_of_fresh_tokens_up_to_one_epoch_and_higher_beyond(found):
    curve = found.scarcity.curves["docs"]
    once = curve["epochs"] <= 1
    assert once.any()
    np.testing.assert_allclose(curve["loss"][once], curve["fresh"][once], rtol=1e-12)
    assert (curve["loss"] > curve["fresh"])[curve["epochs"] > 1.01].all()
    assert (curve["low"] <= curve["high"]).all()


def test_the_curve_of_two_domains_has_its_minimum_at_h_star():
    law = fitted(LAW, {"main": TRUTHS[LAW]}, spread=1e-9)
    answer = recommend(law, **BIG, available=SCARCE, caps={"web": 0})
    curve = repeats(law, answer).scarcity.curves["docs"]
    best = curve["epochs"][curve["loss"].idxmin()]
    assert best == pytest.approx(answer.epochs["docs"], rel=0.05)


def test_a_law_of_fresh_tokens_gives_epochs_only():
    laws = fitted("additive", {"main": TRUTHS["additive"]})
    answer = recommend(laws, **BIG, available=SCARCE)
    found = repeats(laws, answer)
    assert found.scarcity is None
    assert "does not know repetition: fit multiplicative-repeats" in repeats_sentences(answer, found)[0]
    assert "h* with unlimited tokens" not in epochs_table(answer, found)
    with pytest.raises(ConfigError, match="no repeated domains to draw"):
        epochs(None, answer, found.scarcity)


def test_an_answer_by_another_law_is_refused(laws, answer):
    with pytest.raises(ConfigError, match="unknown law 'multiplicative-repeats'"):
        repeats(fitted("additive", {"main": TRUTHS["additive"]}), answer)


def test_nothing_is_said_where_nothing_is_read_twice(laws):
    assert repeats(laws, recommend(laws, **BIG, available={"docs": 1e11})) is None


def test_a_domain_that_only_a_baseline_repeats_has_epochs_there(laws):
    answer = recommend(laws, **BIG, available=SCARCE, caps={"docs": 0.005}, baselines="uniform")
    found = repeats(laws, answer)
    assert found.scarcity.fresh.empty
    assert not found.scarcity.curves
    assert repeats_sentences(answer, found) == ["The recommended mixture repeats no domain."]


def test_the_report_has_a_section_with_the_figure(laws, answer, found):
    material = Material(laws, answer=answer)
    assert "epochs" in choose_drawings(material)
    section = next(part for part in sections(material, {}) if part.title == "Repeated data")
    assert "epochs. Fresh tokens in place of repeated ones" in section.body
    ax = epochs(Figure().subplots(), answer, found.scarcity)
    (star,) = [line for line in ax.lines if line.get_marker() == "*"]
    assert star.get_xdata()[0] == pytest.approx(answer.epochs["docs"])
