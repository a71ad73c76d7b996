"""Where other people's measurements lie; they are never part of the project."""

from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data"


def real_table(name: str) -> Path:
    """Return the path of a table, or skip the test with a sentence."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"the measurements of others are not here: {path} does not exist")
    return path
