"""How sure a fit can be: whole runs are resampled, never rows, because the rows of one run share their errors."""

import numpy as np

from mixlaw.laws import Array

N_NOISE = 512  # residuals that are kept to widen predictions by the scatter of single runs


def resampled_weights(runs: Array, count: int, rng: np.random.Generator) -> Array:
    """Return (count, n) row weights of bootstrap resamples over runs; each row sums to one.

    Parameters
    ----------
    runs : (n,) the number of each row's run
    """
    numbers, row_run = np.unique(runs, return_inverse=True)
    n_runs = len(numbers)
    picks = rng.integers(0, n_runs, (count, n_runs))
    times = np.stack([np.bincount(p, minlength=n_runs) for p in picks]).astype(float)
    weight: Array = times[:, row_run]
    return weight / weight.sum(1, keepdims=True)


def noise_sample(residual: Array, n_free: int, rng: np.random.Generator) -> Array:
    """Return residuals that stand for a new observation's scatter, widened for the parameters that were fitted."""
    n = len(residual)
    widened = residual * np.sqrt(n / max(n - n_free, 1))
    chosen: Array = widened if n <= N_NOISE else rng.choice(widened, N_NOISE, replace=False)
    return chosen


def interval(draws: Array, level: float) -> tuple[Array, Array]:
    """Return the central interval of draws (b, ...) at a level such as 0.9."""
    tail = 50 * (1 - level)
    low, high = np.percentile(draws, [tail, 100 - tail], axis=0)
    return low, high


def predictive_draws(values: Array, noise: Array, rng: np.random.Generator) -> Array:
    """Return draws of a new observation: values (b, n) of the resampled laws, plus scatter."""
    return values + rng.choice(noise, values.shape)
