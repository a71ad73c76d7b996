"""Curves from loss to score, written down instead of fitted."""

from dataclasses import replace

import numpy as np

from mixlaw.benchmarks.curve import ScoreCurve
from mixlaw.benchmarks.fit import Fit
from mixlaw.benchmarks.points import Points
from mixlaw.benchmarks.saved import Benchmarks
from mixlaw.benchmarks.scatter import Scatter


def curves(target: str = "main", other: str = "main", seed: int = 0) -> Benchmarks:
    """Return the curves of a quiz by the loss of one target, and of an exam, not predictable, by that of another."""
    rng = np.random.default_rng(seed)
    loss = np.repeat(rng.uniform(2, 4, 12), 2)
    theta = np.array([np.log(2.5), np.log(rng.uniform(0.5, 5)), 2.0])
    score = 0.25 + 0.66 / (1 + np.exp(np.exp(theta[1]) * (loss - 2.5)))
    points = Points(loss, score, np.arange(24) // 2, np.full(24, 1e8), np.zeros(24, np.int64), np.ones(24))
    fit = Fit(theta, theta + 0.1 * rng.normal(size=(70, 3)), Scatter(0.02, 0.03))
    quiz = ScoreCurve("quiz", target, 0.25, fit, points, widening=1.5)
    return Benchmarks({"quiz": quiz, "exam": replace(quiz, name="exam", target=other, reason="all runs are at chance")})
