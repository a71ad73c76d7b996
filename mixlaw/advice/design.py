"""Which runs a study should have: mixtures that fill the simplex, several sizes, within a budget.

What is known about such designs (simulated studies of this project's own; Liu et al. 2024, arXiv 2407.01492, section 3,
for mixtures near faces): filling the simplex evenly is nearly as good as the best design for known parameters; weights
must come near zero, because only there the laws' powers are seen; one size leaves the exponent of N unknown; D must
vary beside N. Once runs were fitted, `mixlaw.advice.next_runs.next_runs` knows better where to look.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import qmc

from mixlaw.counts import flops
from mixlaw.errors import ConfigError
from mixlaw.laws.jacobian import Array
from mixlaw.mixture import Mixture, round_to_sum

DIGITS = 3  # weights are multiples of 0.001, so that a study's file shows what is trained
D_FACTORS = (1.0, 0.5, 2.0)  # tokens of a size's runs, in turns, so that D varies beside N
SHRINK = 0.5  # mixtures of a size, relative to the next smaller one
LEAST = 3  # mixtures of every size
HELD_OUT = 0.1  # as many runs besides, relative to the fitted ones, at the largest size and never fitted,
HELD_OUT_FLOPS = 1 / 3  # but not so many that they take more than this, relative to the fitted ones
N_SEEDS = 3  # runs beside the first that repeat the uniform mixture, at the middle size: the noise floor


@dataclass(frozen=True)
class Size:
    """A model that a study trains: its name, N, and the D that its runs have on average, about."""

    name: str
    n_params: float
    n_tokens: float


def spread(k: int, count: int, floor: float = 0.01, seed: int = 0, skip: int = 0) -> Array:
    """Return (count, k) mixtures that fill the simplex evenly, every weight at least `floor`.

    Points of a scrambled Sobol sequence, u in (0, 1)^k, become -log u over their sum, which is uniform on the simplex
    where u is uniform on the cube.

    Parameters
    ----------
    skip : how many points of the same sequence were used before

    Raises
    ------
    ConfigError
        If k weights of at least `floor` cannot sum to 1.
    """
    if not 0 <= floor * k < 1:
        raise ConfigError(f"the floor of {k} weights is {floor:g}: it must be at least 0 and below {1 / k:.3g}")
    points = qmc.Sobol(k, seed=seed).random_base2(int(np.ceil(np.log2(max(skip + count, 2)))))[skip : skip + count]
    exponential = -np.log(np.clip(points, 1e-12, 1 - 1e-12))
    filled: Array = floor + (1 - k * floor) * exponential / exponential.sum(1, keepdims=True)
    return filled


def anchors(k: int, natural: Sequence[float] = ()) -> Array:
    """Return the uniform mixture, the natural one where it is known, and the k corners with exact zeros."""
    rows = [np.full((1, k), 1 / k), np.eye(k)]
    if len(natural):
        rows.insert(1, np.array([natural]))
    return np.vstack(rows)


def plan_study(
    domains: Sequence[str],
    sizes: Sequence[Size],
    budget: float,
    natural: Mixture | None = None,
    floor: float = 0.01,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the runs of a study whose training takes about `budget` FLOPs, 6 N D each.

    The smallest size has the corners and most of the mixtures, each larger one half as many; every size has the uniform
    mixture (and the natural one), and beside them mixtures of its own, because new mixtures tell more than the same
    ones again.

    Parameters
    ----------
    domains : the k domains
    sizes : at least three, D being what a run at the factor 1 has
    budget : FLOPs for all runs together, held-out ones and seeds too
    natural : the mixture of the data
    floor : least weight of mixtures that are no corners; 0.01 to 0.02 shows the powers, 0.1 hides them
    seed : of the sequence of mixtures

    Returns
    -------
    DataFrame of role (fit, seeds, heldout), model, n_params, n_tokens, seed, flops and weight_<domain>

    Raises
    ------
    ConfigError
        If there are fewer than two domains or three sizes, or the budget does not pay for the least that a fit needs
        (saying how much would).
    """
    sizes = sorted(sizes, key=lambda s: s.n_params)
    k = len(domains)
    n_sizes = len({s.n_params for s in sizes})
    if k < 2 or n_sizes < 3:
        raise ConfigError(f"a study needs at least 2 domains and 3 numbers of parameters, not {k} and {n_sizes}")
    fixed = anchors(k, [natural[d] for d in domains] if natural else [])
    counts = _affordable(sizes, budget, max(12, 3 * k), len(fixed))
    parts, used = [], 0
    for i, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        own = fixed if i == 0 else fixed[: len(fixed) - k]
        n_new = count - len(own)
        mixtures = np.vstack([own, spread(k, n_new, floor, seed, used)])
        used += n_new
        parts.append(as_runs("fit", size, mixtures, domains, D_FACTORS))
    middle = sizes[len(sizes) // 2]
    repeated = np.tile(fixed[:1], (N_SEEDS, 1))
    parts.append(as_runs("seeds", middle, repeated, domains).assign(seed=range(1, N_SEEDS + 1)))
    n_held_out = _n_held_out(sizes, counts)
    held = as_runs("heldout", sizes[-1], spread(k, 4 * n_held_out, floor, seed, used), domains)
    weights = [f"weight_{d}" for d in domains]
    seen = pd.MultiIndex.from_frame(pd.concat(parts)[weights])
    unseen = held[~pd.MultiIndex.from_frame(held[weights]).isin(seen)]
    return pd.concat([*parts, unseen.head(n_held_out)], ignore_index=True)


def _flops(size: Size, factor: float = 1.0) -> float:
    return flops(size.n_params, size.n_tokens) * factor


def _fitted_flops(sizes: Sequence[Size], counts: Sequence[int]) -> float:
    means = (float(np.resize(D_FACTORS, n).mean()) for n in counts)
    return sum(n * _flops(size, mean) for size, n, mean in zip(sizes, counts, means, strict=True))


def _n_held_out(sizes: Sequence[Size], counts: Sequence[int]) -> int:
    affordable = HELD_OUT_FLOPS * _fitted_flops(sizes, counts) / _flops(sizes[-1])
    return max(2, int(min(np.ceil(HELD_OUT * sum(counts)), affordable)))


def _affordable(sizes: Sequence[Size], budget: float, least: int, n_fixed: int) -> list[int]:
    """Return how many mixtures each size has, the smallest size at least `least` and as many as the budget pays for."""

    def counts(first: int) -> list[int]:
        return [first if i == 0 else max(LEAST, round(first * SHRINK**i)) for i in range(len(sizes))]

    def total(found: Sequence[int]) -> float:
        extra = N_SEEDS * _flops(sizes[len(sizes) // 2]) + _n_held_out(sizes, found) * _flops(sizes[-1])
        return _fitted_flops(sizes, found) + extra

    first = max(least, n_fixed + 1)
    needed = total(counts(first))
    if needed > budget:
        raise ConfigError(
            f"the least study of these sizes, {sum(counts(first))} fitted runs, takes {needed:.3g} FLOPs, and the "
            f"budget is {budget:.3g}: take smaller sizes, fewer tokens, or more of it"
        )
    while total(counts(first + 1)) <= budget and first < 10_000:
        first += 1
    return counts(first)


def as_runs(
    role: str, size: Size, mixtures: Array, domains: Sequence[str], factors: Sequence[float] = (1.0,)
) -> pd.DataFrame:
    """Return runs of one size on some mixtures (n, k), their weights rounded so that they still sum to 1."""
    units = np.array([round_to_sum(h, 10**DIGITS) for h in mixtures]) / 10**DIGITS
    n_tokens = size.n_tokens * np.resize(factors, len(mixtures))
    known = {"role": role, "model": size.name, "n_params": size.n_params, "n_tokens": n_tokens, "seed": 0}
    weights = {f"weight_{d}": units[:, i] for i, d in enumerate(domains)}
    return pd.DataFrame(known | {"flops": flops(size.n_params, n_tokens)} | weights)


def candidates(
    domains: Sequence[str], sizes: Sequence[Size], near: Array, floor: float = 0.01, seed: int = 1
) -> pd.DataFrame:
    """Return runs that could be trained next: mixtures all over the simplex, its corners, and around some mixtures.

    Parameters
    ----------
    sizes : each with every D that a run may have
    near : (q, k) mixtures that may be the best one: they, and what lies halfway to others, are candidates
    """
    k = len(domains)
    halfway = 0.5 * near + 0.5 * spread(k, len(near), floor, seed + 1)
    mixtures = np.vstack([anchors(k), spread(k, 128, floor, seed), near, halfway])
    runs = [as_runs("next", size, mixtures.round(DIGITS - 1), domains) for size in sizes]
    return pd.concat(runs).drop_duplicates(ignore_index=True)  # rounding brings some together


def epochs(runs: pd.DataFrame, available: Mapping[str, float]) -> pd.DataFrame:
    """Return, per domain: tokens available, the most and the mean tokens that a run takes, and the most epochs."""
    rows = []
    for domain, tokens in available.items():
        taken = runs[f"weight_{domain}"] * runs["n_tokens"]
        rows.append({"domain": domain, "available": tokens, "mean": taken.mean(), "most": taken.max(),
                     "epochs": taken.max() / max(tokens, 1.0)})  # fmt: skip
    return pd.DataFrame(rows)
