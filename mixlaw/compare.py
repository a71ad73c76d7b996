"""Which law to trust here: laws scored on the same held-out runs, one chosen by a stated rule, its intervals tried."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from mixlaw.errors import FitError
from mixlaw.fit import LawFit
from mixlaw.laws import get_law
from mixlaw.splits import KINDS, held_out
from mixlaw.support import check_support, distinct
from mixlaw.tables import Table
from mixlaw.trees import NAME as TREES
from mixlaw.trees import TreeFit

LEVEL = 0.9
WIDER = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0, 8.0)  # by which intervals are tried to be widened
NEARLY = 1.02  # laws whose errors are within this ratio are equal; the one with fewer parameters is chosen
Progress = Callable[[str], None]


@dataclass
class Trial:
    """Laws that were fitted to a part of a table.

    Attributes
    ----------
    kind : what was held out, see `mixlaw.splits.KINDS`
    held : the rows that were
    fits : law -> fit to the others
    refused : law -> why the rest of the table cannot support it
    """

    kind: str
    held: Table
    fits: dict[str, LawFit | TreeFit] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def scores(self) -> pd.DataFrame:
        """Return DataFrame of law, target, mre [%], mae [nats], bias [%], spearman, coverage [%], n and n_free."""
        k = len(self.held.domains)
        return pd.concat(
            [fit.score(self.held).assign(n_free=_n_free(name, k)) for name, fit in self.fits.items()], ignore_index=True
        )


def auto_laws(table: Table) -> list[str]:
    """Return the laws that `--law auto` chooses between: the paper's, in the form that the table's N and D allow.

    Raises
    ------
    FitError
        If the table supports none of them; why the last one is refused.
    """
    sizes, tokens, _ = distinct(table)
    if sizes > 1 and tokens > 1:
        names = ["additive", "joint"]
    else:
        names = ["additive-fixed-n"] if tokens > 1 else ["additive-fixed-nd"]
    reasons, fine = [], []
    for name in names:
        try:
            check_support(get_law(name), table)
            fine.append(name)
        except FitError as error:
            reasons.append(error)
    if not fine:
        raise reasons[0]
    return fine


def try_laws(
    table: Table,
    laws: Iterable[str],
    kind: str,
    targets: Iterable[str] = (),
    progress: Progress | None = None,
    **settings: Any,
) -> Trial:
    """Fit laws to a table without a part of it.

    Parameters
    ----------
    laws : names, of which "lightgbm" is RegMix's regression trees
    kind : scale, mixture or tokens
    settings : of every `LawFit`

    Raises
    ------
    FitError
        If the table has nothing to hold out, or the rest of it supports none of the laws.
    """
    held = held_out(table, kind)
    trial, wanted = Trial(kind, table.rows(held)), list(targets)
    for name in laws:
        fit = TreeFit() if name == TREES else LawFit(name, **settings)
        try:
            trial.fits[name] = fit.fit(table.rows(~held), wanted, progress)
        except FitError as error:
            trial.refused[name] = str(error)
    if not trial.fits:
        raise FitError(f"--holdout {kind}: no law can be fitted. {next(iter(trial.refused.values()), '')}")
    return trial


def choose(scores: pd.DataFrame, kind: str) -> tuple[str, str]:
    """Return the law to trust by its scores, and the sentence why.

    The lowest mean MRE over the targets that all of them predict wins; of laws within 2 % of it, the one with the
    fewest parameters.
    """
    predicted_by = scores.groupby("target")["law"].transform("nunique")
    if (predicted_by == scores["law"].nunique()).any():
        scores = scores[predicted_by == scores["law"].nunique()]
    means = scores.groupby("law", sort=False).agg(mre=("mre", "mean"), n_free=("n_free", "first"))
    near = means[means["mre"] <= means["mre"].min() * NEARLY]
    best = str(near["n_free"].idxmin())
    shown = ", ".join(f"{law} {mre:.2f} %" for law, mre in means["mre"].items())
    tie = f"; {best} has the fewest parameters of those within 2 % of the lowest" if len(near) > 1 else ""
    return best, f"lowest mean MRE on {KINDS[kind]}: {shown}{tie}"


def choose_law(trial: Trial | None, names: list[str], k: int) -> tuple[str, str]:
    """Choose between fitted laws; return the name and the sentence why.

    Laws that cannot recommend a mixture only compete among themselves.

    Parameters
    ----------
    trial : all of them without a part of the table, or None where nothing could be held out
    names : the laws that were fitted to the whole table
    k : number of domains
    """
    rivals = [name for name in names if get_law(name).mixes] or names
    if len(rivals) == 1:
        return rivals[0], "the only fitted law" + (" that depends on the mixture" if len(names) > 1 else "")
    tried = [name for name in rivals if trial and name in trial.fits]
    if not trial or not tried:
        return min(rivals, key=lambda name: _n_free(name, k)), "fewest parameters; too few runs to hold any out"
    scores = trial.scores()
    name, reason = choose(scores[scores["law"].isin(tried)], trial.kind)
    left = [f"{law} could not be tried ({trial.refused[law]})" for law in rivals if law in trial.refused]
    return name, "; ".join([reason, *left])


def widen(fit: LawFit, trial: Trial | None) -> str:
    """Widen a fit's intervals until they would have held nine in ten held-out losses; say what was done.

    All targets share one factor, because the held-out losses of one target miss together.
    """
    tried = trial.fits.get(fit.law) if trial else None
    if trial is None or not isinstance(tried, LawFit):
        return f"{fit.law} law: its intervals could not be tried on held-out runs"
    factor, share = WIDER[0], 0.0
    for factor in WIDER:
        for target in tried.targets_.values():
            target.widened = factor
        scores = tried.score(trial.held)
        share = float((scores["coverage"] * scores["n"]).sum() / scores["n"].sum() / 100)
        if share >= LEVEL:
            break
    for target in (*fit.targets_.values(), *tried.targets_.values()):
        target.widened = factor
    widened = "intervals were wide enough" if factor == WIDER[0] else f"intervals are widened by {factor:g}"
    return f"{fit.law} law: {widened}: {100 * share:.0f} % of the losses of {KINDS[trial.kind]} lie inside"


def _n_free(name: str, k: int) -> float:
    return float("inf") if name == TREES else float(get_law(name).n_free(k))
