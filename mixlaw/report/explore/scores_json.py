"""The curves of benchmarks as JSON for the scripts of the page, which evaluate them at the losses that the law says."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixlaw.benchmarks.curve import ScoreCurve
from mixlaw.fitting.fitted import FittedLaw

DIGITS = 6  # significant, of resampled parameters


def curve_json(curve: ScoreCurve, fit: FittedLaw, kept: NDArray[np.int64]) -> dict[str, Any]:
    """Return a curve, and for each kept resample of the law a resampled curve and the deviation of a run from it."""
    theta, off = curve.new_runs(len(fit.target(curve.target).draws))
    return {
        "name": curve.name,
        "target": list(fit.targets).index(curve.target),
        "chance": curve.chance,
        "theta": curve.fit.theta.tolist(),
        "draws": [[float(f"{value:.{DIGITS}g}") for value in each] for each in theta[kept].tolist()],
        "off": [float(f"{value:.{DIGITS}g}") for value in off[kept, 0].tolist()],
        "widening": curve.widening,
        "lowest": curve.lowest,
        "widest": curve.widest,
        "reason": curve.reason,
    }
