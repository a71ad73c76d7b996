"""Study files: reads the sizes, mixtures and grids of a study, and writes studies planned by `sweeps.plan`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from data.yaml_files import MAX_BYTES
from mixlaw.errors import ConfigError
from mixlaw.mixture import Mixture, phases_override
from mixlaw.phased_mixture import PhasedMixture
from sweeps.study_path import path_of
from train.grids import combinations

# Settings that differ between runs of one shape.
_MIXTURE = (
    *("mixture", "mixture.weights", "mixture.named", "mixture.phases"),
    *("checkpoint.branch_from", "checkpoint.permanent", "seed"),
)


@dataclass(frozen=True)
class Shape:
    """A model size and run length of a study: the overrides that its runs have in common."""

    overrides: tuple[str, ...]

    @property
    def key(self) -> str:
        """The overrides as one cell of a table."""
        return "\t".join(self.overrides)

    @property
    def label(self) -> str:
        """The name in tables: the model, else all overrides."""
        values = dict(o.partition("=")[::2] for o in self.overrides)
        return values.get("model") or values.get("experiment") or " ".join(self.overrides) or "the default model"


def shapes_of(path: Path) -> tuple[str, list[Shape]]:
    """Return the folder of a study's runs, and its sizes and run lengths.

    Raises
    ------
    ConfigError
        If the study does not exist or cannot be read.
    """
    name, jobs = _jobs_of(path)
    return name, list(dict.fromkeys(shape_of(job) for job in jobs))


def shape_of(job: Sequence[str]) -> Shape:
    """Return the size and run length of a run's overrides."""
    return Shape(tuple(o for o in job if o.partition("=")[0] not in _MIXTURE))


def mixtures_of(path: Path) -> dict[str, set[Mixture]]:
    """Return shape -> its mixtures in a study file, `PhasedMixture` where they change; weights have three digits.

    Raises
    ------
    ConfigError
        If the study cannot be read, or its weights are not a mixture.
    """
    found: dict[str, set[Mixture]] = {}
    for job in _jobs_of(path)[1]:
        own = [o for o in job if o.startswith(("mixture.weights=", "mixture.phases="))]
        for override in OverridesParser.create().parse_overrides(own):
            value, where = override.value(), f"{path}: {override.input_line}"
            if isinstance(value, dict):
                found.setdefault(shape_of(job).key, set()).add(in_thousandths(_mixture(value, where)))
            elif isinstance(value, list) and all(float(phase["until"]) <= 1 for phase in value):
                phases = [_mixture(phase["weights"], where) for phase in value]
                phased = PhasedMixture([phase["until"] for phase in value], phases)
                found.setdefault(shape_of(job).key, set()).add(in_thousandths(phased))
    return found


def _mixture(weights: Mapping[Any, float], where: str) -> Mixture:
    return Mixture.of({str(d): w for d, w in weights.items()}, where=where)


def in_thousandths(mixture: Mixture) -> Mixture:
    """Return a mixture, or one that changes, as study files write it: weights are multiples of 0.001."""
    if isinstance(mixture, PhasedMixture):
        return PhasedMixture(mixture.ends, [in_thousandths(phase) for phase in mixture.phases])
    return Mixture.of({domain: unit / 1000 for domain, unit in mixture.rounded(1000).items()})


def _jobs_of(path: Path) -> tuple[str, list[list[str]]]:
    study = _read(path)
    return str(study.get("study_name", path.stem)), combinations(*_grids(study))


def grids_of(path: Path) -> tuple[Mapping[str, str], Sequence[Mapping[str, str]]]:
    """Return the sweep of a study: the settings common to all grids, and those of each grid.

    Raises
    ------
    ConfigError
        If the study does not exist or cannot be read.
    """
    return _grids(_read(path))


def _grids(study: Mapping[str, Any]) -> tuple[Mapping[str, str], Sequence[Mapping[str, str]]]:
    sweeper = (study.get("hydra") or {}).get("sweeper") or {}
    return sweeper.get("params") or {}, sweeper.get("grids") or []


def _read(path: Path) -> dict[str, Any]:
    """Return the settings of a study, those of the studies that it extends included."""
    study = _read_one(path)
    bases = [name for name in study.get("defaults") or [] if isinstance(name, str) and name != "_self_"]
    beside = [path.with_name(f"{name}.yaml") for name in bases]
    parts = [_read(p if p.exists() else path_of(p.stem)) for p in beside if p != path]
    merged: Any = OmegaConf.to_container(OmegaConf.merge(*parts, study))  # lists, such as the grids, are replaced
    return dict(merged)


def _read_one(path: Path) -> dict[str, Any]:
    try:
        study = OmegaConf.to_container(OmegaConf.load(path))
    except FileNotFoundError:
        raise ConfigError(f"the study {path} does not exist: plan it without --next first") from None
    except (OmegaConfBaseException, YAMLError, OSError) as error:
        raise ConfigError(f"{path} cannot be read: {str(error).splitlines()[0]}") from None
    if not isinstance(study, dict):
        raise ConfigError(f"{path} is not a study: it contains no settings")
    return {str(key): value for key, value in study.items()}


@dataclass(frozen=True)
class StudyFile:
    """The content of a study file besides its runs.

    Attributes
    ----------
    folder : of the runs, below machine.runs
    about : lines of the comment at the top
    shared : setting -> value, the same in all runs
    after : a study whose settings (not its runs) are inherited; '' for none
    settings : further settings of all runs, nested
    """

    folder: str
    about: tuple[str, ...] = ()
    shared: Mapping[str, str] = field(default_factory=dict)
    after: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


def write_study(path: Path, study: StudyFile, runs: pd.DataFrame, domains: Sequence[str]) -> None:
    """Write a study file that Hydra composes as `study=NAME`.

    Parameters
    ----------
    path : sweeps/study/NAME.yaml
    runs : columns shape (`Shape.key`), seed, and weight_<domain> of every run; with phases also until@p and
        weight_<domain>@p, empty for static runs

    Raises
    ------
    ConfigError
        If the file would exceed the size limit of configurations.
    """
    sweeper: dict[str, Any] = {"params": {k: str(v) for k, v in study.shared.items()}} if study.shared else {}
    sweeper["grids"] = [
        grid
        for shape, group in runs.groupby("shape", sort=False)
        for grid in _grids_of_shape(str(shape), group, study, domains)
    ]
    facts: dict[str, Any] = {"defaults": [study.after, "_self_"]} if study.after else {}
    facts |= {"study_name": study.folder, **study.settings, "hydra": {"mode": "MULTIRUN", "sweeper": sweeper}}
    comment = "".join(f"# {line}".rstrip() + "\n" for line in study.about)
    text = f"# @package _global_\n{comment}{OmegaConf.to_yaml(OmegaConf.create(facts))}"
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{len(runs)} runs need a study file of {len(text):,} bytes; the limit is {MAX_BYTES:,}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _grids_of_shape(shape: str, group: pd.DataFrame, study: StudyFile, domains: Sequence[str]) -> list[dict[str, str]]:
    """Return the grids of the runs of one shape: one for each set of seeds."""
    pairs = (o.partition("=")[::2] for o in shape.split("\t"))
    common = {key: value for key, value in pairs if key not in study.shared}
    found = []
    for (seeds, setting), values in _by_seeds(group, domains).items():
        seed = {"seed": ", ".join(map(str, seeds))} if seeds != (0,) or study.after else {}
        found.append(common | seed | {setting: ", ".join(values)})
    return found


def _by_seeds(group: pd.DataFrame, domains: Sequence[str]) -> dict[tuple[tuple[int, ...], str], list[str]]:
    """Return (seeds, setting) -> its values as Hydra writes them; the setting is the mixture or the phases.

    Values contain no spaces, so YAML breaks the long line of a grid between values only.
    """
    seeds: dict[str, list[int]] = {}
    for row in group.to_dict("records"):
        seeds.setdefault(_override(row, domains), []).append(int(row["seed"]))
    found: dict[tuple[tuple[int, ...], str], list[str]] = {}
    for override, own in seeds.items():
        setting, _, value = override.partition("=")
        found.setdefault((tuple(own), setting), []).append(value)
    return found


def _override(row: Mapping[Any, Any], domains: Sequence[str]) -> str:
    """Return the override of a run's mixture or phases."""
    if pd.isna(row.get("until@1")):
        return Mixture(domains, [row[f"weight_{d}"] for d in domains]).hydra_override(3)
    phases = [(row[f"until@{p}"], Mixture(domains, [row[f"weight_{d}@{p}"] for d in domains])) for p in (1, 2)]
    return phases_override(phases, 3)
