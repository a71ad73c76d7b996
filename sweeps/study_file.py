"""Study files: what `sweeps.plan` writes, and what it reads of any study to go on with it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from data.yaml_files import MAX_BYTES
from mixlaw.errors import ConfigError
from mixlaw.mixture import hydra_override
from sweeps.grids import combinations

_MIXTURE = ("mixture", "mixture.weights", "mixture.named", "seed")  # what runs of one size differ in


@dataclass(frozen=True)
class Shape:
    """What runs of one size and length share: the overrides that make them."""

    overrides: tuple[str, ...]

    @property
    def key(self) -> str:
        """The overrides as one cell of a table."""
        return "\t".join(self.overrides)

    @property
    def label(self) -> str:
        """How a table calls it: the model, or else everything."""
        values = dict(o.partition("=")[::2] for o in self.overrides)
        return values.get("model") or values.get("experiment") or " ".join(self.overrides) or "the default model"


def shapes_of(path: Path) -> tuple[str, list[Shape]]:
    """Return the folder that a study's runs are in, and every size and length that it trains.

    Raises
    ------
    ConfigError
        If there is no such study, or it cannot be read.
    """
    name, jobs = _jobs_of(path)
    found = dict.fromkeys(tuple(o for o in job if o.partition("=")[0] not in _MIXTURE) for job in jobs)
    return name, [Shape(overrides) for overrides in found]


def mixtures_of(path: Path) -> dict[str, set[tuple[tuple[str, float], ...]]]:
    """Return shape -> the mixtures that a study file gives it, each as its domains and weights in order of names."""
    found: dict[str, set[tuple[tuple[str, float], ...]]] = {}
    for job in _jobs_of(path)[1]:
        shape = Shape(tuple(o for o in job if o.partition("=")[0] not in _MIXTURE))
        for override in OverridesParser.create().parse_overrides([o for o in job if o.startswith("mixture.weights=")]):
            weights = override.value()
            if isinstance(weights, dict):
                pairs = sorted((str(d), round(float(w), 3)) for d, w in weights.items())
                found.setdefault(shape.key, set()).add(tuple(pairs))
    return found


def _jobs_of(path: Path) -> tuple[str, list[list[str]]]:
    study = _read(path)
    return str(study.get("study_name", path.stem)), combinations(*_grids(study))


def grids_of(path: Path) -> tuple[Mapping[str, str], Sequence[Mapping[str, str]]]:
    """Return what a study sweeps over: the settings of all grids, and those of each.

    Raises
    ------
    ConfigError
        If there is no such study, or it cannot be read.
    """
    return _grids(_read(path))


def _grids(study: Mapping[str, Any]) -> tuple[Mapping[str, str], Sequence[Mapping[str, str]]]:
    sweeper = (study.get("hydra") or {}).get("sweeper") or {}
    return sweeper.get("params") or {}, sweeper.get("grids") or []


def _read(path: Path) -> dict[str, Any]:
    try:
        study = OmegaConf.to_container(OmegaConf.load(path))
    except FileNotFoundError:
        raise ConfigError(f"there is no study {path}: plan it without --next first") from None
    except (OmegaConfBaseException, YAMLError, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(study, dict):
        raise ConfigError(f"{path} is no study: it holds no settings")
    return {str(key): value for key, value in study.items()}


def write_study(
    path: Path,
    name: str,
    about: Sequence[str],
    shared: Mapping[str, str],
    runs: pd.DataFrame,
    domains: Sequence[str],
    after: str = "",
) -> None:
    """Write one study file.

    Parameters
    ----------
    path : sweeps/study/NAME.yaml
    name : the folder of the runs, below machine.runs
    about : lines of the comment at the top
    shared : setting -> value, in every run
    runs : shape (the key of one), seed and weight_<domain> of every run
    after : a study whose settings, but not whose runs, this one has

    Raises
    ------
    ConfigError
        If the file would be larger than any configuration may be.
    """
    lines = ["# @package _global_", *(f"# {line}".rstrip() for line in about)]
    lines += ["defaults:", f"  - {after}", "  - _self_", ""] if after else []
    lines += [f"study_name: {name}", ""]
    lines += ["hydra:", "  mode: MULTIRUN", "  sweeper:"]
    lines += ["    params:", *(f"      {k}: {json.dumps(str(v))}" for k, v in shared.items())] if shared else []
    lines += ["    grids:"]
    for shape, group in runs.groupby("shape", sort=False):
        for seeds, some in _by_seeds(group, domains):
            pairs = (o.partition("=")[::2] for o in str(shape).split("\t"))
            grid = {key: value for key, value in pairs if key not in shared}
            grid |= {"seed": ", ".join(map(str, seeds))} if seeds != (0,) or after else {}
            first, *rest = [f"{k}: {json.dumps(v)}" for k, v in grid.items()] + ["mixture.weights: >-"]
            lines += [f"      - {first}", *(f"        {line}" for line in rest)]
            lines += [f"          {mixture}{',' * (i < len(some) - 1)}" for i, mixture in enumerate(some)]
    text = "\n".join(lines) + "\n"
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{len(runs)} runs make a study file of {len(text):,} bytes; the most is {MAX_BYTES:,}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _by_seeds(group: pd.DataFrame, domains: Sequence[str]) -> list[tuple[tuple[int, ...], list[str]]]:
    """Return mixtures that have the same seeds, as Hydra takes them, in their order."""
    seeds: dict[str, list[int]] = {}
    for row in group.to_dict("records"):
        weights = {d: float(row[f"weight_{d}"]) for d in domains}
        seeds.setdefault(hydra_override(weights, 3).partition("=")[2], []).append(int(row["seed"]))
    found: dict[tuple[int, ...], list[str]] = {}
    for mixture, own in seeds.items():
        found.setdefault(tuple(own), []).append(mixture.replace(":", ": ").replace(",", ", "))
    return list(found.items())
