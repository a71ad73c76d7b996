"""Figures: whatever the names and numbers, tick labels do not overlap, and all names are there."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mixlaw import plots, plots_mixture
from mixlaw.figures import NamedFigure
from mixlaw.report import Material, choose_drawings, overview
from tests.mixlaw.answers import answer, laws, names, runs

LONG = "a_rather_long_name_of_a_corpus_number_{}"


def renderer_of(ax: Axes):
    """Return the renderer after a figure was drawn."""
    canvas = FigureCanvasAgg(ax.figure)
    canvas.draw()
    return canvas.get_renderer()


def overlaps(axis: Axis, renderer) -> list[tuple[str, str]]:
    """Return the pairs of labels of an axis whose boxes have a common area; slanting ones by their distance."""
    labels = [t for t in axis.get_majorticklabels() if t.get_visible() and t.get_text()]
    low, high = sorted(axis.get_view_interval())
    shown = [t for t, place in zip(labels, axis.get_majorticklocs(), strict=False) if low <= place <= high]
    along = 0 if axis.axis_name == "x" else 1
    found = []
    for a, b in zip(shown, shown[1:], strict=False):
        if a.get_rotation() % 180:
            distance = np.abs(np.subtract(*(t.get_transform().transform(t.get_position())[along] for t in (a, b))))
            height = 0.7 * a.get_fontsize() * renderer.points_to_pixels(1)
            apart = distance * np.sin(np.radians(a.get_rotation())) > height
        else:
            one, two = (t.get_window_extent(renderer) for t in (a, b))
            ends = sorted([(one.min[along], one.max[along]), (two.min[along], two.max[along])])
            apart = ends[0][1] < ends[1][0] + 0.3 * a.get_fontsize()
        found += [] if apart else [(a.get_text(), b.get_text())]
    return found


def shown_names(ax: Axes) -> str:
    texts = [t.get_text() for axis in (ax.xaxis, ax.yaxis) for t in axis.get_majorticklabels()]
    legend = ax.get_legend().get_texts() if ax.get_legend() else []
    return "\n".join([*texts, *(t.get_text() for t in ax.texts), *(t.get_text() for t in legend)])


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("k", [2, 3, 4, 7, 17, 45])
def test_no_tick_labels_overlap_in_any_figure(k, long):
    domains = [LONG.format(i) for i in range(k)] if long else names(k)
    asked = answer(k, domains=domains)
    for i, row in enumerate(asked["domains"]):
        row["pull"] = 1e-3 * (i - k / 3)  # numbers with many digits
    material = Material(laws(k, domains=domains), None, None, asked)
    for name, draw in choose_drawings(material).items():
        ax = draw(None)
        renderer = renderer_of(ax)
        for axis in (ax.xaxis, ax.yaxis):
            assert overlaps(axis, renderer) == [], name
        if name in ("pull", "optimum", "parallel"):
            assert all(domain in shown_names(ax) for domain in domains), name
        width = ax.get_window_extent(renderer).width / ax.figure.dpi
        assert width > 2.0, name  # the data keep their room beside long names


@pytest.mark.parametrize("k", [3, 17, 45])
def test_the_overview_has_no_overlapping_labels_either(k, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(NamedFigure, "savefig", lambda figure, *a, **b: drawn.append(figure))
    domains = [LONG.format(i) for i in range(k)]
    material = Material(laws(k, domains=domains), None, None, answer(k, domains=domains))
    overview(choose_drawings(material), tmp_path / "o.png")
    (figure,) = drawn
    for ax in figure.axes:
        renderer = renderer_of(ax)
        if ax.axison:
            assert overlaps(ax.xaxis, renderer) == overlaps(ax.yaxis, renderer) == []


@pytest.mark.parametrize("count", [2, 4, 9])
def test_errors_of_targets_with_long_names_do_not_overlap(count):
    targets = [LONG.format(i) for i in range(count)]
    scores = pd.DataFrame({"law": ["joint"] * count, "target": targets, "mre": np.arange(count) + 1.0})
    ax = plots.errors_by_law(None, scores)
    renderer = renderer_of(ax)
    assert overlaps(ax.xaxis, renderer) == overlaps(ax.yaxis, renderer) == []
    assert all(target in shown_names(ax) for target in targets)


def test_a_target_called_mean_keeps_its_bar_beside_the_mean_of_all():
    scores = pd.DataFrame({"law": ["joint"] * 2, "target": ["mean", "x"], "mre": [1.0, 3.0]})
    ax = plots.errors_by_law(None, scores)
    assert [t.get_text() for t in ax.get_xticklabels()] == ["mean", "x", "mean of all"]
    assert [bar.get_height() for bar in ax.patches] == [1.0, 3.0, 2.0]


def test_numbers_of_an_axis_that_have_room_are_left_alone():
    ax = plots.axes()
    ax.plot([0, 10], [0, 1])
    before = ax.get_xticks().tolist(), ax.get_yticks().tolist()
    renderer_of(ax)
    assert (ax.get_xticks().tolist(), ax.get_yticks().tolist()) == before
    assert {t.get_fontsize() for t in (*ax.get_xticklabels(), *ax.get_yticklabels())} == {10.0}


def test_names_in_a_path_that_are_long_leave_room_for_the_curves():
    k = 7
    ax = plots_mixture.path(None, answer(k, domains=[LONG.format(i) for i in range(k)]))
    renderer = renderer_of(ax)
    assert ax.get_window_extent(renderer).width / ax.figure.dpi > 2.5


def test_figures_of_runs_have_no_overlapping_labels():
    table = runs(3, ("main", LONG.format(0)))
    fitted = laws(3, ("main", LONG.format(0)))
    for name, draw in choose_drawings(Material(fitted, table)).items():
        ax = draw(None)
        renderer = renderer_of(ax)
        assert overlaps(ax.xaxis, renderer) == overlaps(ax.yaxis, renderer) == [], name
