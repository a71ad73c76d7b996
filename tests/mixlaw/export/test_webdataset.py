"""WebDataset reads the exported mixture."""

import gc
import random
import runpy
from itertools import islice
from pathlib import Path

import pytest

from mixlaw import export_mixture
from tests.mixlaw.export.realised import LENGTHS, MIXTURE, SAMPLES, check, paths, words

wds = pytest.importorskip("webdataset", reason="mixlaw[train] has it")


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # an endless stream leaves its last shards open
def test_token_shares_of_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = {domain: f"{path}-{{0..1}}.tar" for domain, path in paths(tmp_path).items()}
    for domain, pattern in shards.items():
        for shard in range(2):
            with wds.TarWriter(pattern.replace("{0..1}", str(shard))) as out:
                for i in range(50):
                    out.write({"__key__": f"{shard}-{i}", "txt": words(domain)})
    export_mixture(MIXTURE, "webdataset", paths=shards, mean_tokens=LENGTHS).save(tmp_path / "blend.py")
    random.seed(1)
    stream = runpy.run_path(str(tmp_path / "blend.py"))["mixture"]()
    check(sample["txt"].decode() for sample in islice(stream, SAMPLES))
    gc.collect()
