"""Design of a first study whose runs change their mixture: static runs, and second phases that branch from them.

A run with two phases starts from a checkpoint of the static run on its first mixture, its trunk, so it costs its second
phase only. What identifies the law of phases (`mixlaw.laws.exposure`):

* the same two mixtures in both orders: the mixture of the whole run is nearly the same, so their difference shows the
  recency r;
* mixtures that lie far apart: the effect of phases grows with their distance, and against static runs on mixtures
  between them it shows the interleaving s;
* several switches: with tokens of weight t^r, the information per FLOP on log r of a switch at t is proportional to
  (r t^r log t)^2 / (1 - t), at r = 1 largest at a half, at 3/4 four fifths of that, at 0.9 two fifths.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from mixlaw.advice.design import (
    Size,
    as_runs,
    first_counts,
    fitted_runs,
    held_out_count,
    least_first,
    seed_runs,
    spread,
)
from mixlaw.counts import flops
from mixlaw.errors import ConfigError
from mixlaw.laws.jacobian import Array
from mixlaw.mixture import Mixture

SWITCHES = (0.5, 0.75)  # shares of a run's tokens
PAIRS = 2  # second phases per static run


def plan_phase_study(
    domains: Sequence[str],
    sizes: Sequence[Size],
    budget: float,
    switches: Sequence[float] = SWITCHES,
    natural: Mixture | None = None,
    floor: float = 0.01,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the runs of a study with two phases that costs about `budget` FLOPs, static runs first.

    Static runs are those of `plan_study`, fewer of them. Each is the trunk of `PAIRS` second phases: half of the pairs
    are couples of static mixtures that lie far apart, in both orders; the others lead to new mixtures. Held-out runs
    have unseen mixtures and switches at the largest size.

    Parameters
    ----------
    budget : FLOPs that are trained, with held-out runs and seeds
    switches : shares of the tokens at which the second phase begins, in (0, 1)
    domains, sizes, natural, floor, seed : as for `plan_study`

    Returns
    -------
    DataFrame as that of `plan_study` (`flops`: what the run trains itself; `weight_<domain>`: of the whole run), and
    weight_<domain>@p and until@p of phases p, empty for static runs

    Raises
    ------
    ConfigError
        If the budget is below that of the smallest useful study (the error gives it), or sizes and domains are too few.
    """
    sizes = sorted(sizes, key=lambda s: s.n_params)

    def runs(first: int) -> pd.DataFrame:
        return _runs(domains, sizes, first_counts(len(sizes), first), switches, natural, floor, seed)

    first = least_first(domains, sizes, natural)
    if (needed := float(runs(first)["flops"].sum())) > budget:
        raise ConfigError(
            f"the smallest study of these sizes with two phases takes {needed:.3g} FLOPs; the budget is {budget:.3g}: "
            "use smaller sizes, fewer tokens or a larger budget, or plan without --phases"
        )
    found, step = runs(first), 1
    while step:
        more = runs(first + step)
        if float(more["flops"].sum()) <= budget:
            found, first, step = more, first + step, 2 * step
        else:
            step //= 2
    return found


def _runs(
    domains: Sequence[str],
    sizes: Sequence[Size],
    counts: Sequence[int],
    switches: Sequence[float],
    natural: Mixture | None,
    floor: float,
    seed: int,
) -> pd.DataFrame:
    static = fitted_runs(domains, sizes, counts, natural, floor, seed)
    used = len(static)
    parts = [static]
    for number, (_, trunks) in enumerate(static.groupby("model", sort=False)):
        new = spread(len(domains), PAIRS * len(trunks), floor, seed, used)
        used += len(new)
        parts.append(pairs_of(trunks, new, switches, domains, number))
    parts.append(seed_runs(domains, sizes))
    held = as_runs("heldout", sizes[-1], spread(len(domains), _n_held_out(sizes, counts), floor, seed, used), domains)
    new = spread(len(domains), PAIRS * len(held), floor, seed, used + len(held))
    parts += [held, pairs_of(held, new, between(switches), domains)]
    return pd.concat(parts, ignore_index=True)


def _n_held_out(sizes: Sequence[Size], counts: Sequence[int]) -> int:
    """Return the number of held-out static runs, each with `PAIRS` second phases of about a third of a run."""
    return max(2, held_out_count(sizes, counts) // 2)


def between(switches: Sequence[float]) -> list[float]:
    """Return switches halfway from each to the next, and from the last to the end of the run.

    >>> between([0.75, 0.5])
    [0.625, 0.875]
    """
    return [round((a + b) / 2, 4) for a, b in pairwise((*sorted(switches), 1.0))]


def pairs_of(
    trunks: pd.DataFrame, new: Array, switches: Sequence[float], domains: Sequence[str], turn: int = 0
) -> pd.DataFrame:
    """Return `PAIRS` second phases per static run of one size.

    Parameters
    ----------
    trunks : static runs of one size
    new : (m, k) mixtures for second phases, at least one for each pair that is not a couple in both orders
    switches : used in turn
    turn : place in `switches` at which to begin
    """
    h = trunks[[f"weight_{d}" for d in domains]].to_numpy(float)
    n_tokens = trunks["n_tokens"].to_numpy(float)
    both = couples(h)
    pairs = [(h[a], h[b], min(n_tokens[i], n_tokens[j])) for i, j in both for a, b in ((i, j), (j, i))]
    turns = [turn + number // 2 for number in range(len(pairs))]
    trunk = np.resize(np.arange(len(h)), PAIRS * len(h) - len(pairs))
    far = linear_sum_assignment(distances(h[trunk], new), maximize=True)[1]
    pairs += [(h[i], new[j], n_tokens[i]) for i, j in zip(trunk, far, strict=True)]
    turns += [turn + number for number in range(len(trunk))]
    first, second, length = (np.array(column) for column in zip(*pairs, strict=True))
    ends = np.array([switches[t % len(switches)] for t in turns])
    size = Size(trunks["model"].iloc[0], trunks["n_params"].iloc[0], 1.0)
    return as_pairs(trunks["role"].iloc[0], size, first, second, ends, length, domains)


def as_pairs(
    role: str,
    size: Size,
    first: Array,
    second: Array,
    switch: Array,
    n_tokens: Array,
    domains: Sequence[str],
) -> pd.DataFrame:
    """Return runs of one size that branch from static runs: of D (n,), on mixtures (n, k) before and after a switch."""
    first, second = (as_runs(role, size, h, domains).filter(like="weight_").to_numpy() for h in (first, second))
    mean = switch[:, None] * first + (1 - switch)[:, None] * second
    known = {"role": role, "model": size.name, "n_params": size.n_params, "n_tokens": n_tokens, "seed": 0}
    cells: dict[str, Any] = {f"weight_{d}": mean[:, i] for i, d in enumerate(domains)}
    for phase, (weights, end) in enumerate(((first, switch), (second, 1.0)), 1):
        cells |= {f"weight_{d}@{phase}": weights[:, i] for i, d in enumerate(domains)} | {f"until@{phase}": end}
    trains = {"n_taken": switch * n_tokens, "flops": flops(size.n_params, (1 - switch) * n_tokens)}
    return pd.DataFrame(known | trains | cells)


def distances(a: Array, b: Array) -> Array:
    """Return (n, m) the total variation distances of mixtures (n, k) and (m, k)."""
    apart: Array = np.abs(a[:, None] - b).sum(2) / 2
    return apart


def couples(h: Array) -> list[tuple[int, int]]:
    """Return disjoint couples of mixtures (n, k), the two farthest apart first; one mixture is left if n is odd."""
    apart = distances(h, h)
    np.fill_diagonal(apart, -1.0)
    found = []
    for _ in range(len(h) // 2):
        i, j = divmod(int(apart.argmax()), len(h))
        found.append((i, j))
        apart[[i, j]], apart[:, [i, j]] = -1.0, -1.0
    return found
