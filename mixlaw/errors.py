"""The errors that a person may cause: one base class, so that a command line can turn each into a sentence."""

import difflib
from collections.abc import Iterable


class MixlawError(ValueError):
    """Something outside the program is wrong; the message says what, where, and what to do."""

    exit_code = 2


class ConfigError(MixlawError):
    """A setting is unknown, of the wrong type, or contradicts another."""


class DataError(MixlawError):
    """A corpus or shard is missing, damaged, or not what its manifest says."""

    exit_code = 3


class RunLogError(MixlawError):
    """A run directory or a table of runs cannot be trusted."""

    exit_code = 3


class CheckpointError(MixlawError):
    """A checkpoint cannot be written or read."""

    exit_code = 4


class FitError(MixlawError):
    """The runs at hand cannot support the law that was asked for."""

    exit_code = 5


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Return the sentence for a name that does not exist, with the near match and the list."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else ";"
    return f"unknown {kind} '{name}'{hint} known: {', '.join(names) or 'none'}"
