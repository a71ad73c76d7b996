"""Measured compute-equivalents of a proof: the tokens at which a baseline's run reaches the loss of h*'s run.

A baseline's run that stays above that loss is extended beyond its end by the law's slope over D; one that falls below
it met it earlier, at the tokens between its two nearest evaluations.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mixlaw.advice.constraints import RECOMMENDED
from mixlaw.advice.equivalents import fallen, frontiers, more_tokens
from mixlaw.advice.gains import OBJECTIVE
from mixlaw.advice.objective import Objective
from mixlaw.advice.recommendation import Recommendation, records
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.jacobian import Array
from mixlaw.report.phase_text import PHASED
from mixlaw.report.proof import weighted_losses
from mixlaw.report.worth import times, with_interval
from mixlaw.tables.matching import on_mixture
from mixlaw.tables.table import Table

Rows = Sequence[Mapping[str, Any]]


def measured_factors(rows: Rows, laws: FittedLaws, answer: Recommendation, proof: Table) -> dict[str, float]:
    """Return, by baseline, the measured factor of tokens that it needs for the loss of the recommended mixture.

    Parameters
    ----------
    rows : of `mixlaw.report.proof.prove`
    laws : of the recommendation, for the slope over D beyond the end of a run
    proof : the runs, with their losses during training

    Returns
    -------
    baseline -> factor; empty without a run on the recommended mixture, or if the law does not depend on D
    """
    fit, measured = laws.fits.get(answer.law), {row["mixture"]: row for row in rows}
    if fit is None or "D" not in fit.law.uses or RECOMMENDED not in measured:
        return {}
    objective, goal, found = Objective(fit, answer.question, laws.sizes), measured[RECOMMENDED]["measured"], {}
    for name, row in measured.items():
        if name not in (RECOMMENDED, PHASED):
            found[name] = factor(_curve(answer, proof, row["weights"]), goal, _extended(objective, row["weights"]))
    return found


def _curve(answer: Recommendation, proof: Table, mixture: Mapping[str, float]) -> tuple[Array, Array]:
    """Return the tokens (n,) and the mean weighted losses (n,) of the runs on a mixture, in training order."""
    own = proof.frame[on_mixture(proof.frame, mixture)]
    losses = pd.Series(weighted_losses(answer, own), index=own.index).groupby(own["n_tokens"]).mean().sort_index()
    losses = losses[losses.index <= 1.01 * answer.question.n_tokens]
    return np.array(losses.index, float), np.array(losses, float)


def _extended(objective: Objective, mixture: Any) -> Callable[[float], float]:
    """Return the factor of tokens by which the law's loss on a mixture falls by a gain, beyond the big run."""
    scales = more_tokens(objective.question)
    loss = frontiers(objective, mixture, scales)[OBJECTIVE]
    return lambda gain: float(np.exp(fallen(loss, np.array([gain]), scales)[0]))


def factor(curve: tuple[Array, Array], goal: float, extended: Callable[[float], float]) -> float:
    """Return how many times its tokens a run needs to reach a loss.

    Parameters
    ----------
    curve : tokens (n,) and losses (n,) of the run
    extended : gain [nats] -> factor, where the run does not meet the goal
    """
    tokens, gap = curve[0], curve[1] - goal
    above = np.flatnonzero(gap > 0)
    if not len(above) or above[-1] == len(gap) - 1:
        return extended(float(gap[-1]))
    i = int(above[-1])
    part = gap[i] / (gap[i] - gap[i + 1])
    return float((tokens[i] / tokens[-1]) * (tokens[i + 1] / tokens[i]) ** part)


def worth_sentences(answer: Recommendation, measured: Mapping[str, float]) -> list[str]:
    """Return a sentence per baseline with its measured and its predicted factor of tokens."""
    rows = {(r["mixture"], r["target"], r["by"]): r for r in records(answer.equivalents)}
    predicted = {name: rows.get((name, OBJECTIVE, "tokens")) for name in measured}
    return [
        f"To reach the loss of h*, {name} needed {times(value)} the tokens"
        + (f"; predicted: {with_interval(row)}." if (row := predicted[name]) else ".")
        for name, value in measured.items()
    ]
