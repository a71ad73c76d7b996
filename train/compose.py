"""Composes a command line into a checked plan; mistakes are one-line errors with the closest known name."""

import copy
import dataclasses
import re
import sys
import typing
from collections.abc import Sequence
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data.chosen_files import check_chosen_files
from data.config import to_dataclass
from data.config_folders import CONFIGS, ROOT, config_folders
from data.misread import quoted_home
from data.preparation.inputs import how_to_prepare
from data.store.tokens import Manifest, open_manifest
from data.yaml_files import check_yaml_files
from mixlaw.errors import ConfigError, unknown_name
from mixlaw.paths import expand_path
from train.config import TrainConfig
from train.plan import Plan, make_plan

sys.path.append(str(ROOT / "sweeps"))  # Hydra finds plugins as modules of hydra_plugins on the path
OmegaConf.register_new_resolver("expand_path", expand_path, replace=True)  # for the folder that Hydra makes
_VALUE = re.compile(
    r"(?!hydra\.)([a-z_]+\.[a-z_.]+|seed|study_name|precision)="
)  # value overrides only: no config groups, no `+`
_OPEN = (
    "data.",
    "mixture.phases=",
    "stream.unique_tokens",
    "stream.match_repetition",
)  # YAML files do not list their keys


def compose_config(overrides: Sequence[str]) -> TrainConfig:
    """Return the configuration that `python -m train OVERRIDES` would use.

    Raises
    ------
    ConfigError
        For anything that Hydra or the dataclasses refuse.
    """
    return read_config(_compose(overrides))


def compose_study(jobs: Sequence[Sequence[str]]) -> list[TrainConfig]:
    """Return `compose_config` of every run of a study; parts that runs share are composed once (0.1 s per run).

    Raises
    ------
    ConfigError
        For anything that Hydra or the dataclasses refuse, in any run.
    """
    shared = set(jobs[0]).intersection(*jobs) if jobs else set()
    bases: dict[tuple[str, ...], _Base] = {}
    configs = []
    for job in jobs:
        own = [o for o in job if o not in shared and _VALUE.match(o)]
        base = tuple(o for o in job if o not in own)
        try:
            if len({o.partition("=")[0] for o in job}) < len(job):
                raise ConfigError("a setting is given twice: the order counts")
            if base not in bases:
                bases[base] = _Base(_compose(base))
            configs.append(bases[base].with_values(own))
        except (HydraException, OmegaConfBaseException, ConfigError, AttributeError):
            configs.append(compose_config(job))  # raises the proper error
    return configs


def compose_hydra(overrides: Sequence[str]) -> dict[str, Any]:
    """Return Hydra's own settings of a command line: the launcher, and the sweeper with the grids of a study.

    Raises
    ------
    ConfigError
        For anything that Hydra refuses.
    """
    settings = _compose(overrides, return_hydra_config=True).hydra
    found: Any = {name: OmegaConf.to_container(settings[name]) for name in ("launcher", "sweeper")}
    return dict(found)


class _Base:
    """A configuration that many runs share, composed once; single values can be changed."""

    def __init__(self, cfg: DictConfig) -> None:
        text = str(OmegaConf.to_container(cfg, resolve=False))
        self._sources = {name.partition(".")[0] for name in re.findall(r"\$\{([\w.]+)\}", text)}
        if re.search(r"\$\{(?!oc\.env:)(?![\w.]+\})", text):
            raise ConfigError("a setting is computed from others, which may change")
        self._cfg, self._config = cfg, read_config(cfg)
        self._read: dict[tuple[str, ...], Any] = {}

    def with_values(self, overrides: Sequence[str]) -> TrainConfig:
        """Return the configuration with some values changed; only the groups of these values are converted again."""
        by_name: dict[str, tuple[str, ...]] = {}
        for override in overrides:
            name = re.split(r"[.=]", override, maxsplit=1)[0]
            by_name[name] = (*by_name.get(name, ()), override)
        if self._sources & by_name.keys():
            raise ConfigError("a setting takes its value from another one, which changes")
        for name, own in by_name.items():
            if own not in self._read:
                self._read[own] = self._changed(name, own)
        return dataclasses.replace(self._config, **{name: self._read[own] for name, own in by_name.items()})

    def _changed(self, name: str, overrides: Sequence[str]) -> Any:
        """Return one setting or group of settings after some overrides."""
        kinds: dict[str, Any] = {f.name: f.type for f in dataclasses.fields(TrainConfig)}
        group: Any = copy.deepcopy(self._cfg._get_node(name))
        for override in OverridesParser.create().parse_overrides(list(overrides)):
            rest = override.key_or_group.partition(".")[2]
            if not rest:  # OmegaConf checks the type
                top: Any = OmegaConf.merge(OmegaConf.structured(TrainConfig), {name: override.value()})
                return top[name]
            OmegaConf.update(group, rest, override.value(), merge=True)
        return to_dataclass(kinds[name], group, name)


def _compose(overrides: Sequence[str], return_hydra_config: bool = False) -> DictConfig:
    check_yaml_files(folders := config_folders())
    check_chosen_files(folders, "train", overrides)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return compose("train", [addable(o) for o in overrides], return_hydra_config)
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # ValueError: of Hydra, for `model=3`
        raise ConfigError(explain(error)) from None


def addable(override: str) -> str:
    """Allow overrides of settings that YAML files need not mention; the dataclasses refuse unknown ones."""
    if override.lstrip("+~").startswith("="):
        raise ConfigError(f"{override} names no setting: write <setting>=<value>")
    if "_target_" in override.partition("=")[0]:
        raise ConfigError(f"{override} names code to run: no setting here does")
    override = quoted_home(override)
    return f"++{override}" if override.startswith(_OPEN) else override


def read_config(cfg: DictConfig) -> TrainConfig:
    """Convert a composed configuration to dataclasses."""
    config = to_dataclass(TrainConfig, cfg)
    if not isinstance(config, TrainConfig):
        raise ConfigError(f"the configuration became a {type(config).__name__}")
    return config


def plan_run(config: TrainConfig) -> Plan:
    """Open the prepared data of a configuration, and check the configuration against them.

    Raises
    ------
    MixlawError
        For unprepared or damaged data, or a mixture that the data do not allow.
    """
    return make_plan(config, open_data(config))


def open_data(config: TrainConfig) -> Manifest:
    """Open the prepared data of a configuration.

    Raises
    ------
    MixlawError
        If they were not prepared, or are damaged.
    """
    return open_manifest(config.data.folder, how_to_prepare(config.data))


def explain(error: Exception) -> str:
    """Return a one-line message for an error of Hydra: the unknown name, and the closest known one."""
    text = str(error)
    if match := re.search(r"Could not override '([^']+)'", text):
        inner = error.__cause__
        if (
            match[1].startswith("hydra.")
            and isinstance(inner, OmegaConfBaseException)
            and inner.parent_node is not None
        ):
            return f"{match[1]}: {unknown_name('setting', str(inner.key), map(str, inner.parent_node))}"
        return _unknown_key(match[1])
    if "'hydra/launcher/submitit" in text:
        return "submitit's launchers are an extra: pip install -e '.[cluster]'"
    if match := re.search(r"Could not (?:find|load) '([^']+)'.*?Available options in '([^']+)':\s*(.*)", text, re.S):
        known = [line.strip() for line in match[3].splitlines() if line.strip() and " " not in line.strip()]
        return f"{match[2]}={match[1].split('/')[-1]}: {unknown_name('choice', match[1].split('/')[-1], known)}"
    if match := re.search(r"Could not find '([^']+)'", text):
        return f"unknown choice '{match[1]}': no such file below configs/ or sweeps/"
    if match := re.match(r"(.+)\n\s*full_key: (hydra\.\S+)", text):
        return f"{match[2]}: {match[1]}"
    if text.startswith("Error merging override") and error.__cause__:
        text += f": {str(error.__cause__).splitlines()[0]}"
    return " ".join(line.strip() for line in text.splitlines() if line.strip())[:400]


def _unknown_key(path: str) -> str:
    """Return a message with the first unknown part of a dotted key."""
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
