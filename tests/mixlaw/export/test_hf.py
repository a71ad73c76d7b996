"""Hugging Face datasets reads the exported mixture."""

import json
import runpy
from itertools import islice
from pathlib import Path

import pytest

from mixlaw import export_mixture
from tests.mixlaw.export.realised import LENGTHS, MIXTURE, SAMPLES, check, paths, words

pytest.importorskip("datasets", reason="mixlaw[train] has it")


def test_token_shares_of_a_stream(tmp_path: Path) -> None:
    for domain, path in paths(tmp_path).items():
        Path(path).mkdir()
        (Path(path) / "train.jsonl").write_text(f"{json.dumps({'text': words(domain)})}\n" * 50)
    export_mixture(MIXTURE, "hf", paths=paths(tmp_path), mean_tokens=LENGTHS).save(tmp_path / "blend.py")
    stream = runpy.run_path(str(tmp_path / "blend.py"))["mixture"](seed=1)
    check(example["text"] for example in islice(stream, SAMPLES))
