"""Does the order in which runs read their data matter? The law of phases against the same law of the whole mixture.

Both are fitted without a fifth of the runs, by mixture and at all sizes, and compared on the rows of these runs after
their mixture changed. A larger size is not held out for this: an error in N that all its rows share would decide.
"""

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import pandas as pd

from mixlaw.errors import FitError
from mixlaw.selection.paired import Difference, difference
from mixlaw.selection.splits import FOLDS
from mixlaw.selection.trial import Start, StartedTrial, Trial, start_trial
from mixlaw.tables.phase_mixtures import phases_of
from mixlaw.tables.table import Table

OF_PHASES = "-phases"  # in the names of laws of phases


def twins(names: Sequence[str]) -> tuple[str, str] | None:
    """Return the law of the whole mixture and that of phases, if both are among the names."""
    phased = next((name for name in names if OF_PHASES in name), "")
    static = phased.replace(OF_PHASES, "")
    return (static, phased) if phased and static in names else None


def start_order_trials(table: Table, names: Sequence[str], start: Start) -> list[StartedTrial]:
    """Begin to fit both laws without each fifth of the mixtures; none if the names do not hold both."""
    pair, started = twins(names), []
    for fold in range(FOLDS) if pair else ():
        with suppress(FitError):
            started.append(start_trial(table, pair or (), "mixture", start, fold=fold))
    return started


def without_twin(names: Sequence[str], started: Sequence[StartedTrial]) -> tuple[list[str], str]:
    """Return the names without one of both laws, and why: the law of phases must be better with 95 % confidence."""
    pair = twins(names)
    if pair is None:
        return list(names), ""
    static, phased = pair
    gap = _gap([trial for each in started if (trial := _finished(each, pair))], static, phased)
    out, verb = (static, "show") if gap and gap.significant else (phased, "do not show")
    shown = f" ({gap})" if gap else ""
    why = (
        f"held-out runs that change their mixture {verb} with 95 % confidence that the order of the data matters{shown}"
    )
    return [name for name in names if name != out], why


def _finished(started: StartedTrial, pair: tuple[str, str]) -> Trial | None:
    """Return the trial if both laws could be fitted."""
    with suppress(FitError):
        trial = started.finish(pair)
        return trial if len(trial.fits) == len(pair) else None
    return None


def _gap(trials: Sequence[Trial], static: str, phased: str) -> Difference | None:
    """Return how much larger the error of the static law is where runs have changed their mixture; None if none has."""
    if not trials:
        return None
    ours, theirs = (pd.concat([_changed(trial, name) for trial in trials]) for name in (static, phased))
    return difference(ours, theirs) if len(ours) else None


def _changed(trial: Trial, name: str) -> pd.DataFrame:
    phases, errors = phases_of(trial.held), trial.errors(name)
    changed = np.zeros(len(trial.held.frame), bool) if phases is None else phases.changed
    return errors[errors["row"].isin(trial.held.frame["row"][changed])]
