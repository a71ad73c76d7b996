"""Curves on held-out runs: each size is predicted from smaller ones, and the errors widen the intervals."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri

from mixlaw.benchmarks.curve import HELD, ScoreCurve
from mixlaw.benchmarks.fit import LEAST_RUNS, fit_curve
from mixlaw.benchmarks.points import Points
from mixlaw.fitting.fitted import LEVEL
from mixlaw.laws.jacobian import Array
from mixlaw.text import count_text

BEST = 1 / 3  # of the runs are held out by their loss, if there is one size only
LEAST = 1e-6  # sd of a score, against division by zero


def checked(curve: ScoreCurve) -> ScoreCurve:
    """Return a curve with the errors of such curves on held-out runs, and with intervals that are as wide as these."""
    held = held_out(curve)
    return replace(curve, held=held, widening=_widening(held["ratio"].tolist()))


def _widening(ratios: Sequence[float]) -> float:
    """Return the factor that brings the rms ratio of errors to their sds to 1; at least 1."""
    return max(1.0, float(np.sqrt(np.mean(np.square(ratios))))) if len(ratios) else 1.0


def held_out(curve: ScoreCurve) -> pd.DataFrame:
    """Return how well the runs of each size are predicted by a curve that is fitted to smaller sizes.

    The losses of the held-out runs count as known. With one size only, the third of the runs with the lowest losses is
    held out. Columns are those of `ScoreCurve.held`; empty where too few runs are left to fit.
    """
    rows: list[tuple[Any, ...]] = []
    points = curve.points
    for name, held, known in _parts(points):
        rest = points.where(known)
        if rest.n_runs < LEAST_RUNS:
            continue
        widening = _widening([row[-1] for row in rows])  # by sizes that are smaller still
        fitted = replace(curve, fit=fit_curve(rest, curve.chance, len(curve.fit.draws)), points=rest, widening=widening)
        ends = points.where(held).ends
        found = fitted.predict(ends.loss)
        inside = (found["low"] <= ends.score) & (ends.score <= found["high"])
        error = float(np.abs(found["score"] - ends.score).mean())
        ratio = _ratio(ends.score, found) * widening
        rows.append((name, ends.n_runs, ends.score.mean(), found["score"].mean(), error, inside.mean(), ratio))
    return pd.DataFrame(rows, columns=HELD)


def _ratio(score: Array, found: pd.DataFrame) -> float:
    """Return the rms ratio of errors to the sds of their intervals, of which the end beyond the error counts."""
    centre, low, high = (found[name].to_numpy() for name in ("score", "low", "high"))
    off = score - centre
    sd = np.where(off > 0, high - centre, centre - low) / ndtri(0.5 + LEVEL / 2)
    return float(np.sqrt(np.mean((off / np.maximum(sd, LEAST)) ** 2)))


def _parts(points: Points) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[np.bool_]]]:
    """Yield a held-out part's name and mask (n,), and the mask of the runs that predict it: those of smaller sizes."""
    ends = points.ends
    if points.size.max() == points.size.min():
        best = np.argsort(ends.loss)[: max(round(BEST * len(ends.loss)), 1)]
        held = np.isin(points.run, best)
        yield "lowest losses", held, ~held
        return
    for size in range(1, int(points.size.max()) + 1):
        yield _size_name(points, size), points.size == size, points.size < size


def _size_name(points: Points, size: int) -> str:
    return f"N = {count_text(float(np.median(points.n_params[points.size == size])))}"
