"""Pools: the unique tokens that a run may read of a domain, as whole items from the beginning of its first epoch."""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace

from data.stream.items import Kinds
from data.stream.order import first_items
from mixlaw.errors import ConfigError, unknown_name


def pool_of(kinds: Kinds, n_tokens: float) -> Kinds:
    """Return the largest pool of whole items with at most `n_tokens` tokens, as the kinds of its items.

    Parameters
    ----------
    kinds : of the whole domain
    """

    def tokens_of(n: int) -> int:
        return int(first_items(kinds.n_items, n) @ kinds.n_tokens)

    n = bisect_right(range(kinds.size + 1), n_tokens, key=tokens_of) - 1
    return replace(kinds, n_items=first_items(kinds.n_items, max(n, 0)))


def pools_of(
    kinds: Mapping[str, Kinds], available: Mapping[str, int], wanted: Mapping[str, float], setting: str
) -> dict[str, Kinds]:
    """Return the pool of each domain that `wanted` limits to a part of its items.

    Parameters
    ----------
    kinds : training domain -> items of the whole domain
    available : training domain -> its training tokens
    wanted : domain -> unique tokens
    setting : name of the setting that limits them

    Raises
    ------
    ConfigError
        For an unknown domain, more tokens than the domain has, or fewer than its first item has.
    """
    pools = {}
    for domain, n_tokens in wanted.items():
        if domain not in kinds:
            raise ConfigError(f"{setting}: {unknown_name('domain', domain, kinds)}")
        if n_tokens > available[domain]:
            raise ConfigError(
                f"{setting}: '{domain}' would need a pool of {n_tokens:,.0f} tokens and has {available[domain]:,} "
                "training tokens: lower it, or leave the domain out to use all of them"
            )
        pool = pool_of(kinds[domain], n_tokens)
        if not pool.size:
            raise ConfigError(
                f"{setting}: a pool of {n_tokens:,.0f} tokens of '{domain}' is smaller than one sequence: raise it"
            )
        if pool.size < kinds[domain].size:
            pools[domain] = pool
    return pools
