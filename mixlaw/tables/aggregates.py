"""Aggregates: named groups of targets with weights, which become targets of their own.

The loss of an aggregate is the weighted mean of its members' losses, row by row, so that its law, its seed noise and
its scatter are those of the mean.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from mixlaw.errors import ConfigError, unknown_name
from mixlaw.quoted import split, unquoted
from mixlaw.tables.columns import LOSS, LOSS_SE, SCORE, SCORE_SE
from mixlaw.tables.number_parsing import parse_numbers
from mixlaw.tables.table import Table
from mixlaw.tables.units import NATS, mixed_warning, together

Aggregates = Mapping[str, Mapping[str, float]]  # name -> member -> weight
MEANS, ERRORS = (LOSS, "before_", SCORE), (LOSS_SE, SCORE_SE)
FILES = (".yaml", ".yml")
TAKEN = ("average", "mean", "snr", "objective", "mixture", "all")  # which --target, --not-worse and answers use


def with_aggregates(table: Table, aggregates: Aggregates) -> Table:
    """Return the table with a target for every aggregate, where all members are known.

    Standard errors add up as those of independent questions. Members in different units are a warning.

    Parameters
    ----------
    aggregates : name -> target -> weight; weights are normalised

    Raises
    ------
    ConfigError
        If a name is taken, a member is no target, or weights are not positive numbers.
    """
    frame, units, warnings = table.frame, dict(table.units), list(table.warnings)
    for name, members in aggregates.items():
        weights = _normalised(name, members, table)
        frame = frame.assign(**_columns(frame, name, weights))
        warnings += _two_scales(frame, name, weights)
        of_members = {target: units.get(target, NATS) for target in weights}
        units[name] = together(of_members.values())
        warnings += [f"the aggregate {name}: {text}" for text in mixed_warning(weights, of_members)]
    return replace(table, frame=frame, targets=[*table.targets, *aggregates], units=units, warnings=warnings)


def read_aggregates(texts: Iterable[str]) -> dict[str, dict[str, float]]:
    """Return aggregates from 'NAME=TARGET:2,OTHER:1', or from YAML files with NAME: {TARGET: 2, OTHER: 1}.

    A weight of 1 may be left out; names that hold a separator stand in quotes.
    """
    found: dict[str, dict[str, float]] = {}
    for text in texts:
        named = _of_file(text) if Path(text).suffix in FILES and "=" not in text else dict([_of_text(text)])
        for name, members in named.items():
            if name in found:
                raise ConfigError(f"--aggregates {name} is given twice")
            found[name] = members
    return found


def _of_text(text: str) -> tuple[str, dict[str, float]]:
    try:
        name, members = split(text, "=")
        pairs = [split(part, ":") for part in split(members, ",")]
        weights = {unquoted(target): float(*rest or (1,)) for target, *rest in pairs}
        if len(weights) < len(pairs) or not all((name, *weights)):
            raise ValueError
        return unquoted(name), weights
    except (ValueError, TypeError):
        raise ConfigError(
            f"--aggregates {text}: write NAME=TARGET:2,OTHER:1 with each target once, or the name of a YAML file"
        ) from None


def _of_file(path: str) -> dict[str, dict[str, float]]:
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        if not found:
            raise ValueError
        return {str(name): {str(t): float(w) for t, w in members.items()} for name, members in found.items()}
    except OSError as error:
        raise ConfigError(f"--aggregates {path} cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, AttributeError, yaml.YAMLError):
        raise ConfigError(f"--aggregates {path}: write NAME: {{TARGET: 2, OTHER: 1}} in each line") from None


def _normalised(name: str, members: Mapping[str, float], table: Table) -> dict[str, float]:
    """Return the weights of an aggregate's members, which sum to one."""
    if not name or name in (*TAKEN, *table.targets, *table.domains):
        raise ConfigError(f"--aggregates {name}: this name is taken by a target, domain or option; give it another one")
    for target in members:
        if target not in table.targets:
            raise ConfigError(f"--aggregates {name}: {unknown_name('target', target, table.targets)}")
    weights = np.array(list(members.values()), float)
    if not (len(weights) and np.isfinite(weights).all() and (weights > 0).all()):
        raise ConfigError(
            f"--aggregates {name}: it needs members with weights above 0, such as {name}=TARGET:2,OTHER:1"
        )
    return dict(zip(members, (weights / weights.sum()).tolist(), strict=True))


def _two_scales(frame: pd.DataFrame, name: str, members: Iterable[str]) -> list[str]:
    """Return a warning if some members' scores are per cent and others shares, so that their mean is neither."""
    highest = {t: parse_numbers(frame[SCORE + t])[0].max() for t in members if SCORE + t in frame}
    per_cent = [target for target, score in highest.items() if score > 1]
    shares = [target for target, score in highest.items() if score <= 1]
    if not (per_cent and shares and SCORE + name in frame):
        return []
    found = f"the scores of {', '.join(per_cent)} go above 1, those of {', '.join(shares)} do not"
    return [f"the aggregate {name}: {found}: give all as shares or all as per cent before you use its mean score"]


def _columns(frame: pd.DataFrame, name: str, weights: Mapping[str, float]) -> dict[str, pd.Series]:
    """Return the columns of an aggregate: means and their standard errors, where every member has them."""
    w, found = np.array(list(weights.values())), {}
    for prefix in (*MEANS, *ERRORS):
        columns = [prefix + target for target in weights]
        if set(columns) <= set(frame):
            values = np.column_stack([parse_numbers(frame[column])[0] for column in columns])
            found[prefix + name] = values @ w if prefix in MEANS else np.sqrt(values**2 @ w**2)
    return found
