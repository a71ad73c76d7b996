"""What injected pretraining data does in the largest finetuning runs: predicted, recommended and measured."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mixlaw.advice.injection import Injection, Tuning, effects, injection
from mixlaw.fitting.fitted import FittedLaw
from mixlaw.tables.columns import LOSS, WEIGHT
from mixlaw.tables.factor_levels import levels
from mixlaw.tables.table import Table

BEFORE = "before_"
N_POINTS, LEAST_SHARE = 60, 0.001  # of curves: their number of shares, and the first one after 0


@dataclass(frozen=True)
class Amount:
    """Finetuning on one number of tokens.

    Attributes
    ----------
    tuning : the finetuning run
    found : the share that is recommended for it
    curve : predicted effects of shares, see `mixlaw.advice.injection.effects`
    measured : share, forgotten and cost of its runs; no cost where no run has the share 0
    """

    tuning: Tuning
    found: Injection
    curve: pd.DataFrame
    measured: pd.DataFrame


@dataclass(frozen=True)
class Finetuned:
    """Finetuning runs of one size.

    Attributes
    ----------
    amounts : by their number of tokens
    most : largest share of pretraining data in runs of any size
    unit : of the losses
    """

    amounts: list[Amount]
    most: float
    unit: str


def finetuned(fit: FittedLaw, tables: Sequence[Table], own: FittedLaw | None = None) -> Finetuned | None:
    """Return what the law says of the largest finetuning runs in some tables, and what these runs measured.

    The finetuning domain is the one with the largest mean weight; the other mean weights are the proportions of
    pretraining.

    Parameters
    ----------
    own : a law of the finetuning domain's loss, for the cost

    Returns
    -------
    None if the law does not predict forgetting, or no run has pretraining data.

    Raises
    ------
    RunLogError, FitError
        If a table has other domains than the law, or lacks the loss before finetuning.
    """
    if "before" not in fit.law.uses or not tables:
        return None
    for table in tables:
        fit.inputs(table, next(iter(fit.targets)))  # raises an error in words if the table lacks a column
    ends = pd.concat([table.frame.sort_values("n_tokens").groupby("run_id").tail(1) for table in tables])
    weights = {d: float(ends[WEIGHT + d].mean()) for d in fit.domains}
    domain = max(weights, key=lambda name: weights[name])
    old = {d: w / (1 - weights[domain]) for d, w in weights.items() if d != domain and w > 0}
    ends = ends.assign(share=1 - ends[WEIGHT + domain])
    if not set(old) & set(fit.targets):
        return None
    most = float(ends["share"].max())
    largest = ends[levels(ends["n_params"]) == levels(ends["n_params"]).max()]
    by_tokens = largest.groupby(levels(largest["n_tokens"]))
    amounts = [_amount(fit, own, runs, _tuning(fit, runs, domain, old), most) for _, runs in by_tokens]
    return Finetuned(amounts, most, fit.unit_of())


def _tuning(fit: FittedLaw, runs: pd.DataFrame, domain: str, old: dict[str, float]) -> Tuning:
    before = {t: float(runs[BEFORE + t].mean()) for t in old if t in fit.targets}
    return Tuning(float(runs["n_params"].max()), float(runs["n_tokens"].max()), domain, old, before)


def _amount(fit: FittedLaw, own: FittedLaw | None, runs: pd.DataFrame, tuning: Tuning, most: float) -> Amount:
    """Return the effects of shares up to the recommended one, or to the largest of the runs."""
    found = injection(fit, tuning, most, own=own)
    last = max(most, found.share if np.isfinite(found.share) else 0.0)
    shares = np.concatenate([[0.0], np.geomspace(LEAST_SHARE, last, N_POINTS)])
    return Amount(tuning, found, effects(fit, tuning, shares, own), _measured(runs, tuning))


def _measured(runs: pd.DataFrame, tuning: Tuning) -> pd.DataFrame:
    """Return the measured rise of the pretraining loss of runs, and of the finetuning loss over that at share 0."""
    weights = {t: tuning.pretraining[t] for t in tuning.before}
    rises = [w * (runs[LOSS + t] - runs[BEFORE + t]) for t, w in weights.items()]
    columns = {"share": runs["share"], "forgotten": sum(rises) / sum(weights.values())}
    losses = runs.get(LOSS + tuning.domain)
    if losses is not None and (plain := runs["share"] == 0).any():
        columns["cost"] = losses - losses[plain].mean()
    return pd.DataFrame(columns).sort_values("share")
