"""Expand `~` and environment variables in paths of settings and command lines."""

import argparse
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mixlaw.errors import ConfigError

_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def expand_path(text: str, where: str = "path") -> str:
    """Return a path with `~`, `$NAME` and `${NAME}` expanded, unless a file of the unexpanded name exists.

    Parameters
    ----------
    where : the setting or option, for messages

    Raises
    ------
    ConfigError
        If a variable is not set, or the user of `~user` does not exist.
    """
    if not text.startswith("~") and ("$" not in text or os.path.lexists(text)):
        return text
    expanded = os.path.expanduser(text)
    if expanded.startswith("~"):
        if os.path.lexists(text):
            return text
        raise ConfigError(f"{where}: {text}: no home directory is known for {text.split('/')[0]}")
    for match in _VARIABLE.finditer(expanded):
        name = match[1] or match[2]
        if not os.environ.get(name):
            raise ConfigError(f"{where}: {text}: the environment variable {name} is not set")
    return os.path.expandvars(expanded)


def path_option(text: str) -> Path:
    """Return an expanded path; the `type` of argparse options, because shells do not expand `--out=~/x`."""
    try:
        return Path(expand_path(text))
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def expand_options(options: argparse.Namespace, names: Iterable[str]) -> None:
    """Expand paths among parsed options in place.

    Parameters
    ----------
    names : options whose values are text, a Path, or a list of these

    Raises
    ------
    ConfigError
        See `expand_path`.
    """
    for name in names:
        value = getattr(options, name, None)
        if value:
            setattr(options, name, _expanded(value, f"--{name}"))


def _expanded(value: Any, where: str) -> Any:
    if isinstance(value, list):
        return [_expanded(part, where) for part in value]
    return type(value)(expand_path(str(value), where)) if isinstance(value, str | Path) else value
