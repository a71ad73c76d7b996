"""Mixtures: named weights on the simplex, the h of L(N, D, h)."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mixlaw.errors import ConfigError, unknown_name

SUM_TOLERANCE = 1e-6
_NAME = re.compile(r"[a-z0-9_-]{1,64}")
_KEY = re.compile(r"[A-Za-z0-9_/\-+.$%*@?|\\()\[\]{}:=, \t]+")  # what keys of a dictionary hold in Hydra's overrides
_SPECIAL = re.compile(r"([\\()\[\]{}:=, \t])")  # what must be escaped there


def check_domain_name(name: str) -> str:
    """Return `name` if it can safely be a column, a folder and a Hydra key.

    Raises
    ------
    ConfigError
        If it holds anything but lower-case letters, digits, '_' and '-' (at most 64 of them).
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"domain name {name!r} is not allowed: use 1 to 64 of a-z, 0-9, '_' and '-'")
    return name


def check_weights(weights: Mapping[str, float], domains: Iterable[str], where: str = "mixture") -> dict[str, float]:
    """Return the weights in the order of `domains`, absent domains at 0.

    Parameters
    ----------
    weights : mapping of domain to its share of the training tokens
    domains : the k domains that can be trained on
    where : how an error names the mixture

    Raises
    ------
    ConfigError
        If a name is unknown, a weight is not in [0, 1], or they do not sum to 1 within 1e-6.
    """
    names = list(domains)
    for name, weight in weights.items():
        if name not in names:
            raise ConfigError(f"{where}: {unknown_name('domain', name, names)}")
        if not 0 <= weight <= 1:  # also refuses NaN
            raise ConfigError(f"{where}: weight of '{name}' is {weight:g}; weights must lie in [0, 1]")
    total = float(sum(weights.values()))
    if abs(total - 1) > SUM_TOLERANCE:
        shares = ", ".join(f"{n}: {weights[n] / total:.4g}" for n in weights) if total > 0 else "none"
        raise ConfigError(f"{where}: weights sum to {total:.6g}, not 1. Scaled to one they are {shares}")
    return {name: float(weights.get(name, 0.0)) for name in names}


def uniform(domains: Iterable[str]) -> dict[str, float]:
    """Return the mixture that gives every domain the same share."""
    names = list(domains)
    return {name: 1 / len(names) for name in names}


def proportional(sizes: Mapping[str, float]) -> dict[str, float]:
    """Return the natural mixture: every domain at its share of the tokens there are.

    Raises
    ------
    ConfigError
        If there are no tokens at all.
    """
    total = float(sum(sizes.values()))
    if not total > 0:
        raise ConfigError("no domain has tokens, so there is no natural mixture")
    return {name: size / total for name, size in sizes.items()}


def hydra_override(weights: Mapping[str, float], digits: int = 4) -> str:
    """Return the trainer's override for a mixture, rounded so that it still sums to one; special letters are escaped.

    It is empty where a name has letters that Hydra's grammar does not know: its keys are ASCII and take no quotes.

    >>> hydra_override({"code": 1 / 3, "docs": 2 / 3})
    'mixture.weights={code:0.3333,docs:0.6667}'
    """
    if not all(map(_KEY.fullmatch, weights)):
        return ""
    units = round_to_sum(np.array(list(weights.values())), 10**digits)
    names = [_SPECIAL.sub(r"\\\1", name) for name in weights]
    parts = [f"{name}:{unit / 10**digits:.{digits}f}" for name, unit in zip(names, units, strict=True)]
    return "mixture.weights={" + ",".join(parts) + "}"


def round_to_sum(weights: np.ndarray[Any, Any], total: int) -> list[int]:
    """Return integers near `weights * total` that sum to `total` exactly (largest remainders).

    Raises
    ------
    ConfigError
        If the weights are all zero.
    """
    scale = float(np.sum(weights))
    if scale <= 0:
        raise ConfigError("a mixture needs at least one weight above 0")
    ideal = [float(w) / scale * total for w in weights]
    units = [int(x) for x in ideal]
    by_remainder = sorted(range(len(ideal)), key=lambda i: units[i] - ideal[i])
    for i in by_remainder[: total - sum(units)]:
        units[i] += 1
    return units
