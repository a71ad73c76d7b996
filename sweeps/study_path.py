"""Where study files are. Imports no library, so that `sweeps.status` starts fast."""

import os
from pathlib import Path


def studies() -> Path:
    """Return the folder that new study files go into: study/ below $MIXLAW_CONFIGS, or else sweeps/study."""
    return Path(os.environ.get("MIXLAW_CONFIGS") or Path(__file__).resolve().parent) / "study"


def path_of(name: str) -> Path:
    """Return the file that `study=NAME` means: the shipped one if there is one, because Hydra finds it first."""
    shipped = Path(__file__).resolve().parent / "study" / f"{name}.yaml"
    return shipped if shipped.exists() else studies() / shipped.name
