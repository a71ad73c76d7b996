"""`fit_laws`, which `mixlaw fit` calls: clean, fit, score on held-out runs, choose, widen intervals."""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Any

import pandas as pd

from mixlaw.errors import ConfigError, FitError
from mixlaw.fitting.estimator import ProgressCallback
from mixlaw.fitting.fitted import Data, FittedLaw, as_table
from mixlaw.fitting.identifiability import distinct
from mixlaw.fitting.saved import FittedLaws
from mixlaw.quoted import split_names
from mixlaw.runs.comparable import require_alike
from mixlaw.selection.candidates import AUTO, auto_laws
from mixlaw.selection.choose import choose_law
from mixlaw.selection.extended import start_trials, without_twins
from mixlaw.selection.intervals import IntervalCheck, check_intervals
from mixlaw.selection.splits import default_kind
from mixlaw.selection.trial import Predictor, StartedTrial, Trial, fit_law, start_trial, starter
from mixlaw.selection.workers import Result, Workers, workers
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
    n_jobs: int | None = None,
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
    n_jobs : number of processes, see `mixlaw.selection.workers.workers`; by default one per core
    progress : called with a sentence at the start of each step
    settings : of every `LawFit`

    Returns
    -------
    The fitted laws; `best` is the chosen one, `scores` are on held-out or test runs, if these were requested.

    Raises
    ------
    ConfigError
        If a law is unknown, `n_jobs` is below 1, or both `holdout` and `test` are given.
    FitError
        If none of the laws can be fitted to the table, or it has nothing to hold out of the requested kind.
    """
    if test is not None and holdout:
        raise ConfigError("--test and --holdout are two ways to score: give one of them")
    runs = prepare(as_table(table), keep_warmup)
    if test is not None:
        require_alike(runs.identity, test.identity, "the runs of the fit", "the runs of the test")
    names = names_of(laws)
    with workers(n_jobs, progress) as processes:
        choice = fit_and_choose(runs, names, kind=holdout, targets=targets, workers=processes, **settings)
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
    workers: Workers | None = None,
    **settings: Any,
) -> Choice:
    """Fit laws to a clean table, try them without a part of it, choose one, and widen intervals that were too narrow.

    Parameters and errors are those of `fit_laws`; `kind` is its `holdout`, and `workers` fit the laws.
    """
    workers = workers or Workers()
    fits, trials = _fit_and_try(table, list(names), kind, list(targets), workers, settings)
    quick = starter(workers, targets, **settings | {"n_bootstrap": 1})
    considered, needed = without_twins(list(fits), start_trials(table, list(fits), quick))
    chosen, reason = choose_law(trials, considered, len(table.domains) if distinct(table)[2] > 1 else 1)
    reason = "; ".join(filter(None, [reason if len(considered) > 1 or not needed else "", *needed]))
    scored = trials[0] if trials and (kind or trials[0].kind != "tokens") else None
    checks = {name: check_intervals(fit, trials, scored) for name, fit in fits.items()}
    if scored:
        trials[0] = replace(scored, fits={name: _widened(fit, checks) for name, fit in scored.fits.items()})
    fits = {name: checks[name].apply(fit) for name, fit in fits.items()}
    return Choice(fits, trials, chosen, reason, {name: check.statement for name, check in checks.items()})


def _widened(fit: Predictor, checks: dict[str, IntervalCheck]) -> Predictor:
    return checks[fit.name].apply(fit) if isinstance(fit, FittedLaw) else fit


def _fit_and_try(
    table: Table, names: list[str], kind: str, targets: list[str], workers: Workers, settings: dict[str, Any]
) -> tuple[dict[str, FittedLaw], list[Trial]]:
    """Fit laws, and score them on one kind of split; by default on sizes (or else mixtures) and on the ends of runs."""
    free = names == [AUTO]
    names = auto_laws(table) if free else names
    started = {name: workers.start(partial(fit_law, name, table, targets, settings)) for name in names}

    @cache
    def start(split: str, n_bootstrap: int) -> StartedTrial:
        return start_trial(table, names, split, starter(workers, targets, **settings | {"n_bootstrap": n_bootstrap}))

    splits = [kind] if kind else [*dict.fromkeys([default_kind(table), "mixture", "tokens"])]
    resamples = min(settings.get("n_bootstrap", TRIAL_RESAMPLES), TRIAL_RESAMPLES)
    with suppress(FitError):  # these trials are the likely ones, so they begin beside the fits
        start(splits[0], resamples)
        if len(names) > 1 and splits[1:]:
            start(splits[-1], 1)
    fits = _finished(started, free, workers.progress)
    return fits, _trials(list(fits), splits, resamples, start)


def _finished(
    started: dict[str, Result[FittedLaw]], free: bool, progress: ProgressCallback | None
) -> dict[str, FittedLaw]:
    """Wait for laws; if they are `free` (`auto`), leave out those that a target has too few rows for."""
    fits: dict[str, FittedLaw] = {}
    last = [*started][-1]
    for name, result in started.items():
        try:
            fits[name] = result()
        except FitError:  # a target may have too few rows although the whole table has enough
            if not free or (name == last and not fits):
                raise
            if progress:
                progress(f"{name} law: left out, a target has too few rows for it")
    return fits


def _trials(
    names: list[str], splits: list[str], resamples: int, start: Callable[[str, int], StartedTrial]
) -> list[Trial]:
    """Wait for the trials of laws; a trial that cannot be done is left out, unless it is the only one."""
    trials: list[Trial] = []
    for split in splits:
        if trials and (split == "mixture" or len(names) == 1):
            continue
        try:
            trial = start(split, resamples).finish(names)
        except FitError:
            if len(splits) == 1:
                raise
            continue
        if not trials or not set(trial.refused) - set(trials[0].refused):  # a second split refuses no further law
            trials.append(trial)
        resamples = 1  # only the first trial's intervals are checked
    return trials
