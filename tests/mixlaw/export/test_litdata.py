"""LitData reads the exported mixture."""

import runpy
from itertools import islice
from pathlib import Path

import pytest

from mixlaw import export_mixture
from tests.mixlaw.export.realised import LENGTHS, MIXTURE, SAMPLES, check, paths, words

pytest.importorskip("litdata", reason="make trainers installs it")
from litdata.streaming.writer import BinaryWriter


def test_token_shares_of_a_stream(tmp_path: Path) -> None:
    for domain, path in paths(tmp_path).items():
        writer = BinaryWriter(path, chunk_size=500)
        for i in range(SAMPLES):
            writer[i] = words(domain)
        writer.done()
        writer.merge()
    export_mixture(MIXTURE, "litdata", paths=paths(tmp_path), mean_tokens=LENGTHS).save(tmp_path / "blend.py")
    stream = runpy.run_path(str(tmp_path / "blend.py"))["mixture"]()
    check(islice(stream, SAMPLES))
