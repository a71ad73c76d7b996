"""Folders of configurations: the checkout, and the user's folder $MIXLAW_CONFIGS with data/, study/, ..."""

import os
from pathlib import Path

from mixlaw.errors import ConfigError
from mixlaw.paths import expand_path

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
SHIPPED = ROOT / "sweeps"  # default of $MIXLAW_CONFIGS
OWN = "MIXLAW_CONFIGS"
os.environ.setdefault("MIXLAW_ROOT", str(ROOT))  # configs/*.yaml refer to both folders by these variables
os.environ.setdefault(OWN, str(SHIPPED))


def own_folder() -> Path:
    """Return $MIXLAW_CONFIGS, or `sweeps/` of the checkout if it is not set.

    Raises
    ------
    ConfigError
        If $MIXLAW_CONFIGS is not a folder.
    """
    folder = Path(expand_path(os.environ.get(OWN) or str(SHIPPED), OWN)).absolute()
    if not folder.is_dir():
        raise ConfigError(f"{OWN}: there is no folder {folder}: create it, or unset the variable")
    os.environ[OWN] = str(folder)  # Hydra reads it from there
    return folder


def config_folders() -> list[Path]:
    """Return all folders of configurations, in Hydra's search order."""
    return list(dict.fromkeys([CONFIGS, SHIPPED, own_folder()]))
