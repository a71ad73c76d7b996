"""`compare`, the evaluation protocol for laws: the same splits, scores and paired intervals on every table.

Laws are fitted to one part of a table and scored on the rest. `auto` stands for the whole procedure of `fit_laws`: it
sees the fitted part only, tries its laws on a part of that, and chooses.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from mixlaw.errors import ConfigError, FitError, unknown_name
from mixlaw.fitting.estimator import ProgressCallback
from mixlaw.fitting.fitted import Data, as_table, scores
from mixlaw.fitting.identifiability import distinct
from mixlaw.laws.registry import LAWS
from mixlaw.quoted import split_names
from mixlaw.selection.candidates import AUTO, usual_laws
from mixlaw.selection.choose import choose
from mixlaw.selection.fit_laws import fit_and_choose
from mixlaw.selection.paired import difference, mean_errors, on_shared_targets
from mixlaw.selection.splits import FOLDS, KINDS
from mixlaw.selection.trial import Predictor, Trial, start_trial, starter
from mixlaw.selection.workers import Result, workers
from mixlaw.tables.clean import prepare
from mixlaw.tables.table import Table

ALL = "all"


@dataclass(frozen=True)
class Comparison:
    """Laws scored on the same held-out rows.

    Attributes
    ----------
    kind : what was held out, see `mixlaw.selection.splits.KINDS`
    chosen, reason : the law with the lowest error, and why
    laws : DataFrame of law, n_free, mre and median_mre [% of the loss, mean and median over targets], bias [%, signed,
        at the largest size held out], coverage [%] of nominal 90 % intervals (those of `auto` as its own trial widened
        them), and difference, low, high [percentage points]: how much larger the mre is than that of the law in the
        column `against`, with a 90 % interval from resampling held-out runs
    targets : DataFrame of law, target, mre [%], mae [nats], bias [%], coverage [%]
    auto : which laws `auto` chose, each with its reason
    refused : law -> why it could not be fitted to the fitted part
    trials : one per fold
    """

    kind: str
    chosen: str
    reason: str
    laws: pd.DataFrame
    targets: pd.DataFrame
    auto: list[tuple[str, str]]
    refused: dict[str, str]
    trials: list[Trial]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        return {
            "kind": self.kind,
            "chosen": self.chosen,
            "reason": self.reason,
            "laws": self.laws.to_dict("records"),
            "targets": self.targets.to_dict("records"),
            "auto": self.auto,
            "refused": self.refused,
        }


def compare(
    table: Data,
    laws: str | Iterable[str] = (),
    *,
    holdout: str = "scale",
    against: str | None = None,
    targets: Iterable[str] = (),
    keep_warmup: bool = False,
    n_jobs: int | None = None,
    progress: ProgressCallback | None = None,
    **settings: Any,
) -> Comparison:
    """Score laws on one split of a table; unseen mixtures are held out a fifth at a time, until all have been.

    Parameters
    ----------
    table : runs, see `mixlaw.read_table`; cleaned first, unless it has been
    laws : names, `auto` among them if wanted; by default the base law and those that `auto` considers; "all": every law
    holdout : scale, mixture or tokens
    against : the law that the others are compared with, by default joint, else the first; if it cannot be fitted,
        the first that can
    targets : which losses to fit and score; all by default
    keep_warmup : keep checkpoints that are still in the warm-up of the learning rate
    n_jobs : number of processes, see `mixlaw.selection.workers.workers`; by default one per core
    progress : called with a sentence at the start of each step
    settings : of every `LawFit`

    Raises
    ------
    ConfigError
        If `against` is none of the laws, or `n_jobs` is below 1.
    FitError
        If the table has nothing to hold out, or none of the laws can be fitted to the rest.
    """
    runs = prepare(as_table(table), keep_warmup)
    names = names_to_compare(laws, runs)
    against = against or next((name for name in names if name.partition("-fixed")[0] == "joint"), names[0])
    if against not in names:
        raise ConfigError(f"--against: {unknown_name('law', against, names)}")
    wanted = list(targets)
    chosen_by_auto: dict[tuple[str, str], None] = {}  # ordered, each choice once
    folds = range(min(FOLDS, distinct(runs)[2])) if holdout == "mixture" else [FOLDS - 1]
    with workers(n_jobs, progress) as processes:
        start_law = starter(processes, wanted, **settings)

        def fit_auto(seen: Table) -> Predictor:
            choice = fit_and_choose(seen, [AUTO], targets=wanted, workers=processes, **settings)
            chosen_by_auto[choice.chosen, choice.reason] = None
            return choice.fits[choice.chosen]

        def start(name: str, seen: Table) -> Result[Predictor]:
            return partial(fit_auto, seen) if name == AUTO else start_law(name, seen)

        started = [start_trial(runs, names, holdout, start, fold=fold) for fold in folds]
        trials = [trial.finish(names) for trial in started]
    return _comparison(holdout, names, against, trials, list(chosen_by_auto))


def names_to_compare(laws: str | Iterable[str], table: Table) -> list[str]:
    """Return the names of the laws that are compared, each once."""
    if laws == ALL:
        return [*LAWS, AUTO]
    return split_names(laws) or usual_laws(table)


def _comparison(
    kind: str, names: list[str], against: str, trials: list[Trial], auto: list[tuple[str, str]]
) -> Comparison:
    fitted = [name for name in names if all(name in trial.fits for trial in trials)]
    refused = {law: why for trial in trials for law, why in trial.refused.items()}
    if not fitted:
        raise FitError(f"--holdout {kind}: no law can be fitted. {next(iter(trials[-1].refused.values()), '')}")
    errors = {name: pd.concat([t.errors(name) for t in trials], ignore_index=True) for name in fitted}
    against = against if against in fitted else fitted[0]
    parameters = {name: trials[-1].n_free(name) for name in fitted}
    rows = [
        {"law": name, "n_free": parameters[name]} | _scores(e) | _gap(e, errors[against]) | {"against": against}
        for name, e in errors.items()
    ]
    chosen, reason = choose(mean_errors(on_shared_targets(errors)), parameters, KINDS[kind])
    by_target = pd.concat([_target_scores(name, e) for name, e in errors.items()], ignore_index=True)
    return Comparison(
        kind=kind,
        chosen=chosen,
        reason=reason,
        laws=pd.DataFrame(rows),
        targets=by_target,
        auto=auto,
        refused=refused,
        trials=trials,
    )


def _scores(errors: pd.DataFrame) -> dict[str, float]:
    by_target = errors.assign(size=errors["error"].abs()).groupby("target", sort=False)
    largest = errors[errors["n_params"] == errors["n_params"].max()]
    return {
        "mre": float(by_target["size"].mean().mean()),
        "median_mre": float(by_target["size"].mean().median()),
        "bias": float(largest.groupby("target")["error"].mean().mean()),
        "coverage": float(100 * by_target["inside"].mean().mean()) if errors["low"].notna().any() else float("nan"),
    }


def _target_scores(law: str, errors: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of a law by target, over the rows of all folds."""
    found = [
        {"law": law, "target": target} | {name: scores(rows)[name] for name in ("mre", "mae", "bias", "coverage")}
        for target, rows in errors.groupby("target", sort=False)
    ]
    table = pd.DataFrame(found)
    return table if errors["low"].notna().any() else table.assign(coverage=float("nan"))


def _gap(errors: pd.DataFrame, others: pd.DataFrame) -> dict[str, float]:
    found = difference(errors, others)
    return {"difference": found.mean, "low": found.low, "high": found.high}
