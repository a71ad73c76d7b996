"""Extrapolation warnings: how far a big run, or the rows of a table, lie outside the fitted runs.

`mixlaw recommend` and `mixlaw predict` share these rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.jacobian import Array
from mixlaw.laws.registry import get_law
from mixlaw.tables.columns import WEIGHT
from mixlaw.tables.factor_levels import SAME
from mixlaw.tables.table import Table

FAR = 10.0  # factor beyond the runs' range of N or D from which we warn: the form of the law dominates there
FAR_WEIGHT = 0.05  # distance of a weight from the runs' range beyond which we warn
FAR_MIXTURE = 0.25  # total variation distance from the nearest trained mixture beyond which we warn
SYMBOLS = {"n_params": "N", "n_tokens": "D"}
MOST_DOMAINS = 3  # named in one warning
AT_ONCE = 1000  # mixtures per block of distances, which bounds memory


@dataclass(frozen=True)
class Asked:
    """The points at which laws are evaluated: one big run with its h*, or the rows of a table.

    Attributes
    ----------
    n_params, n_tokens : (n,)
    mixtures : (n, k), in the order of the laws' domains; None if the law does not depend on them
    rows : whether these are rows of a table; warnings then give their number
    """

    n_params: Array
    n_tokens: Array
    mixtures: Array | None
    rows: bool = True

    def counted(self, which: NDArray[np.bool_]) -> str:
        """Return a text such as "2 of 4 rows"."""
        return f"{int(which.sum())} of {len(which)} rows"


def rows_of(laws: FittedLaws, law: str, table: Table) -> Asked:
    """Return the rows of a table at which a law is to be evaluated."""
    domains = laws.fits[law].domains
    mixed = get_law(law).mixes and len(domains) > 1
    mixtures = table.frame[[WEIGHT + d for d in domains]].to_numpy(float) if mixed else None
    return Asked(table.frame["n_params"].to_numpy(float), table.frame["n_tokens"].to_numpy(float), mixtures)


def far_warnings(laws: FittedLaws, law: str, asked: Asked) -> list[str]:
    """Return warnings about extrapolation: at most one each for N, D and mixtures, and those about weights.

    Parameters
    ----------
    law : name of the law that is evaluated
    """
    warnings = [w for column in SYMBOLS if (w := _of_scale(laws, law, asked, column))]
    if asked.mixtures is None or not len(laws.mixtures) or asked.mixtures.shape[1] < 2:
        return warnings
    return warnings + _of_weights(laws, laws.fits[law].domains, asked) + _of_mixtures(laws, asked)


def _of_scale(laws: FittedLaws, law: str, asked: Asked, column: str) -> str:
    """Return the warning about N or D: it is far from the runs, or the law does not depend on it; else empty."""
    (low, high), values = laws.ranges[column], np.asarray(getattr(asked, column), float)
    data = _span(low, high)
    if SYMBOLS[column] not in get_law(law).uses:
        other = (values > high * (1 + SAME)) | (values < low / (1 + SAME)) | (high > low * (1 + SAME))
        known = f"the {law} law does not depend on {SYMBOLS[column]}: losses are those of the runs' {column} ({data})"
        return f"{known}, not of {_subject(asked, column, values, other)}" if other.any() else ""
    far = (values > FAR * high * (1 - 1e-9)) | (values < low / FAR * (1 + 1e-9))
    return f"{_subject(asked, column, values, far)} is far outside the data ({data})" if far.any() else ""


def _subject(asked: Asked, column: str, values: Array, which: NDArray[np.bool_]) -> str:
    span = _span(values[which].min(), values[which].max())
    return f"{column} of {asked.counted(which)} ({span})" if asked.rows else f"{column} {span}"


def _span(low: float, high: float) -> str:
    ends = dict.fromkeys((f"{low:.4g}", f"{high:.4g}"))
    return " to ".join(ends)


def _of_weights(laws: FittedLaws, domains: Sequence[str], asked: Asked) -> list[str]:
    """Return warnings about weights outside the runs' range: one for all rows of a table, one per domain for h*."""
    h = np.asarray(asked.mixtures)
    low, high = laws.mixtures.min(0), laws.mixtures.max(0)
    outside = (h > high + FAR_WEIGHT) | (h < low - FAR_WEIGHT)
    named = np.flatnonzero(outside.any(0)).tolist()
    if not asked.rows:
        had = [f"h* has {h[0, i]:.2f} of '{domains[i]}', runs had {low[i]:.2f} to {high[i]:.2f}" for i in named]
        return [f"{text}: train a run near it" for text in had]
    if not named:
        return []
    worst = [h[outside[:, i], i] for i in named[:MOST_DOMAINS]]
    parts = [
        f"{domains[i]} {w.min():.2f} to {w.max():.2f} (runs had {low[i]:.2f} to {high[i]:.2f})"
        for i, w in zip(named[:MOST_DOMAINS], worst, strict=True)
    ]
    more = f", and {len(named) - MOST_DOMAINS} more domains" if len(named) > MOST_DOMAINS else ""
    return [f"{asked.counted(outside.any(1))} have weights that no run had: {', '.join(parts)}{more}"]


def _of_mixtures(laws: FittedLaws, asked: Asked) -> list[str]:
    """Return the warning about mixtures that are far from all trained ones."""
    kinds, own = np.unique(np.asarray(asked.mixtures), axis=0, return_inverse=True)
    parts = [kinds[i : i + AT_ONCE] for i in range(0, len(kinds), AT_ONCE)]
    nearest = np.concatenate([cdist(part, laws.mixtures, "cityblock").min(1) / 2 for part in parts])[own.ravel()]
    far = nearest > FAR_MIXTURE
    if not far.any():
        return []
    share = f"{100 * nearest.max():.0f} % of"
    if asked.rows:
        return [f"{asked.counted(far)} have a mixture that differs from every trained one in up to {share} the tokens"]
    return [f"the nearest mixture that was trained differs from h* in {share} its tokens"]


def phase_warnings(laws: FittedLaws, phases: Sequence[Mapping[str, float]]) -> list[str]:
    """Return a warning for every weight that no run had in that phase, and one for more phases than runs had.

    Parameters
    ----------
    phases : the mixture of each phase, in order
    """
    outside = [
        (number, domain, phase[domain], low, high)
        for number, (phase, seen) in enumerate(zip(phases, laws.phase_ranges, strict=False), 1)
        for domain, (low, high) in seen.items()
        if not low - FAR_WEIGHT <= phase[domain] <= high + FAR_WEIGHT
    ]
    most = len(laws.phase_ranges)
    more = [f"no run had more than {most} phases: train one with {len(phases)}"] if 0 < most < len(phases) else []
    return more + [
        f"phase {number} has {weight:.2f} of '{domain}', runs had {low:.2f} to {high:.2f} there: train a run near it"
        for number, domain, weight, low, high in outside
    ]
