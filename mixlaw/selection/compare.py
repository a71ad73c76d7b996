"""Which law to trust here: laws scored on the same held-out runs, one chosen by a stated rule, its intervals tried."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.errors import FitError
from mixlaw.fitting.estimator import LawFit
from mixlaw.fitting.identifiability import check_support, distinct, form_of, repeats
from mixlaw.fitting.widening import Widening, reach_of
from mixlaw.laws.registry import LAWS, get_law
from mixlaw.selection.paired import difference, mean_errors, on_shared_targets, row_errors
from mixlaw.selection.regression_trees import NAME as TREES
from mixlaw.selection.regression_trees import TreeFit
from mixlaw.selection.splits import FOLDS, KINDS, default_kind, held_out
from mixlaw.tables.table import Table

AUTO = "auto"
REPEATED = "muennighoff"  # the law of repeated tokens that needs no mixtures
PREFERRED = "multiplicative"  # the law that the protocol of `scripts/protocol.py` says to trust, in all its forms
LEVEL = 0.9
WIDER = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)  # by which intervals are tried to be widened
NEAR_BEYOND = 0.1  # log distance below which an error says nothing about how errors grow with distance
NEARLY = 1.02  # laws whose errors are within this ratio are equal; the one with fewer parameters is chosen
TRIAL_RESAMPLES = 40  # enough to say by how much intervals are too narrow
Progress = Callable[[str], None]


@dataclass
class Trial:
    """Laws that were fitted to a part of a table.

    Attributes
    ----------
    kind : what was held out, see `mixlaw.selection.splits.KINDS`
    held : the rows that were
    fits : law -> fit to the others
    refused : law -> why the rest of the table cannot support it
    chosen : which law `auto` chose, and why, if it took part
    """

    kind: str
    held: Table
    fits: dict[str, LawFit | TreeFit] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    chosen: tuple[str, str] = ("", "")

    def n_free(self, name: str) -> float:
        """Return a law's number of parameters; trees have no end of them."""
        fit = self.fits[name]
        return _n_free(fit.law, len(self.held.domains)) if isinstance(fit, LawFit) else float("inf")

    def scores(self) -> pd.DataFrame:
        """Return DataFrame of law, target, mre [%], mae [nats], bias [%], spearman, coverage [%], n and n_free."""
        return pd.concat(
            [f.score(self.held).assign(law=name, n_free=self.n_free(name)) for name, f in self.fits.items()],
            ignore_index=True,
        )

    def errors(self, name: str) -> pd.DataFrame:
        """Return the errors of one law on the held-out rows, see `mixlaw.selection.paired.row_errors`."""
        return row_errors(self.fits[name].predict(self.held), self.held)


def auto_laws(table: Table) -> list[str]:
    """Return the laws that `--law auto` chooses between, in the form that the table's N and D allow.

    Raises
    ------
    FitError
        If the table supports none of them; why the first one is refused.
    """
    reasons, fine = [], []
    for name in candidates(table):
        try:
            check_support(get_law(name), table)
            fine.append(name)
        except FitError as error:
            reasons.append(error)
    if not fine:
        raise reasons[0]
    return fine


def candidates(table: Table) -> list[str]:
    """Return the laws that `--law auto` tries, in the form that the table's N, D and mixtures allow.

    Where the mixture never varies these are the laws of N and D alone, and Muennighoff's where tokens are repeated.
    """
    sizes, tokens, mixtures = distinct(table)
    form = form_of(sizes, tokens)
    if mixtures > 1:
        return [name + form for name in (PREFERRED, "additive", "joint") if name + form in LAWS]
    repeated = [REPEATED] if not form and repeats(table) else []
    return [name + form for name in ("base", "coupled") if name + form in LAWS] + repeated or ["base"]


def usual_laws(table: Table) -> list[str]:
    """Return the laws that `mixlaw compare` scores where none are named: the base law and those of auto, by size."""
    sizes, tokens, _ = distinct(table)
    base = "base" + form_of(sizes, tokens)
    return list(dict.fromkeys([*([base] if base in LAWS else []), *sorted(candidates(table))]))


@dataclass
class Choice:
    """Laws fitted to a table, which of them is trusted, why, and what was found of their intervals."""

    fits: dict[str, LawFit]
    trials: list[Trial]
    chosen: str
    reason: str
    widened: list[str]


def fit_and_choose(
    table: Table,
    names: Iterable[str],
    kind: str = "",
    targets: Iterable[str] = (),
    progress: Progress | None = None,
    **settings: Any,
) -> Choice:
    """Fit laws, try them without a part of the table, choose one, and widen intervals that were too narrow.

    Parameters
    ----------
    names : laws, or "auto" alone
    kind : what is held out; by default what says most about extrapolation and the table allows, and, where there is a
        choice to make, the ends of all runs as well
    settings : of every `LawFit`

    Raises
    ------
    FitError
        If the table supports none of the laws, or has nothing to hold out of the kind that was asked for.
    """
    wanted, fits = list(names), {}
    free = wanted == [AUTO]
    wanted = auto_laws(table) if free else wanted
    for name in wanted:
        try:
            fits[name] = LawFit(name, **settings).fit(table, targets, progress)
        except FitError:  # a target may have too few rows for a law that the whole table supports
            if not free or (name == wanted[-1] and not fits):
                raise
            if progress:
                progress(f"{name} law: left out, a target has too few rows for it")
    wanted = list(fits)
    trials = _trials(table, wanted, kind, targets, progress, settings)
    chosen, reason = choose_law(trials, wanted, len(table.domains) if distinct(table)[2] > 1 else 1)
    tried = trials[0] if trials and (kind or trials[0].kind != "tokens") else None
    return Choice(fits, trials, chosen, reason, [widen(fit, trials, tried) for fit in fits.values()])


def _trials(
    table: Table,
    names: list[str],
    kind: str,
    targets: Iterable[str],
    progress: Progress | None,
    settings: dict[str, Any],
) -> list[Trial]:
    """Try laws on one kind of split, or, where none is asked for, on sizes (else mixtures) and on the ends of runs."""
    fewer = settings | {"n_bootstrap": min(settings.get("n_bootstrap", TRIAL_RESAMPLES), TRIAL_RESAMPLES)}
    trials: list[Trial] = []
    for each in [kind] if kind else dict.fromkeys([default_kind(table), "mixture", "tokens"]):
        if trials and (each == "mixture" or len(names) == 1):
            continue
        try:
            trial = try_laws(table, names, each, targets, progress, **fewer)
        except FitError:
            if kind:
                raise
            continue
        if not trials or not set(trial.refused) - set(trials[0].refused):  # a second split refuses no further law
            trials.append(trial)
        fewer["n_bootstrap"] = 1  # only the first is asked for intervals
    return trials


def try_laws(
    table: Table,
    laws: Iterable[str],
    kind: str,
    targets: Iterable[str] = (),
    progress: Progress | None = None,
    fold: int = FOLDS - 1,
    **settings: Any,
) -> Trial:
    """Fit laws to a table without a part of it.

    Parameters
    ----------
    laws : names, of which "lightgbm" is RegMix's regression trees, and "auto" what `fit_and_choose` chooses
    kind : scale, mixture or tokens
    fold : which fifth of the mixtures is held out
    settings : of every `LawFit`

    Raises
    ------
    FitError
        If the table has nothing to hold out, or the rest of it supports none of the laws.
    """
    held = held_out(table, kind, fold)
    trial, wanted, seen = Trial(kind, table.rows(held)), list(targets), table.rows(~held)
    for name in laws:
        try:
            if name == AUTO:
                choice = fit_and_choose(seen, [AUTO], targets=wanted, progress=progress, **settings)
                trial.fits[name], trial.chosen = choice.fits[choice.chosen], (choice.chosen, choice.reason)
            else:
                fit = TreeFit() if name == TREES else LawFit(name, **settings)
                trial.fits[name] = fit.fit(seen, wanted, progress)
        except FitError as error:
            trial.refused[name] = str(error)
    if not trial.fits:
        raise FitError(f"--holdout {kind}: no law can be fitted. {next(iter(trial.refused.values()), '')}")
    return trial


def choose(mre: Mapping[str, float], n_free: Mapping[str, float], what: str) -> tuple[str, str]:
    """Return the law to trust by its error on held-out runs, and the sentence why.

    The lowest mean MRE wins; of laws within 2 % of it, the one with the fewest parameters.

    Parameters
    ----------
    mre : law -> mean relative error [%]
    n_free : law -> its number of parameters
    what : the runs that the errors are of, in words
    """
    near = [law for law, error in mre.items() if error <= min(mre.values()) * NEARLY]
    best = min(near, key=lambda law: n_free[law])
    shown = ", ".join(f"{law} {error:.2f} %" for law, error in mre.items())
    tie = f"; {best} has the fewest parameters of those within 2 % of the lowest" if len(near) > 1 else ""
    return best, f"lowest mean MRE on {what}: {shown}{tie}"


def choose_law(trials: Sequence[Trial], names: list[str], k: int) -> tuple[str, str]:
    """Choose between fitted laws; return the name and the sentence why.

    Laws that cannot recommend a mixture only compete among themselves. The multiplicative law is chosen unless another
    one is surely better on the held-out runs: on most tables it predicts best by far, and a few runs can mislead. Where
    neither sizes nor the ends of runs could be held out, the law with the fewest parameters takes its place.

    Parameters
    ----------
    trials : all of them without parts of the table; none where nothing could be held out
    names : the laws that were fitted to the whole table
    k : number of domains; 1 where the mixture never varies
    """
    rivals = [name for name in names if k > 1 and get_law(name).mixes] or names
    if len(rivals) == 1:
        return rivals[0], "the only fitted law" + (" that depends on the mixture" if len(names) > 1 else "")
    refused = {law: why for trial in trials for law, why in trial.refused.items()}
    tried = [name for name in rivals if trials and name not in refused]
    if not tried:
        return min(
            rivals, key=lambda name: _n_free(name, k)
        ), "fewest parameters; nothing could be held out to try them on"
    errors = on_shared_targets({name: pd.concat([trial.errors(name) for trial in trials]) for name in tried})
    n_free = {name: _n_free(name, k) for name in tried}
    name, reason = choose(mean_errors(errors), n_free, ", and ".join(KINDS[trial.kind] for trial in trials))
    ours = _kept(tried, {trial.kind for trial in trials}, k) or name
    if name != ours:
        gap = difference(errors[ours], errors[name])
        preferred = "" if gap.sure else f"{ours} unless another law is surely better; "
        reason = f"{preferred}{reason}; {name} is {'surely' if gap.sure else 'not surely'} better than {ours} ({gap})"
        name = name if gap.sure else ours
    left = [f"{law} could not be tried ({refused[law]})" for law in rivals if law in refused]
    return name, "; ".join([reason, *left])


def _kept(tried: list[str], kinds: set[str], k: int) -> str | None:
    """Return the law that is kept unless another is surely better; None where the preferred one is not in the race.

    Where only mixtures were held out, nothing was seen of how laws that depend on N or D extrapolate in them: then it
    is the law with the fewest parameters.
    """
    ours = next((name for name in tried if name.partition("-fixed")[0] == PREFERRED), None)
    if ours and kinds == {"mixture"} and get_law(ours).uses & {"N", "D"}:
        return min(tried, key=lambda name: _n_free(name, k))
    return ours


def widen(fit: LawFit, trials: Sequence[Trial], scored: Trial | None) -> str:
    """Widen a fit's intervals as held-out runs demand; say what was done.

    The errors on held-out sizes and on the ends of runs become the reach of every target (`fitting/widening.py`). Then
    all deviations are widened until nine in ten losses of the scored trial lie inside; that factor is one for all
    targets, because the held-out losses of one target miss together.

    Parameters
    ----------
    trials : all of them
    scored : the one whose fits have enough resamples to judge intervals by; None where nothing could be held out
    """
    tried = scored.fits.get(fit.law) if scored else None
    if scored is None or not isinstance(tried, LawFit):
        return f"{fit.law} law: its intervals could not be tried on held-out runs"
    reach: dict[str, dict[str, float]] = {name: {} for name in fit.targets_}
    for trial in trials:
        for target, found in _reach(fit, trial).items():
            reach[target] |= found
    factor = WIDER[0]
    for factor in WIDER:
        for each in (fit, tried):
            for name, found_fit in each.targets_.items():
                found_fit.widening = Widening(factor, reach[name])
        scores = tried.score(scored.held)
        fit.held_ = float((scores["coverage"] * scores["n"]).sum() / scores["n"].sum() / 100)
        if fit.held_ >= LEVEL:
            break
    wider = "intervals were wide enough" if factor == WIDER[0] else f"intervals are widened by {factor:g}"
    return f"{fit.law} law: {wider}: {100 * fit.held_:.0f} % of the losses of {KINDS[scored.kind]} lie inside"


def _reach(fit: LawFit, trial: Trial) -> dict[str, dict[str, float]]:
    """Return target -> column -> relative error per unit of log distance that a law made on held-out runs."""
    column = {"scale": "n_params", "tokens": "n_tokens"}.get(trial.kind)
    tried = trial.fits.get(fit.law)
    if column is None or not isinstance(tried, LawFit):
        return {}
    beyond = np.log(trial.held.frame[column].to_numpy(float) / tried.ranges_[column][1])
    far = pd.Series(beyond, index=trial.held.frame["row"])[beyond > NEAR_BEYOND]
    errors = tried.predict(trial.held, fit.targets_).dropna(subset="observed")
    errors = errors[errors["row"].isin(far.index)]
    if errors.empty:
        return {}
    off = np.log(errors["predicted"] / errors["observed"]) / errors["row"].map(far)
    size = (pd.Series(off) ** 2).groupby(errors["target"]).mean() ** 0.5
    distance = float(np.sqrt((1 / far**2).mean()) ** -1)
    names = list(size.index)
    noise = np.array([relative_noise(fit, name, errors) for name in names])
    found = reach_of(np.asarray(size.to_numpy(float) * distance, float), noise, distance)
    return {name: {column: float(value)} for name, value in zip(names, found, strict=True)}


def relative_noise(fit: LawFit, target: str, errors: pd.DataFrame) -> float:
    """Return the sd of single runs around a law, relative to their losses."""
    sd = float(np.std(fit.target(target).noise))
    return sd if fit.residuals == "log" else sd / float(errors.loc[errors["target"] == target, "observed"].mean())


def _n_free(name: str, k: int) -> float:
    return float("inf") if name == TREES else float(get_law(name).n_free(k))
