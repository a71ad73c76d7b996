"""Which rows of a table are runs on a given mixture, or with given phases, by the weights that the runs realised."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.phased_mixture import PhasedMixture
from mixlaw.tables.columns import UNTIL, WEIGHT
from mixlaw.tables.phases import n_phases

WITHIN = 0.005  # of every weight, for runs on the same mixture
ENDS_WITHIN = 0.01  # of the ends of phases, as shares of the run's tokens: trainers round them to whole steps


def on_mixture(frame: pd.DataFrame, mixture: Mapping[str, float]) -> NDArray[np.bool_]:
    """Return (n,) which rows realised a mixture: every weight within 0.005."""
    return weights_off(frame, mixture) < WITHIN


def on_phases(frame: pd.DataFrame, mixture: PhasedMixture, n_tokens: float) -> NDArray[np.bool_]:
    """Return (n,) which rows belong to a run of n_tokens that had these phases until then.

    Every weight is within 0.005 in each phase that has begun, and phases ended within 0.01 of the whole run's tokens.
    Runs whose last row has other phases are left out altogether.
    """
    share = frame["n_tokens"].to_numpy(float) / n_tokens
    begun = 1 + (np.array(mixture.ends[:-1]) < share[:, None]).sum(1)
    columns = [f"{UNTIL}{p}" for p in range(1, n_phases(frame) + 1)]
    ended = frame[columns].to_numpy(float) * share[:, None]
    found = np.maximum(np.isfinite(ended).sum(1), 1) == begun
    for number, (end, phase) in enumerate(zip(mixture.ends, mixture.phases, strict=True), 1):
        of = found & (begun >= number)
        if of.any():
            found[of] = _phase_off(frame[of], number, phase) < WITHIN
        before = found & (begun > number)
        found[before] = np.abs(ended[before, number - 1] - end) < ENDS_WITHIN
    last = frame.reset_index(drop=True).groupby("run_id")["n_tokens"].transform("idxmax").to_numpy(np.int64)
    return found & found[last]


def _phase_off(frame: pd.DataFrame, number: int, mixture: Mapping[str, float]) -> NDArray[np.float64]:
    """Return (n,) the largest difference between the weights of rows in a phase and a mixture."""
    whole = frame[[f"{WEIGHT}{domain}" for domain in mixture]].to_numpy(float)
    columns = [f"{WEIGHT}{domain}@{number}" for domain in mixture]
    own = frame[columns].to_numpy(float) if number <= n_phases(frame) else np.full_like(whole, np.nan)
    realised = np.where(np.isfinite(own), own, whole)  # runs with one mixture leave the columns of phases empty
    off: NDArray[np.float64] = np.abs(realised - np.array(list(mixture.values()))).max(axis=1)
    return off


def weights_off(frame: pd.DataFrame, mixture: Mapping[str, float]) -> NDArray[np.float64]:
    """Return (n,) the largest difference between the weights of a row, also those of its phases, and a mixture."""
    wanted = np.array(list(mixture.values()))
    off = np.zeros(len(frame))
    for part in ("", *(f"@{number}" for number in range(1, n_phases(frame) + 1))):
        realised = frame[[f"{WEIGHT}{domain}{part}" for domain in mixture]].to_numpy(float)
        off = np.fmax(off, np.abs(realised - wanted).max(axis=1))
    return off


def last_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the row of the largest D of every run."""
    return frame.sort_values("n_tokens").groupby("run_id").tail(1)
