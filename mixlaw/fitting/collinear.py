"""N and D that rise together (D = 20 N in every run): the runs then decide one curve, not how N and D share it.

Any split of what falls between the term of N and the term of D fits such runs equally well, and predictions elsewhere
differ by it. The split is therefore drawn from a belief: at the middle of the data each of the two terms is about a
fifth of the loss, to within a factor of three or so. Published laws of text lie there (Hoffmann et al. 2022: 0.13 and
0.11 of the loss at N = 1e9, D = 2e10; 0.16 and 0.28 at 1e8, 2e9).
"""

import numpy as np
import pandas as pd

from mixlaw.laws.jacobian import Array
from mixlaw.laws.multiplicative import WarmDecay
from mixlaw.laws.terms import Term
from mixlaw.laws.tree import Decay, Nested, Product

RESOLVED = 0.4  # sd of log D at one N (or of log N at one D) from which on runs tell both apart well
NAMED = 0.2  # ... below which a person is told
CENTRE, SPREAD = float(np.log(0.2)), 1.2  # of the log of each term, relative to the loss


def freedom(n_params: Array, n_tokens: Array) -> float:
    """Return how freely N and D vary of each other: the smaller sd of one's logarithm given the other's.

    0 where one is a power of the other in all rows; infinite where one of them does not vary at all.
    """
    logs = np.log([n_params, n_tokens])
    spread = logs.std(axis=1)
    if (spread < 1e-9).any():
        return float("inf")
    together = float(np.corrcoef(logs)[0, 1])
    return float(spread.min() * np.sqrt(max(1 - together**2, 0.0)))


def warning(n_params: Array, n_tokens: Array) -> str | None:
    """Return the sentence for a table in which N and D rise together, with the runs that would tell them apart."""
    if freedom(n_params, n_tokens) >= NAMED:
        return None
    rows = pd.DataFrame({"n": n_params, "d": n_tokens}).groupby("n")["d"].median()
    middle = rows.index[len(rows) // 2]
    low, high = rows.loc[middle] / 4, rows.loc[middle] * 4
    return (
        f"{_line(n_params, n_tokens)}: they decide the loss along that line, but not how much of it is due "
        "to N and how much to D, so away from the line intervals rest on beliefs. Runs at one N with other D resolve "
        "it, for example "
        f"N = {middle:.3g} with D = {low:.3g} and {high:.3g}"
    )


def _line(n_params: Array, n_tokens: Array) -> str:
    """Return in words on which line N and D lie."""
    power = float(np.polyfit(np.log(n_params), np.log(n_tokens), 1)[0])
    power = 1.0 if abs(power - 1) < 0.05 else power
    factor = float(np.exp(np.median(np.log(n_tokens) - power * np.log(n_params))))
    shown = "N" if power == 1 else f"N^{power:.2g}"
    how = "rise together" if power > 0 else "lie on one curve"
    return f"N and D {how} in all runs (about D = {factor:.3g} {shown})"


def amplitudes(term: Term, k: int) -> list[int]:
    """Return which parameters of a law scale its decay in N alone, or in D alone."""
    if not isinstance(term, Nested):
        return []
    if isinstance(term, Product) and any(isinstance(c, Decay | WarmDecay) for c in term.children):
        direction = term.amplitude(k)
        places = [] if direction is None else np.flatnonzero(direction).tolist()
        return places if len(places) == 1 and len(term.uses & {"N", "D"}) == 1 else []
    found = zip(term.children, term.slices(k), strict=True)
    return [at.start + i for child, at in found for i in amplitudes(child, k)]
