"""Shared by all commands: types of option values (numbers, counts, shares), and options that had another name."""

import argparse
from typing import Any, Protocol


class Options(Protocol):
    """A parser, or a group of its options."""

    def add_argument(self, *names: str, **settings: Any) -> argparse.Action: ...


def add_renamed(options: Options, name: str, former: str, **settings: Any) -> None:
    """Add an option that also answers to its former name, which no help text shows.

    Parameters
    ----------
    name, former : both with their dashes; the value is stored under `name`
    settings : what `add_argument` takes
    """
    action = options.add_argument(name, **settings)
    hidden = {"dest": action.dest, "help": argparse.SUPPRESS, "default": argparse.SUPPRESS}
    options.add_argument(former, **settings | hidden)


def number(text: str) -> float:
    """Return an option's value that must be finite and above 0."""
    value = amount(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def amount(text: str) -> float:
    """Return an option's value that must be finite and at least 0."""
    from mixlaw.tables.number_parsing import (
        parse_number,  # deferred: it imports pandas, which sweeps.plan --help need not
    )

    value = parse_number(text.replace("_", ""), counts=True)
    if value is None:
        raise ValueError(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def count(text: str) -> int:
    """Return an option's value that must be a whole number of at least 2."""
    value = int(text)
    if value < 2:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 2")
    return value


def share(text: str) -> float:
    """Return an option's value that must be between 0 and 1."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def shares(text: str) -> tuple[float, ...]:
    """Return an option's values that must be between 0 and 1, separated by commas."""
    try:
        return tuple(share(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: write shares between 0 and 1, such as 0.6,0.85") from None
