"""Candidates for the next runs of a study whose runs change their mixture.

There are three kinds: static runs; second phases that branch from runs of the study, which cost their own tokens only;
and pairs whose first phase is new. What a new pair costs depends on the runs chosen before it: one with the same
beginning, static or a pair, is its trunk (`mixlaw.advice.next_runs.branching_from`).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from mixlaw.advice.design import Size, candidates
from mixlaw.advice.phase_design import as_pairs, distances
from mixlaw.counts import flops
from mixlaw.laws.jacobian import Array
from mixlaw.mixture import round_to_sum

FIRST, SECOND = 6, 8  # mixtures of new first phases, and of second phases beside the corners
LEAST_CHANGE = 0.05  # total variation distance of two phases; nearer ones say little about phases
DIGITS = 2  # of weights of mixtures near the recommended phases


def phase_candidates(
    domains: Sequence[str],
    sizes: Sequence[Size],
    contenders: Array,
    phases: Array,
    trunks: pd.DataFrame,
    switches: Sequence[float],
) -> pd.DataFrame:
    """Return candidates for the next runs, static runs first.

    Parameters
    ----------
    sizes : one entry per pair of N and D
    contenders : (q, k) mixtures that may be the best single one
    phases : (r, P, k) mixtures of phases that may be the best ones
    trunks : model, n_params, n_tokens, weight_<domain> of static runs of the study, and until@1: a share of their
        tokens at which they have a checkpoint
    switches : shares of the tokens at which new first phases end

    Returns
    -------
    DataFrame as that of `plan_phase_study`, and n_taken: the tokens that a run of the study trains for it
    """
    first, last = phases[:, 0], phases[:, -1]
    begins = spread_out(np.vstack([first, last]), FIRST)
    seconds = np.unique(np.vstack([np.eye(len(domains)), spread_out(np.vstack([last, first]), SECOND)]), axis=0)
    static = candidates(domains, sizes, np.vstack([contenders, begins])).assign(n_taken=0.0)
    new = [
        static[(static["model"] == size.name) & _is_among(static, begins, domains)].assign(**{"until@1": switch})
        for size in sizes
        for switch in switches
    ]
    whole = _pairs(pd.concat(new), seconds, domains).assign(n_taken=0.0)
    whole["flops"] = flops(whole["n_params"], whole["n_tokens"])
    parts = [static, _pairs(trunks, seconds, domains), whole]
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def _is_among(runs: pd.DataFrame, mixtures: Array, domains: Sequence[str]) -> Array:
    """Return (c,) whether the runs are on one of these mixtures (m, k)."""
    h = runs[[f"weight_{d}" for d in domains]].to_numpy(float)
    among: Array = np.isclose(h[:, None], mixtures, atol=1e-6).all(2).any(1)
    return among


def _pairs(trunks: pd.DataFrame, seconds: Array, domains: Sequence[str]) -> pd.DataFrame:
    """Return the pairs of every static run, up to its until@1, and every second mixture (m, k) that differs from it."""
    found = []
    for model, some in trunks.groupby("model", sort=False):
        h = some[[f"weight_{d}" for d in domains]].to_numpy(float)
        i, j = np.nonzero(distances(h, seconds) > LEAST_CHANGE)
        until, length = (some[column].to_numpy(float)[i] for column in ("until@1", "n_tokens"))
        size = Size(str(model), some["n_params"].iloc[0], 1.0)
        found.append(as_pairs("next", size, h[i], seconds[j], until, length, domains))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame()


def spread_out(mixtures: Array, count: int) -> Array:
    """Return at most `count` of some mixtures (m, k), rounded: the first, then always the one farthest from the others.

    >>> spread_out(np.array([[0.5, 0.5], [0.501, 0.499], [0.6, 0.4], [1.0, 0.0]]), 2)
    array([[0.5, 0.5],
           [1. , 0. ]])
    """
    rounded = np.array([round_to_sum(h, 10**DIGITS) for h in mixtures]) / 10**DIGITS
    chosen = [0]
    while len(chosen) < count:
        apart = distances(rounded, rounded[chosen]).min(1)
        if apart.max() == 0:
            break
        chosen.append(int(apart.argmax()))
    return rounded[chosen]
