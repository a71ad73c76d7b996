"""The protocol by which laws are judged: the same named splits, scores and paired intervals on every table.

A law is fitted to one part of a table and scored on the rest. `auto` stands for the whole procedure of `mixlaw fit`: it
sees the fitted part only, tries its laws on a part of that, and chooses.
"""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from mixlaw.errors import FitError
from mixlaw.fitting.identifiability import distinct
from mixlaw.selection.compare import Progress, Trial, try_laws
from mixlaw.selection.paired import difference
from mixlaw.selection.splits import FOLDS
from mixlaw.tables.table import Table


def judge(
    table: Table,
    laws: Iterable[str],
    kind: str,
    against: str = "joint",
    targets: Iterable[str] = (),
    progress: Progress | None = None,
    **settings: Any,
) -> tuple[pd.DataFrame, list[Trial]]:
    """Score laws on one split of a table; unseen mixtures are held out a fifth at a time, until all have been.

    Parameters
    ----------
    laws : names, `auto` among them if wanted
    against : the law that the others are compared with; where it cannot be fitted, the first that can
    settings : of every `LawFit`

    Returns
    -------
    DataFrame of law, n_free, mre and median_mre [% of the loss, mean and median over targets], bias [%, signed, at the
    largest size held out], coverage [%] of nominal 90 % intervals (those of `auto` as its own trial widened them), and
    difference, low, high [percentage points]: how much larger the mre is than that of the law in the column `against`,
    with a 90 % interval from resampling held-out runs; and the trials.

    Raises
    ------
    FitError
        If the table has nothing to hold out, or the rest of it supports none of the laws.
    """
    wanted = list(laws)
    folds = range(min(FOLDS, distinct(table)[2])) if kind == "mixture" else [FOLDS - 1]
    trials = [try_laws(table, wanted, kind, targets, progress, fold=fold, **settings) for fold in folds]
    errors = {
        name: pd.concat([trial.errors(name) for trial in trials], ignore_index=True)
        for name in wanted
        if all(name in t.fits for t in trials)
    }
    if not errors:
        raise FitError(f"--holdout {kind}: no law can be fitted. {next(iter(trials[-1].refused.values()), '')}")
    against = against if against in errors else next(iter(errors))
    rows = [
        {"law": name, "n_free": trials[-1].n_free(name)} | _scores(e) | _gap(e, errors[against]) | {"against": against}
        for name, e in errors.items()
    ]
    return pd.DataFrame(rows), trials


def _scores(errors: pd.DataFrame) -> dict[str, float]:
    by_target = errors.assign(size=errors["error"].abs()).groupby("target", sort=False)
    largest = errors[errors["n_params"] == errors["n_params"].max()]
    return {
        "mre": float(by_target["size"].mean().mean()),
        "median_mre": float(by_target["size"].mean().median()),
        "bias": float(largest.groupby("target")["error"].mean().mean()),
        "coverage": float(100 * by_target["inside"].mean().mean()) if errors["low"].notna().any() else float("nan"),
    }


def _gap(errors: pd.DataFrame, others: pd.DataFrame) -> dict[str, float]:
    found = difference(errors, others)
    return {"difference": found.mean, "low": found.low, "high": found.high}
