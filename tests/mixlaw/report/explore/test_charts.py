"""Charts of runs name the run of every point, and pages have as many resamples as they have room for."""

import json
from dataclasses import replace

import numpy as np
import pytest
from markupsafe import Markup

from mixlaw.report.explore import run_charts as charts
from mixlaw.report.explore.payload import LEAST_DRAWS, explorer_of
from mixlaw.report.explore.run_charts import run_charts
from mixlaw.report.explore.section import MOST_BYTES, explored
from mixlaw.report.material import Material
from mixlaw.report.page import Section
from mixlaw.report.pictures import drawn
from mixlaw.report.plots_laws import axes
from tests.mixlaw.answers import answer, laws, names, runs

ALL = {"predicted", "residuals", "tokens"}


def test_every_run_is_named_in_its_points() -> None:
    table = runs(3)
    made = run_charts(Material(laws(3), table), ALL)
    assert made.keys() == ALL
    for name in ("predicted", "residuals"):
        text = json.dumps(made[name].item)
        assert all(json.dumps(run) in text for run in set(table.frame["run_id"]))
    mixture = "domain0"  # in the text on the mixture of a point
    assert all(mixture in json.dumps(chart.item) for chart in made.values())


def test_many_points_are_thinned_and_the_title_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charts, "MOST_POINTS", 20)
    chart = run_charts(Material(laws(3), runs(3)), {"predicted"})["predicted"]
    assert chart.title.endswith("(20 of its points)")


def test_a_figure_without_a_chart_has_none() -> None:
    assert run_charts(Material(laws(3)), {"optimum"}) == {}


@pytest.mark.parametrize(("others", "all_draws"), [(0, True), (1_700_000, False), (4_000_000, False)])
def test_a_page_of_45_domains_and_targets_stays_below_3_mb(others: int, all_draws: bool) -> None:
    targets = ("main", *names(45)[1:])
    many = laws(45, targets)
    fits = {t: replace(f, draws=np.tile(f.draws, (12, 1))) for t, f in many.best.targets.items()}
    material = Material(replace(many, fits={"additive": replace(many.best, targets=fits)}), answer=answer(45))
    section, scripts = explored(material, [Section("others", Markup("x" * others))], [])
    kept = explorer_of(material, MOST_BYTES - others).kept
    assert (len(kept) == 96) == all_draws
    assert len(kept) >= LEAST_DRAWS
    if others < MOST_BYTES:
        assert others + len(section.body) + len(scripts) < 3_000_000


def test_a_heavy_figure_is_a_png_where_that_is_smaller() -> None:
    light, heavy = axes(), axes()
    light.plot([0, 1], [0, 1])
    for i in range(400):
        heavy.plot(np.arange(20), np.sin(np.arange(20) + i), "o")
    assert drawn(light).src.startswith("data:image/svg+xml")
    assert drawn(heavy).src.startswith("data:image/png")
