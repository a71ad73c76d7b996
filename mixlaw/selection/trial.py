"""A trial: laws fitted to one part of a table and scored on the held-out rest."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mixlaw.errors import FitError
from mixlaw.fitting.estimator import LawFit, ProgressCallback
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.selection.candidates import n_free
from mixlaw.selection.paired import row_errors
from mixlaw.selection.regression_trees import NAME as TREES
from mixlaw.selection.regression_trees import FittedTrees, fit_trees
from mixlaw.selection.splits import FOLDS, held_out
from mixlaw.tables.table import Table

Predictor = FittedLaw | FittedTrees
Fitter = Callable[[str, Table], Predictor]


@dataclass(frozen=True)
class Trial:
    """Laws that were fitted to a part of a table.

    Attributes
    ----------
    kind : what was held out, see `mixlaw.selection.splits.KINDS`
    held : the held-out rows
    fits : name -> law fitted to the other rows
    refused : name -> why the law could not be fitted to the other rows
    """

    kind: str
    held: Table
    fits: dict[str, Predictor] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def n_free(self, name: str) -> float:
        """Return a law's number of free parameters; infinity for regression trees."""
        return n_free(self.fits[name].name, len(self.held.domains))

    def scores(self) -> pd.DataFrame:
        """Return DataFrame of law, target, mre [%], mae [nats], bias [%], spearman, coverage [%], n and n_free."""
        scored = [fit.scores(self.held).assign(law=name, n_free=self.n_free(name)) for name, fit in self.fits.items()]
        return pd.concat(scored, ignore_index=True)

    def errors(self, name: str) -> pd.DataFrame:
        """Return the errors of one law on the held-out rows, see `mixlaw.selection.paired.row_errors`."""
        return row_errors(self.fits[name].predict(self.held), self.held)


def fitter(targets: Iterable[str] = (), progress: ProgressCallback | None = None, **settings: Any) -> Fitter:
    """Return a function that fits the law of a name to a table.

    Parameters
    ----------
    targets : which losses to fit; all by default
    settings : of `LawFit`
    """
    wanted = list(targets)

    def fit(name: str, table: Table) -> Predictor:
        if name == TREES:
            return fit_trees(table, wanted, progress)
        return LawFit(name, **settings).fit(table, targets=wanted, progress=progress).fitted_

    return fit


def try_laws(table: Table, names: Iterable[str], kind: str, fit: Fitter, *, fold: int = FOLDS - 1) -> Trial:
    """Fit laws to a table without a part of it.

    Parameters
    ----------
    kind : scale, mixture or tokens
    fit : fits the law of a name, see `fitter`
    fold : which fifth of the mixtures is held out

    Raises
    ------
    FitError
        If the table has nothing to hold out, or none of the laws can be fitted to the rest.
    """
    held = held_out(table, kind, fold)
    trial, rest = Trial(kind, table.rows(held)), table.rows(~held)
    for name in names:
        try:
            trial.fits[name] = fit(name, rest)
        except FitError as error:
            trial.refused[name] = str(error)
    if not trial.fits:
        raise FitError(f"--holdout {kind}: no law can be fitted. {next(iter(trial.refused.values()), '')}")
    return trial
