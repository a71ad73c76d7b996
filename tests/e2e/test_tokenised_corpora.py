"""The road of "Tokenised corpora without a copy": four Megatron files to a study that has run."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.commands import call
from tests.data.store.formats.by_hand import write_megatron
from tests.e2e.readmes import blocks, split

SMALL = {  # settings that make the commands short
    "train": ["schedule.n_tokens=20480", "schedule.warmup_tokens=2048"],
    "sweeps.plan": ["--models=text_70k,text_136k,text_234k", "--flops=3.1e11", "--tokens-per-param=0.04"],
}
SEQUENCES = ["stream.seq_len=16", "stream.batch_size=4"]
GUIDE = "data/preparation/README.md"
N_SYMBOLS = 1024


def write_corpora(folder: Path) -> None:
    """Write two files per domain, whose tokens follow Zipf's law in one half of the vocabulary each."""
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(1, 401)
    for name, first in (("web", 1), ("code", 512)):
        (folder / name).mkdir(parents=True)
        for i in range(2):
            tokens = [first + rng.choice(400, rng.integers(50, 800), p=shares / shares.sum()) for _ in range(500)]
            write_megatron(folder / name / f"part_{i}_text_document", [[*ids, 0] for ids in tokens], "uint16")


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Return a folder with the four files, and with the README's configuration of them in conf/."""
    write_corpora(tmp_path / "tokenised")
    text = next(b.text for b in blocks("yaml") if b.file == GUIDE and "reader: megatron" in b.text)
    facts = yaml.safe_load(text.replace("/data/tokenised", str(tmp_path / "tokenised")))
    facts["tokenizer"]["vocab_size"] = N_SYMBOLS
    for group in ("data", "study"):
        (tmp_path / "conf" / group).mkdir(parents=True)
    (tmp_path / "conf/data/mine.yaml").write_text(yaml.safe_dump(facts))
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_four_megatron_files_become_a_study_that_has_run(own: Path) -> None:
    block = next(b for b in blocks("sh") if b.file == GUIDE and "study=mine" in b.text)
    road = [c.words[2:] for line in block.text.splitlines() for c in split(block.file, block.line, line)]
    shown: list[tuple[str, str]] = []
    for module, *words in road:
        more = SMALL.get(module, []) if "study=mine" not in words else []
        more = more + SEQUENCES if module == "sweeps.plan" else more
        more = [*more, f"machine.runs={own}/runs"] if module == "train" else more
        given = [f"{own}/runs/mine" if module == "sweeps.status" and word == "mine" else word for word in words]
        environment = {"MIXLAW_CONFIGS": f"{own}/conf", "MIXLAW_CACHE": f"{own}/cache"}
        code, out, err = call("-m", module, *given, *more, timeout=900, **environment)
        assert code == 0, err
        assert "not read" not in err
        shown.append((module, out))
    modules, printed = zip(*shown, strict=True)
    assert modules == ("data.prepare", "data.preview", "train", "sweeps.plan", "train", "sweeps.status")
    assert "web     train      1,000" in printed[0]
    assert " finished" in printed[2]
    assert "22 runs: 22 done" in printed[5]
