"""RegMix's regression trees, as a baseline only: trees cannot extrapolate in N or D.

Liu et al. 2024, arXiv 2407.01492, fit LightGBM per target to mixtures (1,000 rounds, learning rate 0.01). They stop
early on the test set; we run all rounds. Needs `pip install "mixlaw[trees]"`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.errors import FitError
from mixlaw.fitting.estimator import ProgressCallback
from mixlaw.fitting.fitted import scores
from mixlaw.laws.jacobian import Array
from mixlaw.tables.columns import LOSS
from mixlaw.tables.table import Table, pick_targets

NAME = "lightgbm"
ROUNDS = 1000
SETTINGS = {"objective": "regression", "learning_rate": 0.01, "seed": 42, "verbosity": -1, "num_threads": 1}


@dataclass(frozen=True)
class FittedTrees:
    """Gradient-boosted trees per target, with `predict` and `scores` as a `FittedLaw` has them; no intervals."""

    models: dict[str, Any]

    @property
    def name(self) -> str:
        """Name among the laws."""
        return NAME

    def predict(self, table: Table) -> pd.DataFrame:
        """Return DataFrame of row, target, law, predicted, low, high (empty), and observed where the table has it."""
        frames = []
        for target, model in self.models.items():
            columns = {"row": table.frame["row"], "target": target, "law": NAME, "low": np.nan, "high": np.nan}
            frame = pd.DataFrame(columns | {"predicted": np.asarray(model.predict(_features(table)))})
            frames.append(frame.assign(observed=table.frame[LOSS + target]) if LOSS + target in table.frame else frame)
        return pd.concat(frames, ignore_index=True)

    def scores(self, table: Table) -> pd.DataFrame:
        """Return what `FittedLaw.scores` returns; coverage is empty."""
        known = self.predict(table).dropna(subset="observed")
        rows = [{"law": NAME, "target": t} | scores(g) for t, g in known.groupby("target", sort=False)]
        return pd.DataFrame(rows).assign(coverage=np.nan)


def fit_trees(table: Table, targets: Iterable[str] = (), progress: ProgressCallback | None = None) -> FittedTrees:
    """Fit regression trees to every target.

    Raises
    ------
    FitError
        If LightGBM is not installed.
    """
    try:
        import lightgbm
    except (ImportError, OSError) as error:
        raise FitError(f'lightgbm cannot be imported ({error}): pip install "mixlaw[trees]"') from None
    models = {}
    for target in pick_targets(table, targets):
        if progress:
            progress(f"{NAME}, {target}")
        y = table.frame[LOSS + target].to_numpy(float)
        known = np.isfinite(y)
        models[target] = lightgbm.train(SETTINGS, lightgbm.Dataset(_features(table)[known], y[known]), ROUNDS)
    return FittedTrees(models)


def _features(table: Table) -> Array:
    logs = np.log(table.frame[["n_params", "n_tokens"]].to_numpy(float))
    features: Array = np.hstack([table.mixtures, logs])
    return features
