"""Bayesian experimental design: choose the next runs greedily, by how much each narrows a decision per FLOP.

`mixlaw.advice.decision` says what is uncertain, `mixlaw.advice.posterior` what a run tells about it. Runs with phases
share the tokens of their first phase: a run trains only those that no earlier run with the same beginning has trained.

Legend of shapes: b parameter vectors, p parameters, c candidate runs of m rows each, k domains.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.advice.constraints import Question
from mixlaw.advice.decision import Decision
from mixlaw.advice.posterior import Points
from mixlaw.counts import flops
from mixlaw.errors import ConfigError, FitError
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.jacobian import Array
from mixlaw.tables.table import Table

SAME_TOKENS, SAME_WEIGHT, SAME_SWITCH = 0.05, 0.003, 0.01  # differences of equal runs: log N and log D, weights, shares


@dataclass
class Proposal:
    """The chosen runs, in the order of the choice.

    Attributes
    ----------
    runs : rows of the candidates, with `sd_before` and `sd_after` [nats]: sd of the loss differences between
        contenders before and after each run, given the runs above it; `flops` counts what the run trains itself
    contenders : (q, k) mixtures that may be optimal
    best : (k,) the mixture that would be recommended now; of phases, the point (P k,) of `PhasedObjective`
    ends : where the phases of the big run end
    question : the big run, with the limits that its phases have
    """

    runs: pd.DataFrame
    contenders: Array
    best: Array
    ends: tuple[float, ...] = (1.0,)
    question: Question | None = None


def next_runs(
    laws: FittedLaws,
    question: Question,
    table: Table,
    candidates: pd.DataFrame,
    count: int,
    points: Points = (7, 1.3),
    by: str = "flops",
) -> Proposal:
    """Choose greedily the runs that reduce the uncertainty of the big run's mixture most.

    Parameters
    ----------
    laws : fitted laws; the chosen one is used
    question : the big run and the importance of its targets
    table : the runs that the laws were fitted to
    candidates, count, by : as in `choose`

    Raises
    ------
    ConfigError
        If there are fewer candidates than `count`.
    """
    return choose(Decision(laws.best, question, laws.sizes, table, points), candidates, count, by)


def choose(decision: Decision, candidates: pd.DataFrame, count: int, by: str = "flops") -> Proposal:
    """Choose greedily the runs that reduce the uncertainty of a decision most.

    Parameters
    ----------
    decision : it is conditioned on the chosen runs
    candidates : n_params, n_tokens, flops and weight_<domain> of runs that could be trained, those with phases as in
        `mixlaw.advice.phase_candidates`; duplicates, and runs that the decision's table has, are left out
    count : number of runs to choose
    by : "flops": variance reduction per FLOP; "runs": variance reduction per run, whatever it costs

    Raises
    ------
    ConfigError
        If there are fewer candidates than `count`.
    """
    domains = decision.table.domains
    offered = candidates[~trained(candidates, decision.table)].sort_values("flops", kind="stable")
    offered = offered[~pd.DataFrame(_identity(offered, domains)).duplicated().to_numpy()].reset_index(drop=True)
    if count > len(offered):
        raise ConfigError(f"cannot choose {count} runs from {len(offered)} candidates: ask for fewer or offer more")
    offers, chosen, trail, before = decision.whitened(offered), list[pd.Series](), [], decision.sd()
    open_ = np.ones(len(offered), bool)
    for _ in range(count):
        cost = offered["flops"].to_numpy(float) if by == "flops" else np.ones(len(offered))
        best = _most_informative(decision, offers, cost, open_)
        open_[best] = False
        for part, offer in zip(decision.parts, offers, strict=True):
            part.update(offer[:, :, best])
        chosen.append(offered.iloc[best])
        trail.append((before, before := decision.sd()))
        cheaper = branching_from(offered, best, domains)
        changed = np.flatnonzero((cheaper["flops"] < offered["flops"]).to_numpy() & open_)
        offered = cheaper
        if len(changed):
            for offer, new in zip(offers, decision.whitened(offered.iloc[changed]), strict=True):
                offer[:, :, changed] = new
    picked = pd.DataFrame(chosen).reset_index(drop=True).infer_objects()
    picked[["sd_before", "sd_after"]] = trail
    return Proposal(picked, decision.contenders, decision.best, decision.ends, decision.objective.question)


def _most_informative(decision: Decision, offers: Sequence[Array], cost: Array, allowed: NDArray[np.bool_]) -> int:
    """Return the allowed candidate with the largest reduction of variance per cost (c,)."""
    gain = sum(part.gain(offer) for part, offer in zip(decision.parts, offers, strict=True)) / cost
    if not np.isfinite(gain).all():
        raise FitError("the information gain of the candidates is not finite: check the laws' parameters, or fit again")
    return int(np.argmax(np.where(allowed, gain, -np.inf)))


def branching_from(runs: pd.DataFrame, trunk: int, domains: Sequence[str]) -> pd.DataFrame:
    """Return runs, with `n_taken` and `flops` of those that have their beginning in common with one of them.

    Parameters
    ----------
    runs : candidates, see `choose`
    trunk : index of the run that will be trained; it keeps a checkpoint where others leave it
    """
    if "until@1" not in runs:
        return runs
    begin = np.hstack([runs[["n_params", "n_tokens"]].to_numpy(float), _mixtures(runs, domains)[:, 0]])
    same, until = (begin == begin[trunk]).all(1), runs["until@1"].fillna(1.0).to_numpy(float)
    same[trunk] = False
    shared = np.where(same, np.minimum(until, until[trunk]), 0.0) * runs["n_tokens"].to_numpy(float)
    taken = np.maximum(runs["n_taken"].to_numpy(float), shared)
    rest = flops(runs["n_params"].to_numpy(float), runs["n_tokens"].to_numpy(float) - taken)
    return runs.assign(n_taken=taken, flops=np.where(shared > 0, rest, runs["flops"]))


def trained(candidates: pd.DataFrame, table: Table) -> NDArray[np.bool_]:
    """Return (c,) whether a table has the run already: N and D to 5 % (steps are whole), weights to 0.003."""
    last = table.frame.sort_values("n_tokens").groupby("run_id").tail(1)
    asked = {c.removeprefix("requested_"): c for c in last.columns if c.startswith("requested_")}
    last = last.assign(**{f"weight_{name}": last[column].to_numpy() for name, column in asked.items()})
    own, there = _identity(candidates, table.domains), _identity(last, table.domains)
    near = np.ones((len(candidates), len(last)), bool)
    for column, within in zip(range(own.shape[1]), _tolerances(own.shape[1]), strict=True):
        near &= np.abs(np.subtract.outer(own[:, column], there[:, column])) < within
    return np.array([bool(row.any()) for row in near], bool)


def _identity(runs: pd.DataFrame, domains: Sequence[str]) -> Array:
    """Return (c, 3 + 2k) log N, log D, the end of the first phase, and the weights of two phases."""
    until = runs["until@1"].fillna(1.0).to_numpy(float) if "until@1" in runs else np.ones(len(runs))
    logs = np.log(runs[["n_params", "n_tokens"]].to_numpy(float))
    return np.hstack([logs, until[:, None], _mixtures(runs, domains).reshape(len(runs), -1)])


def _tolerances(count: int) -> Array:
    return np.array([SAME_TOKENS, SAME_TOKENS, SAME_SWITCH, *[SAME_WEIGHT] * (count - 3)])


def _mixtures(runs: pd.DataFrame, domains: Sequence[str]) -> Array:
    """Return (c, 2, k) the mixtures of the first and second phase, equal for runs on one mixture."""
    whole = runs[[f"weight_{d}" for d in domains]].to_numpy(float)
    if "until@2" not in runs:
        return np.stack([whole, whole], 1)
    phases = [runs[[f"weight_{d}@{p}" for d in domains]].to_numpy(float) for p in (1, 2)]
    return np.stack([np.where(np.isnan(h), whole, h) for h in phases], 1)
