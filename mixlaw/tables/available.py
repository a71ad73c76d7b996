"""The tokens of the domains that runs could read, which laws of repeated tokens need."""

import numpy as np

from mixlaw.laws.jacobian import Array
from mixlaw.tables.table import Table

UNLIMITED = 1e30  # tokens of a domain of which a table states nothing, where it states those of others


def available_tokens(table: Table) -> Array | None:
    """Return the available tokens (n, k) of each domain, NaN in empty cells; None if the table states none.

    A domain that has neither a known size nor a number in a column available_<domain> counts as unlimited.
    """
    frame, stated = table.frame, set(table.sizes)
    stated |= {d for d in table.domains if f"available_{d}" in frame}
    if not stated & set(table.domains):
        return None
    return np.column_stack([_of(table, domain) for domain in table.domains])


def gaps(table: Table) -> list[str]:
    """Return a warning per domain whose available tokens some rows lack, so that no law of repeated data is fitted."""
    tokens, said = available_tokens(table), []
    for domain, column in zip(table.domains, [] if tokens is None else tokens.T, strict=False):
        if np.isnan(column).any():
            where = table.place(table.frame["row"][np.isnan(column)])
            said.append(
                f"available_{domain} is empty in {where}, so no law of repeated data is fitted: fill it in, with a "
                "number above n_tokens where the data are unlimited"
            )
    return said


def _of(table: Table, domain: str) -> Array:
    column = table.frame.get(f"available_{domain}")
    size = table.sizes.get(domain, UNLIMITED)
    if column is None or column.isna().all() or (column.isna().any() and domain in table.sizes):
        return np.full(len(table.frame), float(size))
    return np.asarray(column.to_numpy(float))
