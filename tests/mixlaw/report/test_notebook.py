"""What notebooks display of every kind of result: tables and figures, escaped, self-contained."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from mixlaw.advice.constraints import Question
from mixlaw.advice.recommend import recommend
from mixlaw.errors import ConfigError
from mixlaw.report.notebook import show
from mixlaw.selection.compare import compare
from mixlaw.tables.examples import small_study
from tests.mixlaw.answers import laws, runs
from tests.mixlaw.benchmarks.curves import curves


def page_of(thing: object, *more: object) -> str:
    """Return the HTML that a notebook gets."""
    return show(thing, *more)._repr_html_()


def pictures(page: str) -> list[str]:
    """Return what the images of a page say that they show."""
    return re.findall(r'<img alt="([^"]+)" src="data:image/(?:svg\+xml|png);base64,[A-Za-z0-9+/=]+"', page)


def test_a_law_is_shown_with_its_parameters() -> None:
    page = page_of(laws(3).best)
    assert "gamma_domain0" in page
    assert len(pictures(page)) == 1


def test_laws_are_shown_with_the_chosen_one_and_their_errors() -> None:
    known = laws(3)
    assert len(pictures(page_of(known))) == 1
    scores = [{"law": "additive", "target": "main", "mre": 1.25, "bias": 0.5, "coverage": 90.0}]
    page = page_of(replace(known, scores=scores))
    assert "Chosen: additive" in page
    assert "1.25" in page
    assert "Held-out error by law" in pictures(page)


def test_a_recommendation_is_shown_with_its_figures() -> None:
    answer = recommend(laws(3), Question(7e9, 150e9, {"main": 1.0}, caps={"domain0": 0.05}))
    page = page_of(answer)
    assert "For 7B parameters on 150B tokens, best at main:" in page
    assert "mixture.weights={" in page
    assert len(pictures(page)) == 4
    assert len(pictures(page_of(answer, laws(3)))) == 6  # the laws add the loss over the simplex, and signal to noise


def test_a_comparison_is_shown_with_the_verdict() -> None:
    found = compare(small_study(), ["base", "additive"], holdout="scale", n_starts=2, n_bootstrap=2)
    page = page_of(found)
    assert f"Chosen: {found.chosen}" in page
    assert f"{found.laws['mre'].iloc[0]:.4g}" in page
    assert pictures(page) == ["Error on the largest model size"]


def test_a_table_is_shown_with_ranges_and_notes() -> None:
    table = runs(3)
    table.notes.append("rows <1> were left out")
    page = page_of(table)
    assert f"{len(table.frame)} rows of {table.frame['run_id'].nunique()} runs" in page
    assert "weight_domain2" in page
    assert f"{table.frame['loss_main'].max():.4g}" in page
    assert "rows &lt;1&gt; were left out" in page


def test_anything_else_is_refused_by_its_type(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a PosixPath"):
        show(tmp_path)


def test_benchmarks_are_shown_with_verdicts_and_a_curve_each() -> None:
    page = page_of(curves())
    assert "exam: not predictable from these runs: all runs are at chance" in page
    assert len(pictures(page)) == 2


def test_an_answer_with_benchmarks_shows_their_scores() -> None:
    page = page_of(recommend(laws(3), Question(7e9, 150e9, {"main": 1.0}), benchmarks=curves()))
    assert "exam is not predictable: all runs are at chance" in page
