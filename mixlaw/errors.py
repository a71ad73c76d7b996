"""Errors that users can cause. Commands print their message instead of a traceback."""

import difflib
from collections.abc import Iterable


class MixlawError(ValueError):
    """Base class; messages state what is wrong, where, and what to do."""

    exit_code = 2


class ConfigError(MixlawError):
    """A setting is unknown, of the wrong type, or contradicts another."""


class DataError(MixlawError):
    """A corpus or shard is missing, damaged, or differs from its manifest."""

    exit_code = 3


class RunLogError(MixlawError):
    """A run directory or a table of runs is invalid."""

    exit_code = 3


class CheckpointError(MixlawError):
    """A checkpoint cannot be written or read."""

    exit_code = 4


class FitError(MixlawError):
    """There is too little data to fit this law."""

    exit_code = 5


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the message for an unknown name, with the closest match and the list of known names."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    return f"unknown {kind} '{name}'{hint} known: {', '.join(names) or 'none'}"
