"""Laws with one more term than the multiplicative law: is the term needed? Phases, and repeated domains.

Both laws are fitted without a fifth of the runs, by mixture and at all sizes, and compared on the held-out rows that
the term acts on. A larger size is not held out for this: an error in N that all its rows share would decide.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.errors import FitError
from mixlaw.fitting.identifiability import repeated
from mixlaw.selection.candidates import PHASED, PREFERRED, REPEATING
from mixlaw.selection.paired import Difference, difference
from mixlaw.selection.splits import FOLDS
from mixlaw.selection.trial import Start, StartedTrial, Trial, start_trial
from mixlaw.tables.phase_mixtures import phases_of
from mixlaw.tables.table import Table


@dataclass(frozen=True)
class Extension:
    """A law with one more term than the multiplicative law.

    Attributes
    ----------
    law : its name, without the suffix of a form
    acts_on : which rows (n,) of a table the term acts on
    rows, claim : these rows, and what they show if the term is needed, for the reason of a choice
    """

    law: str
    acts_on: Callable[[Table], NDArray[np.bool_]]
    rows: str
    claim: str

    def pair(self, names: Sequence[str]) -> tuple[str, str] | None:
        """Return the law without the term and that with it, in their form, if both are among the names."""
        extended = next((name for name in names if name.partition("-fixed")[0] == self.law), "")
        plain = extended.replace(self.law, PREFERRED)
        return (plain, extended) if extended and plain in names else None


def _changed(table: Table) -> NDArray[np.bool_]:
    phases = phases_of(table)
    return np.zeros(len(table.frame), bool) if phases is None else phases.changed


EXTENSIONS = (
    Extension(PHASED, _changed, "held-out runs that change their mixture", "the order of the data matters"),
    Extension(REPEATING, repeated, "held-out rows that repeat a domain", "repetition matters"),
)


def start_trials(table: Table, names: Sequence[str], start: Start) -> list[StartedTrial]:
    """Begin to fit all pairs of laws among the names without each fifth of the mixtures; none if there is no pair."""
    paired = list(dict.fromkeys(name for each in EXTENSIONS for name in each.pair(names) or ()))
    started = []
    for fold in range(FOLDS) if paired else ():
        with suppress(FitError):
            started.append(start_trial(table, paired, "mixture", start, fold=fold))
    return started


def without_twins(names: Sequence[str], started: Sequence[StartedTrial]) -> tuple[list[str], list[str]]:
    """Return the names without one law of each pair, and why: an extended law must be better with 95 % confidence."""
    kept, reasons = list(names), []
    for extension in EXTENSIONS:
        if pair := extension.pair(names):
            out, why = _loser(extension, pair, started)
            kept = [name for name in kept if name != out]
            reasons.append(why)
    return kept, reasons


def _loser(extension: Extension, pair: tuple[str, str], started: Sequence[StartedTrial]) -> tuple[str, str]:
    plain, extended = pair
    gap = _gap(extension, [trial for each in started if (trial := _finished(each, pair))], plain, extended)
    out, verb = (plain, "show") if gap and gap.significant else (extended, "do not show")
    shown = f" ({gap})" if gap else ""
    return out, f"{extension.rows} {verb} with 95 % confidence that {extension.claim}{shown}"


def _finished(started: StartedTrial, pair: tuple[str, str]) -> Trial | None:
    """Return the trial if both laws could be fitted."""
    with suppress(FitError):
        trial = started.finish(pair)
        return trial if len(trial.fits) == len(pair) else None
    return None


def _gap(extension: Extension, trials: Sequence[Trial], plain: str, extended: str) -> Difference | None:
    """Return how much larger the error of the law without the term is where the term acts; None if it acts nowhere."""
    if not trials:
        return None
    ours, theirs = (pd.concat([_errors(extension, trial, name) for trial in trials]) for name in (plain, extended))
    return difference(ours, theirs) if len(ours) else None


def _errors(extension: Extension, trial: Trial, name: str) -> pd.DataFrame:
    errors = trial.errors(name)
    return errors[errors["row"].isin(trial.held.frame["row"][extension.acts_on(trial.held)])]
