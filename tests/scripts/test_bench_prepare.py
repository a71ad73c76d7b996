"""The bench of the preparation, on a little text."""

from pathlib import Path

import pytest

from tests.commands import call

SIDES = ["mixlaw", "mixlaw-plain", "datasets"]  # datatrove is not among the packages of the tests


@pytest.mark.slow
def test_each_side_is_measured(tmp_path: Path) -> None:
    pytest.importorskip("gigatoken")
    options = ["--mb", "2", "--processes", "1", "--folder", str(tmp_path), "--sides", *SIDES]
    code, out, err = call("-m", "scripts.bench_prepare", *options, timeout=280)
    assert (code, err) == (0, "")
    size, header, *rows = out.splitlines()
    assert size.startswith("2.")
    assert header.split()[:2] == ["side", "processes"]
    assert [row.split()[:2] for row in rows] == [[side, "1"] for side in SIDES]
