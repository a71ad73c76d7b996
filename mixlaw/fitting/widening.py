"""Model error: intervals are widened by the errors that a law made on held-out runs.

Bootstrap resamples show how well the runs determine a law's parameters, not how far the form of the law is wrong. Two
quantities measured on held-out runs widen them:

* a *factor* for all deviations, if the intervals were too narrow everywhere;
* a *reach* per target: the relative error of the law when it extrapolated to a held-out size (or to the ends of runs),
  per unit of log distance. At the same distance beyond its data the standard deviation is at least that error; at twice
  the distance, at least twice that.

Both scale the deviations of resampled laws in log loss, so losses stay positive, and the differences between mixtures
within a resample are kept.
"""

from dataclasses import dataclass, field

import numpy as np

from mixlaw.laws.jacobian import Array

Ranges = dict[str, tuple[float, float]]
MOST_FACTOR = 30.0  # resamples that hardly differ are not widened further
LEAST = 1e-9  # lower bound of losses before their logarithm is taken
FLAT = 1e-6  # spread of log losses below which there is nothing to scale


@dataclass(frozen=True)
class Widening:
    """The widening of one target's intervals.

    Attributes
    ----------
    factor : of all deviations, at least 1
    reach : n_params, n_tokens -> relative error per unit of log distance beyond the data
    """

    factor: float = 1.0
    reach: dict[str, float] = field(default_factory=dict)


def distances(ranges: Ranges, n_params: Array, n_tokens: Array) -> dict[str, Array]:
    """Return how far rows lie outside the data: n_params, n_tokens -> (n,) logarithms of ratios, 0 inside.

    Parameters
    ----------
    ranges : column -> (low, high) of the data; without them every row counts as inside
    """
    found = {}
    for name, values in (("n_params", n_params), ("n_tokens", n_tokens)):
        low, high = ranges.get(name, (0.0, np.inf))
        found[name] = np.maximum(np.log(np.maximum(values / high, 1.0)), np.log(np.maximum(low / values, 1.0)))
    return found


def factors(widening: Widening, centre: Array, drawn: Array, beyond: dict[str, Array]) -> Array:
    """Return (n,) the factors by which the deviations of resampled laws are multiplied at every row.

    Parameters
    ----------
    centre : (n,) losses of the fit
    drawn : (b, n) losses of its resamples
    beyond : see `distances`
    """
    spread = deviations(centre, drawn).std(axis=0)
    shown = np.sqrt(sum(((reach * beyond[name]) ** 2 for name, reach in widening.reach.items()), np.zeros(len(centre))))
    needed = np.where(spread > FLAT, shown / np.maximum(spread, FLAT), 1.0)
    wider: Array = np.clip(needed, widening.factor, max(MOST_FACTOR, widening.factor))
    return wider


def widened(centre: Array, drawn: Array, factor: Array) -> Array:
    """Return (b, n) losses whose deviations from the centre, in log loss, are multiplied by the factors (n,)."""
    if (factor == 1.0).all():
        return drawn
    return np.where(factor == 1.0, drawn, centre * np.exp(factor * deviations(centre, drawn)))


def deviations(centre: Array, drawn: Array) -> Array:
    """Return (b, n) the log ratios of resampled losses to the fit's; losses at or below zero count as 1e-9."""
    logs: Array = np.log(np.maximum(drawn, LEAST)) - np.log(np.maximum(centre, LEAST))
    return logs


def with_scatter(drawn: Array, scatter: Array) -> Array:
    """Return losses with the scatter of single runs [nats] added; losses approach zero instead of falling below it."""
    falls = drawn * np.exp(np.minimum(scatter, 0.0) / np.maximum(drawn, LEAST))
    return np.where(scatter < 0, falls, drawn + scatter)


def reach_of(errors: Array, noise: Array, distance: float) -> Array:
    """Return (t,) the relative error per unit of log distance that a law made on held-out runs.

    Its square is half the target's own and half the mean over targets: one target's error is a single draw.

    Parameters
    ----------
    errors : (t,) root mean square of relative errors
    noise : (t,) sd of the relative scatter of single runs, which is not the law's error
    distance : of these runs beyond the fitted ones [log ratio]
    """
    own = np.maximum(errors**2 - noise**2, 0.0)
    return np.sqrt((own + own.mean()) / 2) / distance
