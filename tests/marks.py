"""Marks for a part of a test, and how many examples a property has."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest
from hypothesis import settings

THOROUGH = 100  # examples of a property that says nothing itself, in the profile of `make slow`


def slow(*values: Any) -> Any:
    """Return parameters that only the slow tests have."""
    return pytest.param(*values, marks=pytest.mark.slow)


def all_slow_but(fast: Collection[Any], cases: Iterable[Any]) -> list[Any]:
    """Return all cases as parameters; the fast tests have those in `fast` only."""
    return [case if case in fast else slow(*(case if isinstance(case, tuple) else (case,))) for case in cases]


def examples(n: int) -> settings:
    """Return the settings of a property that takes long: n examples in `make slow`, an eighth in `make test`."""
    count = n if settings.default.max_examples >= THOROUGH else -(-n // 8)
    return settings(max_examples=count, deadline=None)
