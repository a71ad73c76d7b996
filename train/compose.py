"""From a command line to a checked plan, every mistake becoming one sentence with the near match."""

import dataclasses
import os
import re
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from data.config import to_dataclass
from data.shards import open_manifest
from data.yaml_files import check_yaml_files
from mixlaw.errors import ConfigError, unknown_name
from train.config import TrainConfig
from train.plan import Plan, make_plan

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
os.environ.setdefault("MIXLAW_ROOT", str(ROOT))  # configs/train.yaml finds sweeps/study by it, from any folder
sys.path.append(str(ROOT / "sweeps"))  # Hydra finds plugins as modules of hydra_plugins on the path


def compose_config(overrides: Sequence[str]) -> TrainConfig:
    """Return the configuration that `python -m train OVERRIDES` would use.

    Raises
    ------
    ConfigError
        For anything that Hydra or the dataclasses refuse.
    """
    check_yaml_files([CONFIGS, ROOT / "sweeps"])
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            cfg = compose("train", overrides=[addable(o) for o in overrides])
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError: of Hydra, for `model=3`
        raise ConfigError(explain(error)) from None
    return read_config(cfg)


def addable(override: str) -> str:
    """Let a setting of the data be given that its YAML leaves out; the dataclasses refuse one that does not exist."""
    if override.lstrip("+~").startswith("="):
        raise ConfigError(f"{override} names no setting: write <setting>=<value>")
    if "_target_" in override.partition("=")[0]:
        raise ConfigError(f"{override} names code to run: no setting here does")
    return f"++{override}" if override.startswith("data.") else override


def read_config(cfg: DictConfig) -> TrainConfig:
    """Turn a composed configuration into dataclasses; after this no DictConfig exists."""
    config = to_dataclass(TrainConfig, cfg)
    if not isinstance(config, TrainConfig):
        raise ConfigError(f"the configuration became a {type(config).__name__}")
    return config


def plan_run(config: TrainConfig) -> Plan:
    """Open the prepared data that a configuration names and check the one against the other.

    Raises
    ------
    MixlawError
        Before anything is trained: unprepared or damaged data, or a mixture that the data cannot give.
    """
    manifest = open_manifest(config.data.folder, f"run `python -m data.prepare data={config.data.name}`")
    return make_plan(config, manifest)


def explain(error: Exception) -> str:
    """Return one sentence for an error of Hydra's: what is unknown, and what was probably meant."""
    text = str(error)
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(match[1])
    if match := re.search(r"Could not (?:find|load) '([^']+)'.*?Available options in '([^']+)':\s*(.*)", text, re.S):
        known = [line.strip() for line in match[3].splitlines() if line.strip() and " " not in line.strip()]
        return f"{match[2]}={match[1].split('/')[-1]}: {unknown_name('choice', match[1].split('/')[-1], known)}"
    if match := re.search(r"Could not find '([^']+)'", text):
        return f"unknown choice '{match[1]}': no such file below configs/ or sweeps/"
    return " ".join(line.strip() for line in text.splitlines() if line.strip())[:400]


def _unknown_key(path: str) -> str:
    """Name the first part of a dotted key that no dataclass has."""
    node: Any = TrainConfig
    parts = path.split(".")
    for i, part in enumerate(parts):
        if typing.get_origin(node) is dict:  # a user's own names: any is allowed
            node = typing.get_args(node)[1]
            continue
        fields = {f.name: f.type for f in dataclasses.fields(node)} if dataclasses.is_dataclass(node) else {}
        if part not in fields:
            groups = [p.name for p in CONFIGS.iterdir() if p.is_dir()] + ["study"] if i == 0 else []
            return f"{path}: {unknown_name('setting', part, {*fields, *groups})}"
        node = fields[part]
    return f"{path} cannot be set"
