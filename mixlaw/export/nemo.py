"""NVIDIA NeMo: `paths` of `PreTrainingDataModule`, a list of weights and prefixes of Megatron's indexed datasets."""

import yaml

from mixlaw.export.blend import Blend
from mixlaw.export.format import Format


def write(blend: Blend) -> str:
    """Return YAML with `paths: [weight, path, weight, path, ...]`."""
    flat = [part for d in blend.domains for part in (d.weight, d.path)]
    return yaml.safe_dump({"paths": flat}, allow_unicode=True, width=10_000)


NEMO = Format("nemo", "NVIDIA NeMo: PreTrainingDataModule(paths=...), or data_prefix of NeMo 1", False, write)
