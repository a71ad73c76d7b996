"""The scatter of scores: its two parts are recovered, and whitened residuals are uncorrelated."""

import numpy as np
import pytest

from mixlaw.benchmarks.points import Points
from mixlaw.benchmarks.scatter import Scatter, binomial


def points(n_runs, n_rows, score):
    run = np.repeat(np.arange(n_runs), n_rows)
    ones = np.ones(len(run))
    return Points(ones, score, run, ones, np.zeros(len(run), np.int64), ones)


def test_both_parts_of_the_scatter_are_recovered():
    rng, expected = np.random.default_rng(0), np.full(4000, 0.3)
    run = np.repeat(rng.normal(0, 0.05, 1000), 4)
    score = expected + (run + rng.normal(0, 0.08, 4000)) * binomial(expected)
    found = Scatter.of(points(1000, 4, score), expected)
    assert (found.run, found.row) == pytest.approx((0.05, 0.08), rel=0.1)


def test_binomial_scores_scatter_as_their_questions_say():
    rng, expected = np.random.default_rng(1), np.full(3000, 0.4)
    found = Scatter.of(points(1000, 3, rng.binomial(400, expected) / 400), expected)
    assert found.total == pytest.approx(400**-0.5, rel=0.05)


def test_whitened_rows_are_uncorrelated_and_of_unit_variance():
    scatter, runs = Scatter(0.3, 0.2), points(1, 4, np.ones(4))
    root = scatter.whiten(runs, np.eye(4))
    covariance = scatter.run**2 + scatter.row**2 * np.eye(4)
    assert root @ covariance @ root.T == pytest.approx(np.eye(4), abs=1e-12)
