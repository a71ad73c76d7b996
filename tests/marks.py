"""Marks for a part of a test."""

from typing import Any

import pytest


def slow(*values: Any) -> Any:
    """Return parameters that only the slow tests have."""
    return pytest.param(*values, marks=pytest.mark.slow)
