"""What a table can support: laws that it cannot determine are refused, and what it only just can is said in words."""

import numpy as np
import pandas as pd

from mixlaw.errors import FitError
from mixlaw.fitting import collinear as entangled
from mixlaw.laws.jacobian import Array
from mixlaw.laws.registry import LAWS, Law
from mixlaw.tables.factor_levels import COUNTED, SAME, count_levels
from mixlaw.tables.table import Table

COLLINEAR = 0.98  # correlation of two domains' weights from which on they cannot be told apart
NOTHING = "-fixed-nd"  # the form of laws for tables where neither N nor D varies
SAME_RUNS = "N, D and the mixture are the same in all rows, so there is nothing that a law could depend on"
SAME_WEIGHT = 1e-3  # a weight that varies by less does not vary


def check_support(law: Law, table: Table, what: str = "this table", believing: bool = True) -> list[str]:
    """Refuse a law that the table cannot determine; return warnings where it only just can.

    Parameters
    ----------
    believing : whether what is believed of exponents and shapes counts, so that runs need not decide it

    Raises
    ------
    FitError
        With what the law needs and what the table has.
    """
    frame, k = table.frame, len(table.domains)
    sizes, tokens, mixtures = distinct(table)

    def need(fine: bool, why: str) -> None:
        if not fine:
            raise FitError(f"the {law.name} law cannot be fitted to {what}: {why}")

    if law.pools_only:
        need(k >= 1, "it needs the unique tokens: a column unique_tokens, or weights and available_<domain>")
    elif law.mixes:
        need(k >= 2, f"the law needs weights of at least 2 domains, there are {k}")
        need(mixtures >= k, f"{mixtures} different mixtures cannot tell {k} domains apart")
    form = form_of(sizes, tokens)
    for symbol, column, count in (("N", "n_params", sizes), ("D", "n_tokens", tokens)):
        if symbol in law.uses and count < 2:
            one = f"it has one {COUNTED[column]}{_joined(frame[column])}"
            advice = SAME_RUNS if form == NOTHING and mixtures < 2 else _instead(law, form)
            need(False, f"{one}, so the {symbol} term cannot be fitted; {advice}")
    n_runs, n_free = frame["run_id"].nunique(), law.n_open(k) if believing else law.n_free(k)
    observations = n_runs * k if law.joint_targets else n_runs
    need(observations >= n_free, f"runs must decide {n_free} of its parameters, there are {n_runs} runs")
    return warnings_of(law, table)


def mixtures_vary(mixtures: Array) -> bool:
    """Say whether any weight of mixtures (n, k) varies by more than what counts as the same."""
    return bool(mixtures.size and (np.ptp(mixtures, axis=0) >= SAME_WEIGHT).any())


def _joined(values: pd.Series) -> str:
    """Say which different values count as one, or nothing."""
    if values.nunique() < 2:
        return ""
    return f" ({values.min():.6g} to {values.max():.6g} differ by at most {100 * SAME:g} %, so they count as one)"


def _instead(law: Law, form: str) -> str:
    """Return the advice which law to take where N or D is one value: the same law without its term, if there is one."""
    named = law.name.partition("-fixed")[0] + form
    return f"use a law whose name ends in {form}" + (f": {named}" if named in LAWS and named != law.name else "")


def form_of(sizes: int, tokens: int) -> str:
    """Return how the names of the laws end for so many sizes and numbers of tokens.

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
    """Say whether some row sees more tokens of a domain than there are, where that is known of all of them."""
    pools = [table.frame.get(f"available_{d}") for d in table.domains]
    known = [p.to_numpy(float) for p in pools if p is not None and p.notna().all()]
    if not pools or len(known) < len(pools):
        return False
    seen = table.mixtures * table.frame["n_tokens"].to_numpy(float)[:, None]
    return bool((seen > np.stack(known, axis=1)).any())


def _ignored(law: Law, sizes: int, tokens: int, mixtures: int) -> list[str]:
    """Return what varies that the law does not read, so that it predicts the mean."""
    return [
        f"the law does not depend on {symbol}, and the table has {count} {what}: it predicts their mean"
        for symbol, what, count, read in (
            ("N", "model sizes", sizes, "N" in law.uses),
            ("D", "numbers of tokens", tokens, "D" in law.uses),
            ("the mixture", "mixtures", mixtures, law.mixes),
        )
        if count > 1 and not read
    ]


def warnings_of(law: Law, table: Table) -> list[str]:
    """Return in plain words what the table leaves undecided."""
    k = len(table.domains)
    sizes, tokens, mixtures = distinct(table)
    warnings = _ignored(law, sizes, tokens, mixtures)
    if "N" in law.uses and sizes == 2:
        warnings.append(
            "two model sizes fit any exponent of N: predictions at larger sizes rest on what is believed of it"
        )
    if {"N", "D"} <= law.uses:
        together = entangled.warning(*(table.frame[c].to_numpy(float) for c in ("n_params", "n_tokens")))
        warnings += [together] if together else []
    if not law.mixes or law.pools_only:
        return warnings
    if mixtures < 2 * k:
        warnings.append(f"{mixtures} mixtures for {k} domains are few: at least {2 * k} tell their shapes apart")
    spread = np.ptp(table.mixtures, axis=0)
    for domain, width in zip(table.domains, spread, strict=True):
        if width < SAME_WEIGHT:
            warnings.append(f"the weight of '{domain}' never varies, so its effect is not identified")
    return warnings + _collinear(table, spread)


def _collinear(table: Table, spread: Array) -> list[str]:
    """Two weights that always rise together, beyond what summing to one makes them do, are one domain to any law."""
    varied = [i for i, width in enumerate(spread) if width >= SAME_WEIGHT]
    if len(varied) < 3:
        return []
    mixtures = np.unique(table.mixtures.round(4), axis=0)[:, varied]
    if len(mixtures) < 3:
        return []
    together: Array = np.atleast_2d(np.corrcoef(mixtures.T))
    return [
        f"the weights of '{table.domains[varied[i]]}' and '{table.domains[varied[j]]}' rise together in all runs "
        f"(correlation {together[i, j]:.3f}): their effects cannot be told apart"
        for i in range(len(varied))
        for j in range(i + 1, len(varied))
        if together[i, j] > COLLINEAR
    ]
