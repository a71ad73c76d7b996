"""Types of option values that several commands share: numbers, counts and shares."""

import argparse


def number(text: str) -> float:
    """Return an option's value that must be finite and above 0."""
    value = amount(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def amount(text: str) -> float:
    from mixlaw.tables.cells import number_of  # which needs pandas: help does not

    value = number_of(text.replace("_", ""), counts=True)
    if value is None:
        raise ValueError(text)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def count(text: str) -> int:
    value = int(text)
    if value < 2:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 2")
    return value


def share(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value
