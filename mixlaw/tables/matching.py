"""Which rows of a table are runs on a given mixture, by the weights that the runs realised."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.tables.columns import WEIGHT
from mixlaw.tables.phases import n_phases

WITHIN = 0.005  # of every weight, for runs on the same mixture


def on_mixture(frame: pd.DataFrame, mixture: Mapping[str, float]) -> NDArray[np.bool_]:
    """Return (n,) which rows realised a mixture: every weight within 0.005."""
    return weights_off(frame, mixture) < WITHIN


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
