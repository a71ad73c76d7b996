"""How sure a fit can be: whole runs are resampled, never rows, because the rows of one run share their errors."""

import numpy as np
import pandas as pd

from mixlaw.laws import Array
from mixlaw.tables import LOSS, Table

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


def seed_noise(table: Table) -> pd.DataFrame:
    """Return how far runs that differ only in their seed lie apart: the floor below which no law can predict.

    Returns
    -------
    DataFrame of target, sd [nats/token], percent (of the loss) and n_runs, from the last evaluation of every run; empty
    where no run was repeated.
    """
    frame = table.frame
    if "seed" not in frame:
        return pd.DataFrame()
    last = frame.sort_values("n_tokens").groupby("run_id").tail(1)
    asked = [f"requested_{d}" for d in table.domains]
    groups = [g for _, g in last.groupby(["n_params", "n_tokens", *asked]) if g["seed"].nunique() > 1]
    rows = []
    for target in table.targets:
        losses = [g[LOSS + target].to_numpy(float) for g in groups]
        freedom = sum(len(values) - 1 for values in losses)
        if freedom:
            variance = sum(float(((v - v.mean()) ** 2).sum()) for v in losses) / freedom
            mean = float(np.mean(np.concatenate(losses)))
            n_runs = sum(map(len, losses))
            rows.append(
                {"target": target, "sd": variance**0.5, "percent": 100 * variance**0.5 / mean, "n_runs": n_runs}
            )
    return pd.DataFrame(rows)
