"""Select runs, or rows of files, by the values of settings: `where`, or --where NAME=VALUE."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import pandas as pd

from mixlaw.errors import ConfigError, unknown_name
from mixlaw.runs.comparable import Facts, value_text


def select_runs(runs: Sequence[Facts], where: Mapping[str, Sequence[str]]) -> list[Facts]:
    """Return the runs whose settings have the wanted values.

    Parameters
    ----------
    where : setting -> values, see `has_value`

    Raises
    ------
    ConfigError
        If no run states the setting, or none has the value; the message lists the existing ones.
    """
    for name, wanted in where.items():
        stated = {run.run_id: run.all[name] for run in runs if name in run.all}
        _require_stated(name, stated, sorted({n for run in runs for n in run.all}))
        kept = [run for run in runs if run.run_id in stated and has_value(stated[run.run_id], wanted)]
        _require_found(name, wanted, kept, stated.values())
        runs = kept
    return list(runs)


def wanted_values(where: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return setting -> list of wanted values, as text.

    >>> wanted_values({"optim.lr": 0.008, "family": ["text", "vision"]})
    {'optim.lr': ['0.008'], 'family': ['text', 'vision']}
    """
    lists = {name: list(v) if isinstance(v, list | tuple | set) else [v] for name, v in where.items()}
    return {name: [str(value) for value in values] for name, values in lists.items()}


def _require_stated(name: str, stated: Collection[Any], known: Sequence[str]) -> None:
    """Raise ConfigError if no run states the setting, with the closest match."""
    if not stated:
        raise ConfigError(f"--where {name}=...: {unknown_name('setting or column', name, known)}")


def _require_found(name: str, wanted: Sequence[str], kept: Collection[Any], stated: Iterable[Any]) -> None:
    """Raise ConfigError if no run has the value, with the existing values."""
    if not kept:
        values = ", ".join(dict.fromkeys(value_text(v) for v in stated))
        raise ConfigError(
            f"--where {name}={' or '.join(wanted)}: no run has this value; existing values: {values[:300]}"
        )


def has_value(value: Any, wanted: Iterable[str]) -> bool:
    """Return whether a setting has one of the values: an equal number, a text pattern, or a part between hyphens.

    >>> has_value(0.003, ["3e-3"]), has_value("bytes-256-1a2b3c4d", ["bytes"]), has_value("The Pile", ["the*"])
    (True, True, True)
    """
    return any(_is(value, text.strip()) for text in wanted)


def _is(value: Any, text: str) -> bool:
    try:
        return math.isclose(float(value), float(text), rel_tol=1e-9)
    except (TypeError, ValueError):
        word = value_text(value).lower()
        return fnmatchcase(word, text.lower()) or text.lower() in word.split("-")


def select_rows(frame: pd.DataFrame, where: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Return the rows of a file whose cells have the wanted values.

    Parameters
    ----------
    where : column -> values, see `has_value`

    Raises
    ------
    ConfigError
        If a column does not exist, or no row has the value.
    """
    for name, wanted in where.items():
        _require_stated(name, [name] * (name in frame), [str(c) for c in frame.columns])
        kept = frame[[has_value(cell, wanted) for cell in frame[name]]]
        _require_found(name, wanted, list(kept.index), frame[name])
        frame = kept
    return frame
