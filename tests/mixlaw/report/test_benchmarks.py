"""Figures and verdicts of benchmarks in reports and on the command line."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from mixlaw.benchmarks.curve import HELD
from mixlaw.benchmarks.saved import Benchmarks
from mixlaw.report.benchmark_section import verdicts
from mixlaw.report.plots_benchmarks import score_curve
from tests.mixlaw.benchmarks.curves import curves


def test_a_curve_that_no_held_out_runs_tested_says_so():
    quiz = curves()["quiz"]
    assert verdicts(Benchmarks({"quiz": quiz}))[0].startswith("quiz: predictable, but not tested: too few runs")
    row = dict(zip(HELD, ("N = 1B", 4, 0.5, 0.5, 0.0, 1.0, 0.0), strict=True))
    tested = replace(quiz, held=quiz.held.reindex([0]).assign(**row))
    assert verdicts(Benchmarks({"quiz": tested})) == ["quiz: predictable"]


@pytest.mark.parametrize("score", [0.0, 0.25, 1.0])
def test_labels_of_the_axis_differ_where_all_runs_score_the_same(score):
    quiz = curves()["quiz"]
    points = replace(quiz.points, score=np.full_like(quiz.points.score, score))
    flat = replace(
        quiz, points=points, fit=replace(quiz.fit, theta=np.array([-5.0, 0.0, 0.0]), draws=quiz.fit.draws[:1])
    )
    ax = score_curve(Figure().subplots(), replace(flat, chance=min(score, 0.99), reason="all runs score the same"))
    ax.figure.canvas.draw()
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert len(labels) == len(set(labels)) > 2
