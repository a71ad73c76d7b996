"""Where configurations come from: the checkout, and the user's own folder, $MIXLAW_CONFIGS, with data/, study/, ..."""

import os
from pathlib import Path

from mixlaw.errors import ConfigError
from mixlaw.paths import expand_path

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
SHIPPED = ROOT / "sweeps"  # what $MIXLAW_CONFIGS is where the user has no folder
OWN = "MIXLAW_CONFIGS"
os.environ.setdefault("MIXLAW_ROOT", str(ROOT))  # configs/*.yaml find both folders by these, from any working folder
os.environ.setdefault(OWN, str(SHIPPED))


def own_folder() -> Path:
    """Return the user's folder, or `sweeps/` of the checkout where $MIXLAW_CONFIGS is not set.

    Raises
    ------
    ConfigError
        If $MIXLAW_CONFIGS names no folder.
    """
    folder = Path(expand_path(os.environ.get(OWN) or str(SHIPPED), OWN)).absolute()
    if not folder.is_dir():
        raise ConfigError(f"{OWN}: there is no folder {folder}: create it, or unset the variable")
    os.environ[OWN] = str(folder)  # as Hydra reads it
    return folder


def config_folders() -> list[Path]:
    """Return every folder that configurations come from, in the order in which Hydra searches them."""
    return list(dict.fromkeys([CONFIGS, SHIPPED, own_folder()]))
