"""The trainer of this repository reads the exported mixture."""

from pathlib import Path

import pytest

from mixlaw import Mixture, export_mixture

pytest.importorskip("hydra", reason="mixlaw[train] has it")

MIXTURE = Mixture.of({"code": 0.1234567, "docs": 0.8765433, "dict": 0.0})


def test_the_trainer_composes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from train.compose import compose_config

    monkeypatch.setenv("MIXLAW_CONFIGS", str(tmp_path))
    export_mixture(MIXTURE, "hydra").save(tmp_path / "mixture" / "big.yaml")
    assert compose_config(["mixture=big"]).mixture.weights == {"code": 0.1235, "docs": 0.8765}
