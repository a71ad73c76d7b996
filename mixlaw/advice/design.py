"""Design of a first study: space-filling mixtures at several sizes, within a budget.

Our simulated studies (and, for mixtures near faces, Liu et al. 2024, arXiv 2407.01492, section 3) show: a space-filling
design is nearly as good as the optimal design for known parameters; weights must come near zero, because the laws'
exponents are identified only there; one size does not identify the exponent of N; D must vary independently of N. Once
runs are fitted, `mixlaw.advice.next_runs.next_runs` chooses better.
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

DIGITS = 3  # weights are multiples of 0.001, so that the study's file has the exact values
D_FACTORS = (1.0, 0.5, 2.0)  # of the tokens of a size's runs, in turn, so that D varies independently of N
SHRINK = 0.5  # number of mixtures of a size, relative to the next smaller size
LEAST = 3  # mixtures per size
HELD_OUT = 0.1  # number of held-out runs at the largest size, relative to the fitted runs
HELD_OUT_FLOPS = 1 / 3  # their maximum cost, relative to the fitted runs
N_SEEDS = 3  # repeats of the uniform mixture at the middle size, which measure seed noise


@dataclass(frozen=True)
class Size:
    """A model of a study: its name, N, and the D of its runs before the factors `D_FACTORS`."""

    name: str
    n_params: float
    n_tokens: float


def spread(k: int, count: int, floor: float = 0.01, seed: int = 0, skip: int = 0) -> Array:
    """Return (count, k) space-filling mixtures, every weight at least `floor`.

    A point u of a scrambled Sobol sequence is mapped to -log u over its sum, which is uniform on the simplex if u is
    uniform on the unit cube.

    Parameters
    ----------
    skip : number of points of the sequence to skip

    Raises
    ------
    ConfigError
        If k weights of at least `floor` cannot sum to 1.
    """
    if not 0 <= floor * k < 1:
        raise ConfigError(f"the floor of {k} weights is {floor:g}, but must be at least 0 and below {1 / k:.3g}")
    points = qmc.Sobol(k, seed=seed).random_base2(int(np.ceil(np.log2(max(skip + count, 2)))))[skip : skip + count]
    exponential = -np.log(np.clip(points, 1e-12, 1 - 1e-12))
    filled: Array = floor + (1 - k * floor) * exponential / exponential.sum(1, keepdims=True)
    return filled


def anchors(k: int, natural: Sequence[float] = ()) -> Array:
    """Return the uniform mixture, the natural one if it is given, and the k corners (exact zeros)."""
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
    """Return the runs of a study that costs about `budget` FLOPs, at 6 N D per run.

    The smallest size has the corners and the most mixtures, each larger size half as many. Every size has the uniform
    mixture (and the natural one); its other mixtures are its own, because new mixtures add more information than
    repeated ones.

    Parameters
    ----------
    domains : the k domains
    sizes : at least three; D is that of a run with factor 1
    budget : FLOPs of all runs, including held-out runs and seeds
    natural : the mixture of the data
    floor : minimum weight except in corners; 0.01 to 0.02 identifies the exponents, 0.1 does not
    seed : of the Sobol sequence

    Returns
    -------
    DataFrame of role (fit, seeds, heldout), model, n_params, n_tokens, seed, flops and weight_<domain>

    Raises
    ------
    ConfigError
        If there are fewer than two domains or three sizes, or the budget is below that of the smallest useful study
        (the error gives it).
    """
    sizes = sorted(sizes, key=lambda s: s.n_params)
    k = len(domains)
    counts = _affordable(sizes, budget, least_first(domains, sizes, natural))
    parts = [fitted_runs(domains, sizes, counts, natural, floor, seed), seed_runs(domains, sizes)]
    n_held_out, used = held_out_count(sizes, counts), sum(counts) - k - len(sizes) * (1 + bool(natural))
    held = as_runs("heldout", sizes[-1], spread(k, 4 * n_held_out, floor, seed, used), domains)
    weights = [f"weight_{d}" for d in domains]
    seen = pd.MultiIndex.from_frame(pd.concat(parts)[weights])
    unseen = held[~pd.MultiIndex.from_frame(held[weights]).isin(seen)]
    return pd.concat([*parts, unseen.head(n_held_out)], ignore_index=True)


def least_first(domains: Sequence[str], sizes: Sequence[Size], natural: Mixture | None) -> int:
    """Return the least number of mixtures of the smallest size.

    Raises
    ------
    ConfigError
        If there are fewer than two domains or three sizes.
    """
    k, n_sizes = len(domains), len({s.n_params for s in sizes})
    if k < 2 or n_sizes < 3:
        raise ConfigError(f"a study needs at least 2 domains and 3 numbers of parameters, not {k} and {n_sizes}")
    return max(12, 3 * k, k + 1 + bool(natural) + 1)


def fitted_runs(
    domains: Sequence[str],
    sizes: Sequence[Size],
    counts: Sequence[int],
    natural: Mixture | None,
    floor: float,
    seed: int,
) -> pd.DataFrame:
    """Return the runs to fit, `counts` of each size, smallest first: fixed mixtures, then space-filling ones."""
    k, used, parts = len(domains), 0, []
    fixed = anchors(k, [natural[d] for d in domains] if natural else [])
    for i, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        own = fixed if i == 0 else fixed[: len(fixed) - k]
        n_new = count - len(own)
        mixtures = np.vstack([own, spread(k, n_new, floor, seed, used)])
        used += n_new
        parts.append(as_runs("fit", size, mixtures, domains, D_FACTORS))
    return pd.concat(parts, ignore_index=True)


def seed_runs(domains: Sequence[str], sizes: Sequence[Size]) -> pd.DataFrame:
    """Return repeats of the uniform mixture at the middle size, with other seeds."""
    repeated = np.tile(anchors(len(domains))[:1], (N_SEEDS, 1))
    return as_runs("seeds", sizes[len(sizes) // 2], repeated, domains).assign(seed=range(1, N_SEEDS + 1))


def _flops(size: Size, factor: float = 1.0) -> float:
    return flops(size.n_params, size.n_tokens) * factor


def _fitted_flops(sizes: Sequence[Size], counts: Sequence[int]) -> float:
    means = (float(np.resize(D_FACTORS, n).mean()) for n in counts)
    return sum(n * _flops(size, mean) for size, n, mean in zip(sizes, counts, means, strict=True))


def held_out_count(sizes: Sequence[Size], counts: Sequence[int]) -> int:
    """Return the number of held-out runs at the largest size."""
    affordable = HELD_OUT_FLOPS * _fitted_flops(sizes, counts) / _flops(sizes[-1])
    return max(2, int(min(np.ceil(HELD_OUT * sum(counts)), affordable)))


def first_counts(n_sizes: int, first: int) -> list[int]:
    """Return the number of mixtures per size, given that of the smallest one."""
    return [first if i == 0 else max(LEAST, round(first * SHRINK**i)) for i in range(n_sizes)]


def _affordable(sizes: Sequence[Size], budget: float, first: int) -> list[int]:
    """Return the number of mixtures per size: as many as the budget allows, at least `first` for the smallest one."""

    def total(found: Sequence[int]) -> float:
        extra = N_SEEDS * _flops(sizes[len(sizes) // 2]) + held_out_count(sizes, found) * _flops(sizes[-1])
        return _fitted_flops(sizes, found) + extra

    counts = first_counts(len(sizes), first)
    needed = total(counts)
    if needed > budget:
        raise ConfigError(
            f"the smallest study of these sizes has {sum(counts)} fitted runs and takes {needed:.3g} FLOPs; the "
            f"budget is {budget:.3g}: use smaller sizes, fewer tokens or a larger budget"
        )
    while total(first_counts(len(sizes), first + 1)) <= budget and first < 10_000:
        first += 1
    return first_counts(len(sizes), first)


def as_runs(
    role: str, size: Size, mixtures: Array, domains: Sequence[str], factors: Sequence[float] = (1.0,)
) -> pd.DataFrame:
    """Return runs of one size on mixtures (n, k), with weights rounded so that they sum to 1."""
    units = np.array([round_to_sum(h, 10**DIGITS) for h in mixtures]) / 10**DIGITS
    n_tokens = size.n_tokens * np.resize(factors, len(mixtures))
    known = {"role": role, "model": size.name, "n_params": size.n_params, "n_tokens": n_tokens, "seed": 0}
    weights = {f"weight_{d}": units[:, i] for i, d in enumerate(domains)}
    return pd.DataFrame(known | {"flops": flops(size.n_params, n_tokens)} | weights)


def candidates(
    domains: Sequence[str], sizes: Sequence[Size], near: Array, floor: float = 0.01, seed: int = 1
) -> pd.DataFrame:
    """Return candidates for the next runs: space-filling mixtures, corners, and mixtures around given ones.

    Parameters
    ----------
    sizes : one entry per pair of N and D
    near : (q, k) mixtures that may be optimal; they and points halfway from them to others are candidates
    """
    k = len(domains)
    halfway = 0.5 * near + 0.5 * spread(k, len(near), floor, seed + 1)
    mixtures = np.vstack([anchors(k), spread(k, 128, floor, seed), near, halfway])
    runs = [as_runs("next", size, mixtures.round(DIGITS - 1), domains) for size in sizes]
    return pd.concat(runs).drop_duplicates(ignore_index=True)  # rounding makes some equal


def epochs(runs: pd.DataFrame, available: Mapping[str, float]) -> pd.DataFrame:
    """Return, per domain: available tokens, mean and maximum tokens of a run, and the maximum number of epochs."""
    rows = []
    for domain, tokens in available.items():
        taken = runs[f"weight_{domain}"] * runs["n_tokens"]
        row = {"domain": domain, "available": tokens, "mean": taken.mean(), "most": taken.max()}
        rows.append(row | {"epochs": taken.max() / max(tokens, 1.0)})
    return pd.DataFrame(rows)
