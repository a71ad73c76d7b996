"""A trial: laws fitted to one part of a table and scored on the held-out rest."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
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
from mixlaw.selection.workers import Result, Workers
from mixlaw.tables.table import Table

Predictor = FittedLaw | FittedTrees
Start = Callable[[str, Table], Result[Predictor]]


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


def fit_law(
    name: str, table: Table, targets: list[str], settings: dict[str, Any], progress: ProgressCallback | None
) -> FittedLaw:
    """Return a law fitted to a table, with the settings of a `LawFit`."""
    return LawFit(name, **settings).fit(table, targets=targets, progress=progress).fitted_


def _fit(
    name: str, table: Table, targets: list[str], settings: dict[str, Any], progress: ProgressCallback | None
) -> Predictor:
    if name == TREES:
        return fit_trees(table, targets, progress)
    return fit_law(name, table, targets, settings, progress)


def starter(workers: Workers, targets: Iterable[str] = (), **settings: Any) -> Start:
    """Return a function that begins to fit the law of a name to a table, and returns a function that waits for it.

    Parameters
    ----------
    workers : fit the laws
    targets : which losses to fit; all by default
    settings : of `LawFit`
    """
    wanted = list(targets)
    return lambda name, table: workers.start(partial(_fit, name, table, wanted, settings))


@dataclass(frozen=True)
class StartedTrial:
    """Laws that are being fitted to a part of a table.

    Attributes
    ----------
    kind : what was held out, see `mixlaw.selection.splits.KINDS`
    held : the held-out rows
    results : name -> function that waits for the law fitted to the other rows
    """

    kind: str
    held: Table
    results: dict[str, Result[Predictor]]

    def finish(self, names: Iterable[str]) -> Trial:
        """Wait for some of the laws.

        Raises
        ------
        FitError
            If none of them can be fitted.
        """
        trial = Trial(self.kind, self.held)
        for name in names:
            try:
                trial.fits[name] = self.results[name]()
            except FitError as error:
                trial.refused[name] = str(error)
        if not trial.fits:
            raise FitError(f"--holdout {self.kind}: no law can be fitted. {next(iter(trial.refused.values()), '')}")
        return trial


def start_trial(
    table: Table,
    names: Iterable[str],
    kind: str,
    start: Start,
    *,
    fold: int = FOLDS - 1,
) -> StartedTrial:
    """Begin to fit laws to a table without a part of it.

    Parameters
    ----------
    kind : scale, mixture or tokens
    start : begins to fit the law of a name, see `starter`
    fold : which fifth of the mixtures is held out

    Raises
    ------
    FitError
        If the table has nothing to hold out.
    """
    held = held_out(table, kind, fold)
    rest = table.rows(~held)
    return StartedTrial(kind, table.rows(held), {name: start(name, rest) for name in names})
