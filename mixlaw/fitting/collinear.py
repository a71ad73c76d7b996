"""Collinear N and D (D = 20 N in every run): the runs determine the sum of their terms, not each term alone.

Every split of the loss between the term of N and the term of D fits such runs equally well, but predictions off the
line differ. A prior on the amplitudes decides: at the middle of the data each of the two terms is a fifth of the loss,
to within a factor of about three. Published laws of text agree with it (Hoffmann et al. 2022: 0.13 and 0.11 of the loss
at N = 1e9, D = 2e10; 0.16 and 0.28 at 1e8, 2e9).
"""

import numpy as np
import pandas as pd

from mixlaw.laws.jacobian import Array
from mixlaw.laws.multiplicative import WarmDecay
from mixlaw.laws.terms import Term
from mixlaw.laws.tree import Decay, Nested, Product

WELL_SEPARATED = 0.4  # sd of log D at one N (or of log N at one D) above which no prior is needed
WARN_BELOW = 0.2  # the same sd below which we warn
PRIOR_MEAN, PRIOR_SD = float(np.log(0.2)), 1.2  # of the log of each term, relative to the loss


def conditional_sd(n_params: Array, n_tokens: Array) -> float:
    """Return the smaller of sd(log N given log D) and sd(log D given log N), from a linear regression.

    0 if one is a power of the other in all rows; infinite if one of them does not vary.
    """
    logs = np.log([n_params, n_tokens])
    spread = logs.std(axis=1)
    if (spread < 1e-9).any():
        return float("inf")
    correlation = float(np.corrcoef(logs)[0, 1])
    return float(spread.min() * np.sqrt(max(1 - correlation**2, 0.0)))


def warning(n_params: Array, n_tokens: Array) -> str | None:
    """Return a warning if N and D are collinear, with runs that would separate their effects; else None."""
    if conditional_sd(n_params, n_tokens) >= WARN_BELOW:
        return None
    rows = pd.DataFrame({"n": n_params, "d": n_tokens}).groupby("n")["d"].median()
    middle = rows.index[len(rows) // 2]
    low, high = rows.loc[middle] / 4, rows.loc[middle] * 4
    return (
        f"{_line(n_params, n_tokens)}: their separate effects are not identified, so predictions away from this line "
        "rest on the prior. Add runs at one N with other D to separate them, for example "
        f"N = {middle:.3g} with D = {low:.3g} and {high:.3g}"
    )


def _line(n_params: Array, n_tokens: Array) -> str:
    """Return a clause that states the line of N and D."""
    power = float(np.polyfit(np.log(n_params), np.log(n_tokens), 1)[0])
    power = 1.0 if abs(power - 1) < 0.05 else power
    factor = float(np.exp(np.median(np.log(n_tokens) - power * np.log(n_params))))
    shown = "N" if power == 1 else f"N^{power:.2g}"
    how = "rise together" if power > 0 else "lie on one curve"
    return f"N and D {how} in all runs (about D = {factor:.3g} {shown})"


def amplitudes(term: Term, k: int) -> list[int]:
    """Return the indices of a law's parameters that are amplitudes of a decay in N alone or in D alone."""
    if not isinstance(term, Nested):
        return []
    if isinstance(term, Product) and any(isinstance(c, Decay | WarmDecay) for c in term.children):
        direction = term.amplitude(k)
        places = [] if direction is None else np.flatnonzero(direction).tolist()
        return places if len(places) == 1 and len(term.uses & {"N", "D"}) == 1 else []
    found = zip(term.children, term.slices(k), strict=True)
    return [at.start + i for child, at in found for i in amplitudes(child, k)]
