"""What a table can support: laws that it cannot determine are refused, and what it only just can is said in words."""

import numpy as np

from mixlaw import entangled
from mixlaw.errors import FitError
from mixlaw.laws import Law
from mixlaw.slopes import Array
from mixlaw.tables import Table

COLLINEAR = 0.98  # correlation of two domains' weights from which on they cannot be told apart


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
    n_runs, n_free = frame["run_id"].nunique(), law.n_open(k) if believing else law.n_free(k)
    sizes, tokens, mixtures = distinct(table)

    def need(fine: bool, why: str) -> None:
        if not fine:
            raise FitError(f"the {law.name} law cannot be fitted to {what}: {why}")

    if law.mixes:
        need(k >= 2, f"the law needs weights of at least 2 domains, there are {k}")
        need(mixtures >= k, f"{mixtures} different mixtures cannot tell {k} domains apart")
    if "N" in law.uses:
        need(sizes >= 2, "it has one model size, so the N term cannot be fitted; use a law whose name ends in -fixed-n")
    if "D" in law.uses:
        need(tokens >= 2, "it has one number of tokens, so the D term cannot be fitted; use one that ends in -fixed-nd")
    observations = n_runs * k if law.joint_targets else n_runs
    need(observations >= n_free, f"runs must decide {n_free} of its parameters, there are {n_runs} runs")
    return warnings_of(law, table)


def distinct(table: Table) -> tuple[int, int, int]:
    """Return how many model sizes, numbers of tokens and mixtures a table has."""
    frame = table.frame
    mixtures = len(np.unique(table.mixtures.round(4), axis=0)) if table.domains else 0
    return frame["n_params"].nunique(), frame["n_tokens"].nunique(), mixtures


def warnings_of(law: Law, table: Table) -> list[str]:
    """Return in plain words what the table leaves undecided."""
    k = len(table.domains)
    sizes, _, mixtures = distinct(table)
    warnings = []
    if "N" in law.uses and sizes == 2:
        warnings.append(
            "two model sizes fit any exponent of N: predictions at larger sizes rest on what is believed of it"
        )
    if "N" not in law.uses and sizes > 1:
        warnings.append(f"the law does not depend on N, and the table has {sizes} model sizes: it predicts their mean")
    if {"N", "D"} <= law.uses:
        together = entangled.warning(*(table.frame[c].to_numpy(float) for c in ("n_params", "n_tokens")))
        warnings += [together] if together else []
    if not law.mixes:
        return warnings
    if mixtures < 2 * k:
        warnings.append(f"{mixtures} mixtures for {k} domains are few: at least {2 * k} tell their shapes apart")
    spread = np.ptp(table.mixtures, axis=0)
    for domain, width in zip(table.domains, spread, strict=True):
        if width < 1e-3:
            warnings.append(f"the weight of '{domain}' never varies, so its effect is not identified")
    return warnings + _collinear(table, spread)


def _collinear(table: Table, spread: Array) -> list[str]:
    """Two weights that always rise together, beyond what summing to one makes them do, are one domain to any law."""
    varied = [i for i, width in enumerate(spread) if width >= 1e-3]
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
