"""Tables without a mixture get a single domain if they state the number of unique tokens.

Laws of repeated tokens need the tokens available per domain. Tables of runs on one corpus have no weights and call this
number `unique_tokens` or `available`.
"""

from collections.abc import Sequence

import pandas as pd

from mixlaw.errors import RunLogError
from mixlaw.tables.columns import POOLS, WEIGHT

ONE, AVAILABLE = "all", "available_"


def name_single_domain(frame: pd.DataFrame, where: str, notes: list[str]) -> pd.DataFrame:
    """Add weight_<name> and available_<name> to a table without weights that states the number of unique tokens.

    Parameters
    ----------
    frame : a table with standard columns; one with several domains is returned unchanged
    where : what messages call the table
    notes : a note about the change is appended

    Raises
    ------
    RunLogError
        If two columns state the number of unique tokens.
    """
    domains, stated = _after(WEIGHT, frame), [c for c in POOLS if c in frame]
    if len(domains) > 1:
        if stated:
            wanted = f"{AVAILABLE}{domains[0]}, {AVAILABLE}{domains[1]}, ..."
            notes.append(f"{where}: {stated[0]} is not used: with several domains, each has its own column, {wanted}")
        return frame
    named = [name for name in _after(AVAILABLE, frame) if AVAILABLE + name not in POOLS]
    if not domains and (len(named) > 1 or not (named or stated)):
        return frame
    name = (domains or named or [ONE])[0]
    if len(both := [*stated, *(AVAILABLE + n for n in named if n == name)]) > 1:
        raise RunLogError(f"{where}: {both[0]} and {both[1]} both state the unique tokens: leave out one of them")
    if not domains:
        frame = frame.assign(**{WEIGHT + name: 1.0})
        notes.append(f"{where} has no weights: all tokens are of one domain, '{name}', which has {both[0]} tokens")
    return frame.rename(columns=dict.fromkeys(stated, AVAILABLE + name))


def rename_domain(frame: pd.DataFrame, domains: Sequence[str], wanted: str) -> pd.DataFrame:
    """Return the rows with their only domain renamed; without a domain, a column of weights 1 is added."""
    if not domains:
        return frame.assign(**{WEIGHT + wanted: 1.0})
    return frame.rename(columns={f"{prefix}{domains[0]}": f"{prefix}{wanted}" for prefix in (WEIGHT, AVAILABLE)})


def _after(prefix: str, frame: pd.DataFrame) -> list[str]:
    return [str(c).removeprefix(prefix) for c in frame.columns if str(c).startswith(prefix)]
