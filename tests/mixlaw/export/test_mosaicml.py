"""MosaicML Streaming reads the exported mixture."""

from pathlib import Path

import pytest
import yaml

from mixlaw import export_mixture
from tests.mixlaw.export.realised import LENGTHS, MIXTURE, SAMPLES, check, paths, words

streaming = pytest.importorskip("streaming", reason="make trainers installs it")


def test_token_shares_of_an_epoch(tmp_path: Path) -> None:
    for domain, path in paths(tmp_path).items():
        with streaming.MDSWriter(out=path, columns={"text": "str"}) as out:
            for _ in range(50):
                out.write({"text": words(domain)})
    export_mixture(MIXTURE, "mosaicml", paths=paths(tmp_path), mean_tokens=LENGTHS).save(tmp_path / "blend.yaml")
    streams = yaml.safe_load((tmp_path / "blend.yaml").read_text())["streams"]
    parts = [streaming.Stream(**arguments) for arguments in streams.values()]
    data = streaming.StreamingDataset(streams=parts, epoch_size=SAMPLES, batch_size=1)
    check(sample["text"] for sample in data)
