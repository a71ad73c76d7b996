"""Identifiability: refuse laws that a table cannot determine, and warn where parameters are barely identifiable."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mixlaw.errors import FitError
from mixlaw.fitting import collinear
from mixlaw.laws.jacobian import Array
from mixlaw.laws.law import Law
from mixlaw.laws.registry import LAWS
from mixlaw.laws.terms import PHASES
from mixlaw.tables.available import available_tokens
from mixlaw.tables.factor_levels import COUNTED, SAME, count_levels
from mixlaw.tables.phase_mixtures import changes_mixture
from mixlaw.tables.table import Table

COLLINEAR = 0.98  # correlation of two domains' weights above which their effects are not identified
FIXED_BOTH = "-fixed-nd"  # the form of laws for tables where neither N nor D varies
SAME_RUNS = "N, D and the mixture are the same in all rows; add runs that differ in one of them"
NO_PHASES = (
    "no run changes its mixture: add runs with phases (weight_<domain>@1, until@1, weight_<domain>@2, ...), "
    "or fit the law of the same name without -phases"
)
SAME_WEIGHT = 1e-3  # a weight that varies by less counts as constant
ROUNDING = 1e-6  # relative; tokens that exceed those of a domain by less are not repeated


def check_identifiable(law: Law, table: Table, what: str = "this table", with_priors: bool = True) -> list[str]:
    """Refuse a law that the table cannot determine; return warnings about barely identifiable parameters.

    Parameters
    ----------
    with_priors : whether exponents and shapes have priors, so that runs need not determine them

    Raises
    ------
    FitError
        States what the law needs and what the table has.
    """
    frame, k = table.frame, len(table.domains)
    sizes, tokens, mixtures = distinct(table)

    def need(fine: bool, why: str) -> None:
        if not fine:
            raise FitError(f"the {law.name} law cannot be fitted to {what}: {why}")

    if law.pools_only:
        need(k >= 1, "add a column unique_tokens, or weights and available_<domain>")
    elif law.mixes:
        need(k >= 2, f"it needs weights of at least 2 domains, the table has {k}")
        need(mixtures >= k, f"{mixtures} different mixtures cannot identify the effects of {k} domains")
    if PHASES in law.uses:
        need(changes_mixture(table), NO_PHASES)
    form, fixed = form_of(sizes, tokens), law.name.partition("-fixed-")[2].upper()  # in which it may be constant
    for symbol, column, count in (("N", "n_params", sizes), ("D", "n_tokens", tokens)):
        if symbol in law.uses and symbol not in fixed and count < 2:
            one = f"it has one {COUNTED[column]}{_joined(frame[column])}"
            advice = SAME_RUNS if form == FIXED_BOTH and mixtures < 2 else _instead(law, form)
            need(False, f"{one}, so the {symbol} term cannot be fitted; {advice}")
    n_runs, n_free = frame["run_id"].nunique(), law.n_open(k) if with_priors else law.n_free(k)
    observations = n_runs * k if law.joint_targets else n_runs
    which = "parameters without a narrow prior" if with_priors else "parameters"
    need(observations >= n_free, f"{n_runs} runs are too few for its {n_free} {which}")
    return warnings_of(law, table)


def mixtures_vary(mixtures: Array) -> bool:
    """Return whether any weight of mixtures (n, k) varies by at least `SAME_WEIGHT`."""
    return bool(mixtures.size and (np.ptp(mixtures, axis=0) >= SAME_WEIGHT).any())


def _joined(values: pd.Series) -> str:
    """Return a remark on the different values that count as one; empty if there is one value."""
    if values.nunique() < 2:
        return ""
    return f" ({values.min():.6g} to {values.max():.6g} differ by at most {100 * SAME:g} %, so they count as one)"


def _instead(law: Law, form: str) -> str:
    """Return advice for a table with one N or one D: the same law without that term, if there is one."""
    named = law.name.partition("-fixed")[0] + form
    return f"use a law whose name ends in {form}" + (f": {named}" if named in LAWS and named != law.name else "")


def form_of(sizes: int, tokens: int) -> str:
    """Return the suffix of law names for a table with these numbers of model sizes and of token counts.

    >>> form_of(3, 2), form_of(1, 2), form_of(3, 1), form_of(1, 1)
    ('', '-fixed-n', '-fixed-d', '-fixed-nd')
    """
    fixed = "n" * (sizes < 2) + "d" * (tokens < 2)
    return f"-fixed-{fixed}" if fixed else ""


def distinct(table: Table) -> tuple[int, int, int]:
    """Return how many model sizes, numbers of tokens and mixtures a table has; near values count as one."""
    frame, mixtures = table.frame, 0
    if table.domains and len(frame):
        mixtures = len(np.unique(table.mixtures.round(4), axis=0)) if mixtures_vary(table.mixtures) else 1
    return count_levels(frame, "n_params"), count_levels(frame, "n_tokens"), mixtures


def repeats(table: Table) -> bool:
    """Return whether some row trains on more tokens of a domain than there are, as far as the table states them."""
    return bool(repeated(table).any())


def repeated(table: Table) -> NDArray[np.bool_]:
    """Return (n,) which rows train on more tokens of a domain than there are; none if a cell is empty."""
    available = available_tokens(table)
    if available is None or np.isnan(available).any():
        return np.zeros(len(table.frame), bool)
    seen = table.mixtures * table.frame["n_tokens"].to_numpy(float)[:, None]
    return np.asarray((seen > (1 + ROUNDING) * available).any(1), bool)


def _ignored(law: Law, sizes: int, tokens: int, mixtures: int) -> list[str]:
    """Return warnings about variables that vary in the table but are not inputs of the law."""
    return [
        f"the law does not depend on {symbol}, and the table has {count} {what}: it predicts an average over them"
        for symbol, what, count, read in (
            ("N", "model sizes", sizes, "N" in law.uses),
            ("D", "numbers of tokens", tokens, "D" in law.uses),
            ("the mixture", "mixtures", mixtures, law.mixes),
        )
        if count > 1 and not read
    ]


def warnings_of(law: Law, table: Table) -> list[str]:
    """Return warnings about parameters and domains that the table barely identifies."""
    k = len(table.domains)
    sizes, tokens, mixtures = distinct(table)
    warnings = _ignored(law, sizes, tokens, mixtures)
    if "N" in law.uses and sizes == 2:
        warnings.append(
            "two model sizes do not identify the exponent of N: predictions at larger sizes rest on its prior"
        )
    if {"N", "D"} <= law.uses:
        collinear_nd = collinear.warning(*(table.frame[c].to_numpy(float) for c in ("n_params", "n_tokens")))
        warnings += [collinear_nd] if collinear_nd else []
    if not law.mixes or law.pools_only:
        return warnings
    if mixtures < 2 * k:
        warnings.append(f"{mixtures} mixtures for {k} domains are few: use at least {2 * k}")
    spread = np.ptp(table.mixtures, axis=0)
    for domain, width in zip(table.domains, spread, strict=True):
        if width < SAME_WEIGHT:
            warnings.append(f"the weight of '{domain}' never varies, so its effect is not identified")
    return warnings + _collinear(table, spread)


def _collinear(table: Table, spread: Array) -> list[str]:
    """Return a warning for every pair of domains with collinear weights; pairs among fewer than 3 are always so."""
    varied = [i for i, width in enumerate(spread) if width >= SAME_WEIGHT]
    if len(varied) < 3:
        return []
    mixtures = np.unique(table.mixtures.round(4), axis=0)[:, varied]
    if len(mixtures) < 3:
        return []
    correlation: Array = np.atleast_2d(np.corrcoef(mixtures.T))
    return [
        f"the weights of '{table.domains[varied[i]]}' and '{table.domains[varied[j]]}' rise together in all runs "
        f"(correlation {correlation[i, j]:.3f}): their separate effects are not identified"
        for i in range(len(varied))
        for j in range(i + 1, len(varied))
        if correlation[i, j] > COLLINEAR
    ]
