"""Comments, docstrings, YAML files and prose name only what exists: modules, options, settings, configurations, files.

`test_readmes.py` hands the commands of README files to the real parsers; here are those that stand within other text.
"""

import argparse
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.conf import HydraConf

from data.config_folders import CONFIGS, ROOT
from mixlaw.cli.main import build_parser
from sweeps.slurm import SlurmOptions
from tests.e2e.readmes import inline
from train.config import TrainConfig

FOLDERS = ("configs", "data", "mixlaw", "scripts", "sweeps", "train")
GROUPS = ("data", "experiment", "logging", "machine", "mixture", "model", "optim", "schedule", "study")
OWN_NAMES = r"mine(_\w+)?|big|NAME|STUDY"  # what readers are told to write themselves
LAUNCHERS = {"local", "slurm", "basic", "submitit_slurm", "submitit_local"}  # beside those of configs/hydra/launcher
OTHERS = {"pip", "pytest", "venv", "build", "wandb", "mypy", "ruff", "json", "zipfile"}  # modules of other people
OF_HYDRA = {"--cfg", "--dry-run", "--multirun", "--config-dir"}
OF_TORCHRUN = {"--nproc-per-node", "--nnodes"}


def documented() -> dict[str, str]:
    """Return the text of everything that a person reads to learn commands, by file."""
    texts = {name: (ROOT / name).read_text() for name in ("README.md", "CONTRIBUTING.md", "Makefile")}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in (".py", ".yaml", ".sh", ".sbatch", ".md"):
                texts[str(path.relative_to(ROOT))] = path.read_text()
    return texts


TEXTS = documented()


def found(pattern: str) -> Iterator[tuple[str, re.Match[str]]]:
    """Yield every match of a pattern, and the file that it is in."""
    for name, text in TEXTS.items():
        for match in re.finditer(pattern, text):
            yield name, match


def test_every_kind_of_file_is_read() -> None:
    kinds = {"README.md", "train/__main__.py", "configs/data/own_files.yaml", "scripts/slurm/train.sbatch", "Makefile"}
    assert kinds <= TEXTS.keys()


@pytest.mark.parametrize("group", [*GROUPS, "hydra/launcher"])
def test_configurations_that_are_named_exist(group: str) -> None:
    known = {str(p.relative_to(CONFIGS / group).with_suffix("")) for p in (CONFIGS / group).rglob("*.yaml")}
    known |= {p.stem for p in (ROOT / "sweeps" / "study").glob("*.yaml")} if group == "study" else set()
    known |= LAUNCHERS if group == "hydra/launcher" else set()
    named = set()
    for name, match in found(rf"(?<![\w/.-]){group}=([A-Za-z][\w/.-]*)(?![\w({{\[=])"):
        choice = match[1].rstrip(".").removesuffix("_")
        code = name.endswith((".py", ".sh")) and re.search(r"\w\($|[(,]\s*$", TEXTS[name][: match.start()])
        if not code and not re.fullmatch(OWN_NAMES, choice) and "\\" not in match[0]:
            named.add(choice)
            assert choice in known, f"{name}: {match[0]} does not exist; known: {sorted(known)}"
    assert named or group in ("machine", "optim", "schedule")


def test_models_in_lists_exist() -> None:
    for name, match in found(r"--models ([\w,]+)"):
        for model in match[1].split(","):
            assert (CONFIGS / "model" / f"{model}.yaml").exists() or model == "M", f"{name}: {match[0]}"


def modules() -> Iterator[tuple[str, str, str]]:
    """Yield (file, module, rest of the line) of every `python -m ...`."""
    for name, match in found(r"(?:python3?|PY\)?|torchrun [^\n]*) -m ([a-z_]+(?:\.[a-z_]+)*)([^\n`]*)"):
        if match[1].split(".")[0] not in OTHERS:
            yield name, match[1], match[2]


def source_of(module: str) -> Path:
    path = ROOT / module.replace(".", "/")
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def test_modules_that_are_named_exist() -> None:
    named = {module for name, module, _ in modules() if source_of(module).exists() or pytest.fail(f"{name}: {module}")}
    assert {"train", "data.prepare", "data.preview", "sweeps.plan", "sweeps.status", "train.export"} <= named


def test_options_of_modules_exist() -> None:
    for name, module, rest in modules():
        for option in re.findall(r"(?<=[\s\[])--[a-z][\w-]*", rest.split("  #")[0].split("&&")[0]):
            known = f'"{option}"' in source_of(module).read_text() or (module == "train" and option in OF_HYDRA)
            assert known or option in OF_TORCHRUN, f"{name}: python -m {module} has no {option}"


def test_commands_of_the_fitter_exist_with_their_options() -> None:
    parser = build_parser()
    [action] = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for name, match in found(r"(?:^|[\s`$])mixlaw ([a-z]+) ([^\n`]*)"):
        if match[1] not in action.choices:
            assert not re.search(r"--\w", match[2]), f"{name}: mixlaw {match[1]}"
            continue
        known = action.choices[match[1]]._option_string_actions
        for option in re.findall(r"(?<=[\s\[])--[a-z][\w-]*", match[2].split("  #")[0].split("&&")[0]):
            assert option in known, f"{name}: mixlaw {match[1]} has no {option}"


def settings_of(cls: Any, prefix: str = "") -> set[str]:
    """Return the dotted names of all settings of a dataclass."""
    names = set()
    for field in dataclasses.fields(cls):
        name = f"{prefix}{field.name}"
        names |= {name} | (settings_of(field.type, f"{name}.") if dataclasses.is_dataclass(field.type) else set())
    return names


def test_settings_that_are_named_exist() -> None:
    known = settings_of(TrainConfig) | settings_of(SlurmOptions, "hydra.launcher.") | settings_of(HydraConf, "hydra.")
    known |= {"model.typo", "hydra.launcher.n_jobs"}  # an example; of the local launcher
    groups = "|".join({name.split(".")[0] for name in known})
    for name, match in found(rf"(?<![\w/.-])((?:{groups})\.[a-z_]+(?:\.[a-z_]+)*)(?:=)(?!=)"):
        of_a_domain = re.match(r"data\.(domains|targets)\.", match[1])
        code = name.endswith((".py", ".sh")) and not re.search(r"[`'\"]", TEXTS[name][: match.start()].splitlines()[-1])
        assert match[1] in known or of_a_domain or code, f"{name}: there is no setting {match[1]}"


def test_settings_in_the_prose_of_readmes_exist() -> None:
    known = settings_of(TrainConfig) | settings_of(SlurmOptions, "hydra.launcher.") | settings_of(HydraConf, "hydra.")
    known.add("hydra.launcher.n_jobs")  # of the local launcher
    groups = {name.split(".")[0] for name in known if "." in name}
    named = []
    for file, line, token in inline("code_inline"):
        name = re.match(r"[a-z_]+(?:\.(?!py$)[a-z_]+)+(?=$|=)", token.content)
        if name and name[0].split(".")[0] in groups and not source_of(name[0]).exists():
            named.append(name[0])
            assert name[0] in known, f"{file}:{line}: there is no setting {name[0]}"
    assert len(named) > 20


def test_scripts_and_targets_that_are_named_exist() -> None:
    for name, match in found(r"(?<![\w/.-])(?:bash |sbatch |`)(scripts/[\w./-]+\w)"):
        assert (ROOT / match[1]).exists(), f"{name}: {match[1]}"
    targets = set(re.findall(r"^([a-z][\w-]*):", TEXTS["Makefile"], re.M))
    for name, match in found(r"`make ([a-z][\w-]*)"):
        assert match[1] in targets, f"{name}: make {match[1]}"
