"""The bench of big corpora, on small ones."""

import pytest

from tests.commands import call


@pytest.mark.slow  # a process for each stage
@pytest.mark.parametrize("reader", ["megatron", "datatrove"])
def test_every_stage_is_measured(reader: str) -> None:
    options = ["--files", "24", "--tokens", "4.8e6", "--reader", reader]
    code, out, err = call("-m", "scripts.bench_token_files", *options, timeout=240)
    assert (code, err) == (0, "")
    assert "indexed web: 24 files, 4,800 documents, 4,800,000 tokens" in out
    rows = [line.split() for line in out.splitlines() if not line.startswith("  ")]
    assert [row[0] for row in rows] == ["stage", "prepare", "prepare", "open", "steps", "evaluation", "index:"]
