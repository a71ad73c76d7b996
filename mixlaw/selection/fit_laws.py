"""`fit_laws`, which `mixlaw fit` calls: clean, fit, score on held-out runs, choose, widen intervals."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from mixlaw.errors import ConfigError, FitError
from mixlaw.fitting.estimator import LawFit, ProgressCallback
from mixlaw.fitting.fitted import Data, FittedLaw, as_table
from mixlaw.fitting.identifiability import distinct
from mixlaw.fitting.saved import FittedLaws
from mixlaw.quoted import split_names
from mixlaw.runs.comparable import require_alike
from mixlaw.selection.candidates import AUTO, auto_laws
from mixlaw.selection.choose import choose_law
from mixlaw.selection.intervals import IntervalCheck, check_intervals
from mixlaw.selection.splits import default_kind
from mixlaw.selection.trial import Predictor, Trial, fitter, try_laws
from mixlaw.tables.clean import prepare
from mixlaw.tables.table import Table

TRIAL_RESAMPLES = 40  # of a trial's fits: enough to measure the coverage of intervals


def fit_laws(
    table: Data,
    laws: str | Iterable[str] = AUTO,
    *,
    targets: Iterable[str] = (),
    holdout: str = "",
    test: Table | None = None,
    keep_warmup: bool = False,
    progress: ProgressCallback | None = None,
    **settings: Any,
) -> FittedLaws:
    """Fit laws to a table, and choose one of them.

    Parameters
    ----------
    table : runs, see `mixlaw.read_table`; cleaned first, unless it has been
    laws : a name, several names, or "auto", which chooses between the laws that can be fitted to the table
    targets : which losses to fit; all by default
    holdout : what is held out for the choice and scored: scale, mixture or tokens. By default sizes (or mixtures) and,
        if there are several laws, the ends of all runs as well
    test : further runs, only for scoring
    keep_warmup : keep checkpoints that are still in the warm-up of the learning rate
    progress : called with a sentence at the start of each step
    settings : of every `LawFit`

    Returns
    -------
    The fitted laws; `best` is the chosen one, `scores` are on held-out or test runs, if these were requested.

    Raises
    ------
    ConfigError
        If a law is unknown, or both `holdout` and `test` are given.
    FitError
        If none of the laws can be fitted to the table, or it has nothing to hold out of the requested kind.
    """
    if test is not None and holdout:
        raise ConfigError("--test and --holdout are two ways to score: give one of them")
    runs = prepare(as_table(table), keep_warmup)
    if test is not None:
        require_alike(runs.identity, test.identity, "the runs of the fit", "the runs of the test")
    names = names_of(laws)
    choice = fit_and_choose(runs, names, kind=holdout, targets=list(targets), progress=progress, **settings)
    scored = [fit.scores(test) for fit in choice.fits.values()] if test is not None else []
    scored = [trial.scores() for trial in choice.trials] if holdout else scored
    scores = pd.concat(scored) if scored else pd.DataFrame()
    found = FittedLaws.of(choice.fits, runs, choice.chosen, choice.reason, scores)
    return replace(found, intervals=choice.intervals)


def names_of(laws: str | Iterable[str]) -> list[str]:
    """Return names of laws, each once, from a list or a text with commas.

    Raises
    ------
    ConfigError
        If there is none, or `auto` stands beside others.
    """
    names = split_names(laws)
    if not names:
        raise ConfigError("--law: name a law, several with commas between, or auto")
    if AUTO in names and len(names) > 1:
        raise ConfigError(f"--law {','.join(names)}: auto chooses its laws itself, so it stands alone")
    return names


@dataclass(frozen=True)
class Choice:
    """Laws fitted to a table, and the choice between them.

    Attributes
    ----------
    fits : name -> fitted law, intervals widened
    trials : the same laws fitted without parts of the table
    chosen, reason : name of the law, and why
    intervals : name -> how its intervals were checked, in a sentence
    """

    fits: dict[str, FittedLaw]
    trials: list[Trial]
    chosen: str
    reason: str
    intervals: dict[str, str] = field(default_factory=dict)


def fit_and_choose(
    table: Table,
    names: Iterable[str],
    *,
    kind: str = "",
    targets: Iterable[str] = (),
    progress: ProgressCallback | None = None,
    **settings: Any,
) -> Choice:
    """Fit laws to a clean table, try them without a part of it, choose one, and widen intervals that were too narrow.

    Parameters and errors are those of `fit_laws`; `kind` is its `holdout`.
    """
    wanted = list(targets)
    fits = _fits(table, list(names), wanted, progress, settings)
    trials = _trials(table, list(fits), kind, wanted, progress, settings)
    chosen, reason = choose_law(trials, list(fits), len(table.domains) if distinct(table)[2] > 1 else 1)
    scored = trials[0] if trials and (kind or trials[0].kind != "tokens") else None
    checks = {name: check_intervals(fit, trials, scored) for name, fit in fits.items()}
    if scored:
        trials[0] = replace(scored, fits={name: _widened(fit, checks) for name, fit in scored.fits.items()})
    fits = {name: checks[name].apply(fit) for name, fit in fits.items()}
    return Choice(fits, trials, chosen, reason, {name: check.statement for name, check in checks.items()})


def _widened(fit: Predictor, checks: dict[str, IntervalCheck]) -> Predictor:
    return checks[fit.name].apply(fit) if isinstance(fit, FittedLaw) else fit


def _fits(
    table: Table, names: list[str], targets: list[str], progress: ProgressCallback | None, settings: dict[str, Any]
) -> dict[str, FittedLaw]:
    """Fit laws; with `auto`, leave out those that a target has too few rows for."""
    free, fits = names == [AUTO], dict[str, FittedLaw]()
    names = auto_laws(table) if free else names
    for name in names:
        try:
            fits[name] = LawFit(name, **settings).fit(table, targets=targets, progress=progress).fitted_
        except FitError:  # a target may have too few rows although the whole table has enough
            if not free or (name == names[-1] and not fits):
                raise
            if progress:
                progress(f"{name} law: left out, a target has too few rows for it")
    return fits


def _trials(
    table: Table,
    names: list[str],
    kind: str,
    targets: list[str],
    progress: ProgressCallback | None,
    settings: dict[str, Any],
) -> list[Trial]:
    """Score laws on one kind of split; by default on sizes (or else mixtures) and on the ends of runs."""
    fewer = settings | {"n_bootstrap": min(settings.get("n_bootstrap", TRIAL_RESAMPLES), TRIAL_RESAMPLES)}
    trials: list[Trial] = []
    for each in [kind] if kind else dict.fromkeys([default_kind(table), "mixture", "tokens"]):
        if trials and (each == "mixture" or len(names) == 1):
            continue
        try:
            trial = try_laws(table, names, each, fitter(targets, progress, **fewer))
        except FitError:
            if kind:
                raise
            continue
        if not trials or not set(trial.refused) - set(trials[0].refused):  # a second split refuses no further law
            trials.append(trial)
        fewer["n_bootstrap"] = 1  # only the first trial's intervals are checked
    return trials
