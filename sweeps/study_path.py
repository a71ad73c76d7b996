"""Where study files are; needs nothing, so that a status can be told at once."""

import os
from pathlib import Path


def studies() -> Path:
    """Return the folder of study files: study/ below $MIXLAW_CONFIGS, a folder of your own, or else sweeps/study."""
    return Path(os.environ.get("MIXLAW_CONFIGS") or Path(__file__).resolve().parent) / "study"


def path_of(name: str) -> Path:
    """Return the file that `study=NAME` means: the shipped one where there is one, as Hydra finds it first."""
    shipped = Path(__file__).resolve().parent / "study" / f"{name}.yaml"
    return shipped if shipped.exists() else studies() / shipped.name
