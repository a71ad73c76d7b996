"""RegMix's regression trees, for comparison only: they know no N, no D and no limit, and cannot extrapolate.

Liu et al. 2024, arXiv 2407.01492, fit LightGBM per target to mixtures (1,000 rounds, learning rate 0.01). Theirs stop
early on the test set; these do not. Needs `pip install "mixlaw[trees]"`.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.errors import FitError
from mixlaw.laws.jacobian import Array
from mixlaw.tables.columns import LOSS
from mixlaw.tables.table import Table, pick_targets

NAME = "lightgbm"
ROUNDS = 1000
SETTINGS = {"objective": "regression", "learning_rate": 0.01, "seed": 42, "verbosity": -1, "num_threads": 1}


class TreeFit:
    """Gradient-boosted trees per target, with the fit, predict and score of a `LawFit`; no intervals."""

    def __init__(self) -> None:
        self.models_: dict[str, Any] = {}

    def fit(
        self, table: Table, targets: Iterable[str] = (), progress: Callable[[str], None] | None = None
    ) -> "TreeFit":
        """Fit every target.

        Raises
        ------
        FitError
            If LightGBM is not installed.
        """
        try:
            import lightgbm
        except (ImportError, OSError) as error:
            raise FitError(f'lightgbm cannot be imported ({error}): pip install "mixlaw[trees]"') from None
        for target in pick_targets(table, targets):
            if progress:
                progress(f"{NAME}, {target}")
            y = table.frame[LOSS + target].to_numpy(float)
            known = np.isfinite(y)
            data = lightgbm.Dataset(_features(table)[known], y[known])
            self.models_[target] = lightgbm.train(SETTINGS, data, ROUNDS)
        return self

    def predict(self, table: Table) -> pd.DataFrame:
        """Return DataFrame of row, target, law, predicted, low, high (empty), and observed where the table has it."""
        frames = []
        for target, model in self.models_.items():
            columns = {"row": table.frame["row"], "target": target, "law": NAME, "low": np.nan, "high": np.nan}
            frame = pd.DataFrame(columns | {"predicted": np.asarray(model.predict(_features(table)))})
            frames.append(frame.assign(observed=table.frame[LOSS + target]) if LOSS + target in table.frame else frame)
        return pd.concat(frames, ignore_index=True)

    def score(self, table: Table) -> pd.DataFrame:
        """Return what `LawFit.score` returns; coverage is empty."""
        from mixlaw.fitting.estimator import scores

        known = self.predict(table).dropna(subset="observed")
        rows = [{"law": NAME, "target": t} | scores(g) for t, g in known.groupby("target", sort=False)]
        return pd.DataFrame(rows).assign(coverage=np.nan)


def _features(table: Table) -> Array:
    logs = np.log(table.frame[["n_params", "n_tokens"]].to_numpy(float))
    features: Array = np.hstack([table.mixtures, logs])
    return features
