"""Paths of study files. Imports the standard library only, so that `sweeps.status` starts fast."""

import os
from pathlib import Path


def studies() -> Path:
    """Return the folder of new study files: study/ below $MIXLAW_CONFIGS, else sweeps/study."""
    return Path(os.environ.get("MIXLAW_CONFIGS") or Path(__file__).resolve().parent) / "study"


def path_of(name: str) -> Path:
    """Return the file of `study=NAME`: the shipped one if it exists, because Hydra finds it first."""
    shipped = Path(__file__).resolve().parent / "study" / f"{name}.yaml"
    return shipped if shipped.exists() else studies() / shipped.name
