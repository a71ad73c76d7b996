"""What the figures show, for few and for many domains; warnings are errors."""

import io
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from mixlaw.advice.recommendation import Recommendation
from mixlaw.errors import ConfigError, RunLogError
from mixlaw.report import plots_laws as plots
from mixlaw.report import plots_mixture
from mixlaw.report.plots_mixture import spread
from mixlaw.report.plots_ternary import flat, inside, lattice, ternary
from tests.marks import all_slow_but
from tests.mixlaw.answers import SIZES, TOKENS, answer, answer_facts, laws, mixtures, names, runs

FEW_AND_MANY = [2, 3, 7, 17]
SCORES = pd.DataFrame(
    {
        "law": ["base", "base", "joint"],
        "target": ["x", "y", "x"],
        "mre": [4.0, 6.0, 1.5],
        "bias": [1.0, 3.0, -0.5],
        "coverage": [80.0, 70.0, 92.0],
    }
)


def drawn(ax: Axes) -> Axes:
    """Draw a figure into nowhere, so that everything in it is laid out."""
    ax.figure.savefig(io.BytesIO(), format="svg")
    return ax


def texts(axis_labels: list) -> list[str]:
    return [label.get_text() for label in axis_labels]


def lines(ax: Axes, label: str) -> np.ndarray:
    """Return (n, 2) the points of the line with this label."""
    return next(np.asarray(line.get_xydata()) for line in ax.get_lines() if line.get_label() == label)


def legend(ax: Axes) -> list[str]:
    return texts(ax.get_legend().get_texts())


@pytest.mark.parametrize("k", all_slow_but([3, 17], FEW_AND_MANY))
def test_the_optimum_has_a_bar_with_its_share_per_domain(k):
    ax = drawn(plots_mixture.optimum(None, answer(k)))
    shares = [row["weight"] for row in answer_facts(k)["domains"]]
    lying = k > 3  # seven names of seven letters do not fit side by side
    sizes = [p.get_width() if lying else p.get_height() for p in ax.patches]
    assert sizes == pytest.approx(sorted(shares, reverse=True) if lying else shares)
    labels = texts(ax.get_yticklabels() if lying else ax.get_xticklabels())
    first = k - 1 if lying else 0
    assert len(labels) == k
    assert labels[0].split()[0] == f"domain{first}"
    assert labels[0].endswith("%")
    assert legend(ax)[0] == "recommended"
    assert {"90 % interval", "equally good within the noise", "uniform", "natural", "optimum without limits"} <= set(
        legend(ax)
    )


def test_the_intervals_and_the_flat_frontier_are_where_the_answer_has_them():
    ax = plots_mixture.optimum(None, answer(3))
    found = {c.get_label(): c.get_segments() for c in ax.collections if isinstance(c, LineCollection)}
    ends = [[row["low"], row["high"]] for row in answer_facts(3)["domains"]]
    np.testing.assert_allclose([s[:, 1] for s in found["90 % interval"]], ends)
    ends = [[row["flat_low"], row["flat_high"]] for row in answer_facts(3)["domains"]]
    np.testing.assert_allclose([s[:, 1] for s in found["equally good within the noise"]], ends)


def test_without_limits_nothing_is_said_about_them():
    facts = answer_facts(3)
    for row in facts["domains"]:
        row["unconstrained"] = row["weight"]
    assert "optimum without limits" not in legend(plots_mixture.optimum(None, Recommendation.from_json(facts)))


@pytest.mark.parametrize("k", all_slow_but([3, 17], FEW_AND_MANY))
def test_the_gradient_has_a_bar_per_domain(k):
    ax = drawn(plots_mixture.gradient(None, answer(k)))
    pulls = [r["gradient"] / 100 for r in answer_facts(k)["domains"]]
    np.testing.assert_allclose([p.get_width() for p in ax.patches], sorted(pulls) if k == 17 else pulls)


@pytest.mark.parametrize("k", all_slow_but([3, 17], FEW_AND_MANY))
def test_parallel_coordinates_hold_every_trained_mixture_the_best_on_top(k):
    ax = drawn(plots_mixture.parallel(None, answer(k), laws(k)))
    collection = next(c for c in ax.collections if isinstance(c, LineCollection))
    assert len(collection.get_segments()) == len(mixtures(k))
    assert (np.diff(collection.get_array()) <= 0).all()
    np.testing.assert_allclose(lines(ax, "recommended")[:, 1], list(answer_facts(k)["weights"].values()))
    np.testing.assert_allclose(lines(ax, "uniform")[:, 1], 1 / k)
    assert texts(ax.get_xticklabels()) == names(k)


@pytest.mark.parametrize("k", all_slow_but([3, 17], FEW_AND_MANY))
def test_the_path_names_sizes_tokens_and_regret_and_has_a_line_and_a_band_per_domain(k):
    ax = drawn(plots_mixture.path(None, answer(k)))
    assert texts(ax.get_xticklabels()) == ["100M\n2B\n0.0300", "1B\n20B\n0.0100", "7B\n140B\n0.0000"]
    weights = np.sort(list(answer_facts(k)["weights"].values()))
    np.testing.assert_allclose(np.sort([line.get_ydata()[-1] for line in ax.lines]), weights)
    ends = [(band.get_datalim(ax.transData).y0, band.get_datalim(ax.transData).y1) for band in ax.collections]
    np.testing.assert_allclose(np.sort(ends, axis=0), np.outer(weights, [0.8, 1.2]))
    labels = [t for t in ax.texts if t.get_text().startswith("domain")]
    assert len(labels) == len(ax.collections) == k
    heights = np.sort([t.xyann[1] for t in labels]) / ax.get_ylim()[1]
    assert (np.diff(heights) > 0.04).all()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=25).map(sorted))
def test_spread_labels_keep_their_order_and_a_distance(wanted):
    places = spread(np.array(wanted))
    assert (np.diff(places) >= min(0.06, 0.8 / len(wanted)) - 1e-9).all()
    assert places[-1] <= 1 + 1e-9
    assert places[0] >= 0


def test_prices_are_bars_the_dearest_first_and_none_is_said():
    ax = drawn(plots_mixture.prices(None, answer(3)))
    assert texts(ax.get_yticklabels()) == ["min domain0", "group web"]
    assert [p.get_width() for p in ax.patches] == [0.0123, 0.002]
    assert [t.get_text() for t in ax.texts] == ["0.0123 (17 %; without it 0 %)", "0.0020"]
    assert legend(ax) == ["noise of one run: 0.0100"]
    with pytest.raises(ConfigError, match=r"no limit costs anything.*--max-epochs"):
        plots_mixture.prices(None, Recommendation.from_json(answer_facts(3) | {"prices": []}))


def test_the_ternary_plot_has_h_star_and_the_trained_mixtures_in_their_places():
    ax = drawn(ternary(None, answer(3), laws(3)))
    np.testing.assert_allclose(lines(ax, "recommended")[0], flat(np.array(list(answer_facts(3)["weights"].values()))))
    np.testing.assert_allclose(lines(ax, "trained"), flat(mixtures(3)))
    np.testing.assert_allclose(lines(ax, "uniform")[0], [0.5, 3**0.5 / 6])
    written = [t.get_text() for t in ax.texts]
    assert all(name in written and f"{name} [%]" in written for name in names(3))
    corners = {t.get_text(): t.xy for t in ax.texts}
    assert corners["domain2"][1] == pytest.approx(3**0.5 / 2)
    assert "90 % interval of h*" in legend(ax)


def test_the_ternary_contour_is_where_the_loss_is_within_the_noise():
    """The best mixture of the law is inside of the contour of an answer that is the best mixture."""
    best = lattice(60)[plots_mixture.predicted_loss(answer(3), laws(3))(lattice(60)).argmin()]
    facts = answer_facts(3)
    for row, w in zip(facts["domains"], best, strict=True):
        row |= {"weight": w, "low": w, "high": w}
    ax = drawn(ternary(None, Recommendation.from_json(facts), laws(3)))
    contour = next(c for c in ax.collections if len(getattr(c, "levels", [])) == 1)
    paths = [p for p in contour.get_paths() if len(p.vertices)]
    assert any(p.contains_point(flat(best)) for p in paths)
    assert "90 % interval of h*" not in legend(ax)


@pytest.mark.parametrize("k", [2, 7])
def test_a_ternary_plot_of_other_than_three_domains_says_what_to_use(k):
    with pytest.raises(ConfigError, match=f"needs 3 domains, here are {k}: use optimum"):
        ternary(None, answer(k), laws(k))


@settings(max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=6, max_size=6))
@example([0.6958216923050463, 0.6696420193946281, 0.0, 0.0, 0.6696420193946281, 0.0])  # two weights pinned
def test_the_polygon_of_intervals_keeps_to_them(ends):
    low, high = np.sort(np.array(ends).reshape(2, 3), axis=0)
    corners = inside(low, high)
    np.testing.assert_allclose(corners.sum(1), 1)
    assert (corners >= low - 1e-9).all()
    assert (corners <= high + 1e-9).all()
    if low.sum() < 0.99 and high.sum() > 1.01:
        assert len(corners)


def test_an_answer_from_other_laws_is_refused():
    with pytest.raises(ConfigError, match=r"not from these laws.*domains"):
        plots_mixture.parallel(None, answer(7), laws(3))
    with pytest.raises(ConfigError, match=r"not from these laws.*'joint'"):
        plots_mixture.parallel(None, Recommendation.from_json(answer_facts(3) | {"law": "joint"}), laws(3))


@pytest.mark.parametrize("k", all_slow_but([3, 17], FEW_AND_MANY))
def test_the_parameters_shown_are_exponents_and_shapes(k):
    ax = drawn(plots.parameters(None, laws(k, ("x", "y")).best))
    assert texts(ax.get_yticklabels()) == [*(f"gamma_{d}" for d in names(k)), "alpha", "beta"]
    assert len(lines(ax, "x")) == k + 2
    assert legend(ax) == ["x", "y"]


def test_of_many_targets_the_first_eight_are_shown_or_those_that_are_named():
    many = tuple(f"t{i}" for i in range(12))
    ax = drawn(plots.parameters(None, laws(3, many).best))
    assert legend(ax) == list(many[:8])
    assert ax.get_legend().get_title().get_text() == "8 of 12 targets"
    assert legend(plots.parameters(None, laws(3, many).best, ["t9"])) == ["t9"]


@pytest.mark.parametrize("k", all_slow_but([3, 17], FEW_AND_MANY))
def test_residuals_are_percent_of_the_measured_loss(k):
    fit, table = laws(k).best, runs(k)
    ax = drawn(plots.residuals(None, fit, table))
    predicted = fit.predict(table)
    expected = 100 * (predicted["predicted"] / predicted["observed"] - 1)
    np.testing.assert_allclose(lines(ax, "main")[:, 1], expected)
    assert lines(ax, "median")[:, 0].tolist() == list(TOKENS)
    sizes = plots.residuals(None, fit, table, "n_params")
    assert lines(sizes, "median")[:, 0].tolist() == list(SIZES)


def test_a_trend_in_the_errors_shows():
    table = runs(3, noise=0.0)
    table.frame["loss_main"] *= 1 - 0.01 * np.log2(table.frame["n_tokens"] / TOKENS[0])
    median = lines(plots.residuals(None, laws(3).best, table), "median")[:, 1]
    np.testing.assert_allclose(median, [0, 100 / 0.99 - 100, 100 / 0.98 - 100], atol=1e-6)


def test_residuals_of_one_size_and_one_number_of_tokens_are_over_the_loss():
    table = runs(3)
    frame = table.frame
    one = table.rows((frame["n_params"] == SIZES[0]) & (frame["n_tokens"] == TOKENS[0]))
    ax = drawn(plots.residuals(None, laws(3).best, one))
    assert ax.get_xlabel().startswith("measured loss")
    drawn(plots.loss_against_tokens(None, one, laws(3).best, "main"))


def test_runs_that_end_a_few_tokens_apart_are_one_place_of_a_trend():
    x = np.array([1000.0, 1004, 1001, 2000, 2010, 2003])
    assert len(plots.trend(x, np.arange(6.0))[0]) == 2


@given(st.lists(st.floats(1e6, 1e12), min_size=1, max_size=40))
def test_a_trend_s_bins_hold_everything_in_order(x):
    places, middle, low, high = plots.trend(np.array(x), np.arange(len(x), dtype=float))
    assert (np.diff(places) > 0).all()
    assert 1 <= len(places) <= 12
    assert ((low <= middle) & (middle <= high)).all()


def test_a_law_that_lacks_a_target_has_no_number_there_and_coverage_is_said():
    ax = drawn(plots.errors_by_law(None, SCORES))
    assert [t.get_text() for t in ax.texts] == ["4.00", "6.00", "5.00", "1.50", "", "1.50"]
    assert legend(ax) == [
        "base: 5.00 %, bias +2.00 %; its 90 % intervals hold 75 %",
        "joint: 1.50 %, bias -0.50 %; its 90 % intervals hold 92 %",
    ]
    assert legend(plots.errors_by_law(None, SCORES[["law", "target", "mre"]])) == ["base: 5.00 %", "joint: 1.50 %"]


def test_errors_of_many_targets_are_rows():
    many = pd.DataFrame({"law": "joint", "target": [f"t{i}" for i in range(13)], "mre": np.arange(13.0)})
    ax = drawn(plots.errors_by_law(None, many))
    assert texts(ax.get_yticklabels()) == [*many["target"], "mean"]


@pytest.mark.parametrize("k", all_slow_but([3, 17], FEW_AND_MANY))
def test_losses_over_tokens_hold_four_runs_per_size_and_their_curves(k):
    table = runs(k, noise=0.0)
    ax = drawn(plots.loss_against_tokens(None, table, laws(k).best, "main"))
    points = [line for line in ax.get_lines() if line.get_linestyle() == "None"]
    curves = [line for line in ax.get_lines() if line.get_linestyle() == "-"]
    assert len(points) == len(curves) == 4 * len(SIZES)
    for measured, curve in zip(points, curves, strict=True):
        ends = np.interp(measured.get_xdata()[[0, -1]], curve.get_xdata(), curve.get_ydata())
        np.testing.assert_allclose(measured.get_ydata()[[0, -1]], ends, rtol=1e-9)
    assert legend(ax) == ["20M", "100M"]
    assert texts(ax.get_xticklabels()) == ["4B", "8B", "16B"]


def test_a_table_without_the_losses_is_refused_in_words():
    fit, table = laws(3).best, runs(3, ("other",))
    with pytest.raises(RunLogError, match="no loss of 'main'; it has other"):
        plots.loss_against_tokens(None, table, fit, "main")
    for draw in (
        lambda: plots.residuals(None, fit, table),
        lambda: plots.predicted_against_observed(None, fit.predict(table)),
    ):
        with pytest.raises(RunLogError, match="no loss of the fitted targets: main"):
            draw()


def test_predictions_have_intervals_until_there_are_too_many(monkeypatch):
    predictions = laws(3).best.predict(runs(3))
    assert plots.predicted_against_observed(None, predictions).containers
    monkeypatch.setattr(plots, "MANY_POINTS", 10)
    ax = drawn(plots.predicted_against_observed(None, predictions))
    assert not ax.containers
    assert len(lines(ax, "main")) == len(predictions)


def test_every_seed_of_the_proof_is_drawn():
    rows = [outcome | {"measured": 2.05, "seeds": [2.04, 2.06]} for outcome in answer_facts(3)["outcomes"]]
    ax = drawn(plots.proof(None, rows, "main"))
    assert [2.04, 2.06] in [list(line.get_ydata()) for line in ax.get_lines()]
    assert texts(ax.get_xticklabels()) == ["recommended", "uniform", "natural"]


def test_names_are_written_letter_for_letter():
    strange = ["$a$", "_b", r"$\frac$"]
    ax = drawn(plots_mixture.optimum(None, answer(3, domains=strange)))
    assert [t.split("\n")[0] for t in texts(ax.get_xticklabels())] == [r"\$a\$", " _b", r"\$\frac\$"]
    drawn(ternary(None, answer(3, domains=strange), laws(3, domains=strange)))
    ax = drawn(plots.parameters(None, laws(3, ("_x",)).best))
    assert legend(ax) == [" _x"]


@pytest.mark.slow
def test_axes_are_taken_or_made_without_pyplot():
    ax = plots.axes()
    assert plots_mixture.gradient(ax, answer(3)) is ax
    assert not ax.spines["top"].get_visible()
    code = "import sys, mixlaw.report.build; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def long_named() -> Recommendation:
    """Return an answer whose four domains have names of 60 letters that differ in the middle only."""
    return answer(4, domains=[f"{'from_the_beginning_':20}{i:020}{'to_the_very_end':>20}" for i in range(4)])


@pytest.mark.parametrize("draw", [plots_mixture.optimum, plots_mixture.gradient])
def test_long_names_leave_room_for_the_data_and_every_domain_its_bar(draw):
    ax = drawn(draw(None, long_named()))
    assert len(ax.patches) == 4
    assert ax.get_position().width > 0.4
    boxes = [label.get_window_extent() for label in ax.get_xticklabels() if label.get_visible()]
    shown = [box for box in boxes if ax.bbox.x0 - 1 <= (box.x0 + box.x1) / 2 <= ax.bbox.x1 + 1]
    assert len(shown) >= 2
    assert all(left.x1 < right.x0 for left, right in pairwise(shown))
