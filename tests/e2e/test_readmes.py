"""Every command of every README: options parsed by the real parsers, settings composed by Hydra, short ones run.

Names that readers are told to choose themselves (`mine`, `STUDY`, `big`) are configurations of a temporary folder in
$MIXLAW_CONFIGS. The study `mine` is the YAML block of sweeps/README.md.
"""

import argparse
import importlib
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from torch.distributed.run import get_args_parser

from data.prepare import compose_config as compose_data
from data.prepare import slurm_options
from mixlaw.cli.main import COMMANDS as MIXLAW_COMMANDS
from mixlaw.cli.main import main as mixlaw
from mixlaw.tables.examples import small_study
from sweeps.plan import check_options
from sweeps.plan import parser as plan_parser
from tests.commands import call
from tests.e2e.readmes import LANGUAGES, ROOT, Block, Command, blocks, commands, inline
from tests.marks import slow
from train.compose import compose_hydra, compose_study
from train.grids import combinations

STUDIES = ("mine", "mine_seeds", "mine_heldout", "mine_next1", "NAME", "STUDY")
PYTHON = ("python", "python3")
OPTIONS_OF_HYDRA = ("--cfg", "--multirun", "-m", "--config-dir", "--dry-run")
OF_THE_SHELL = ("export", "cd", "git", "source")
COMMANDS = commands()
DIFFERENT = list({(command.words, command.complete): command for command in reversed(COMMANDS)}.values())
OWN_CONFIGURATION = re.compile(r"(.*/)?(mine(_\w+)?|big)\.yaml")


class Parsed(BaseException):
    """A command line was parsed; what it would do is not done."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options


@pytest.fixture
def parse_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every command stop as soon as its own parser has read the command line."""
    for name in ("parse_args", "parse_intermixed_args"):
        monkeypatch.setattr(argparse.ArgumentParser, name, stopping(getattr(argparse.ArgumentParser, name)))


def stopping(read: Callable) -> Callable:
    """Return a parser's method that parses, and then stops the command."""

    def parse(*args: Any) -> None:
        raise Parsed(read(*args))

    return parse


@pytest.fixture(scope="module")
def own_configurations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the configurations that readers are told to write."""
    folder = tmp_path_factory.mktemp("configs")
    for group in ("data", "study", "mixture"):
        (folder / group).mkdir()
    own_files = (ROOT / "configs/data/own_files.yaml").read_text()
    (folder / "data/mine.yaml").write_text(re.sub(r"\?\?\?|\$\{oc.env:WEB_FILES\}", "/data/x", own_files))
    (folder / "mixture/big.yaml").write_text("named: ''\nweights: {web: 0.4, books: 0.6}\n")
    for name in ("one", "two"):
        (folder / f"mixture/{name}.yaml").write_text((ROOT / "configs/mixture/natural.yaml").read_text())
    study, *more = [block.text for block in blocks("yaml") if block.file == "sweeps/README.md"]
    written = {name: study.replace("study_name: mine", f"study_name: {name}") for name in STUDIES}
    for name, text in (written | {re.findall(r"study_name: (\w+)", text)[0]: text for text in more}).items():
        (folder / f"study/{name}.yaml").write_text(text)
    return folder


@cache
def sweeper_of(choices: tuple[str, ...]) -> dict[str, Any]:
    """Return the sweeper's settings on a command line; one's own configurations are the same in all tests."""
    sweeper: dict[str, Any] = compose_hydra(choices)["sweeper"]
    return sweeper


@pytest.fixture
def composed(own_configurations: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], None]:
    """Return a function that composes every run of a command line of the trainer."""
    monkeypatch.setenv("MIXLAW_CONFIGS", str(own_configurations))

    def compose(overrides: Sequence[str]) -> None:
        sweeper = sweeper_of(tuple(o for o in overrides if o.startswith(("study=", "hydra"))))
        own = [o for o in overrides if not o.startswith("hydra")]
        assert compose_study(combinations(sweeper.get("params") or {}, sweeper.get("grids") or [], own))

    return compose


def settings_of(words: Sequence[str]) -> list[str]:
    """Return the settings on a command line of the trainer, and check that its options are Hydra's."""
    options = [word for word in words if word.startswith("-")]
    assert all(option.partition("=")[0] in OPTIONS_OF_HYDRA for option in options), options
    return [word for word in words if "=" in word and not word.startswith("-")]


def check_module(words: Sequence[str], compose: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check `python -m MODULE ARGUMENTS`."""
    module, *arguments = words
    if module == "train":
        return compose(settings_of(arguments))
    if module in ("pytest", "mixlaw"):
        return parsed(mixlaw, arguments) if module == "mixlaw" else check_paths(arguments)
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file(), f"there is no module {module}"
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    options = parsed(importlib.import_module(module).main)
    if module in ("data.prepare", "data.preview"):
        compose_data(slurm_options(options.overrides)[1])
    elif module == "train.memory":
        compose(options.overrides)
    elif module == "sweeps.plan":
        check_options(options, plan_parser())
        compose(options.overrides)
    return None


def parsed(main: Callable, *arguments: Sequence[str]) -> argparse.Namespace:
    """Return what a command's own parser makes of the command line."""
    try:
        main(*arguments)
    except Parsed as stop:
        return stop.options
    pytest.fail("the command did not parse its options")


def check_paths(words: Sequence[str]) -> None:
    for word in words:
        assert word.startswith("-") or (ROOT / word.partition("::")[0]).exists(), f"there is no {word}"


def check_pip(words: Sequence[str]) -> None:
    """Check that the extras that `pip install` names exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for word in words:
        if match := re.fullmatch(r"(?:\.|mixlaw)\[([\w,]+)\]", word):
            assert set(match[1].split(",")) <= project["optional-dependencies"].keys(), word
        else:
            assert word in ("install", "-e", ".", "mixlaw"), word


def check_docker(words: Sequence[str]) -> None:
    if words[0] == "build" and "--target" in words:
        target = words[words.index("--target") + 1]
        assert re.search(rf"^FROM \S+ AS {target}$", (ROOT / "Dockerfile").read_text(), re.M), target


def check_torchrun(words: Sequence[str], compose: Callable) -> None:
    options = parsed(get_args_parser().parse_args, list(words))
    assert options.module
    assert options.training_script == "train"
    compose(settings_of(options.training_script_args))


def check_sbatch(words: Sequence[str], compose: Callable) -> None:
    script = next(i for i, word in enumerate(words) if not word.startswith("-"))
    check_paths(words[script : script + 1])
    compose(settings_of(words[script + 1 :]))


def check_make(words: Sequence[str]) -> None:
    done = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def check_in_container(words: Sequence[str], compose: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check what docker, apptainer or srun start, where that is Python."""
    start = next((i for i, word in enumerate(words) if word in PYTHON), len(words) - 2)
    if words[start] in PYTHON:
        assert words[start + 1] == "-m"
        check_module(words[start + 2 :], compose, monkeypatch)


def of_a_study(command: Command) -> bool:
    """Return whether a command composes the runs of a study, up to 10 s; those of the front page are fast."""
    return command.file != "README.md" and any(word.startswith("study=") for word in command.words)


@pytest.mark.usefixtures("parse_only")
@pytest.mark.parametrize("command", [slow(c) if of_a_study(c) else c for c in DIFFERENT], ids=str)
def test_a_command_is_one_that_its_program_takes(
    command: Command,
    composed: Callable[[Sequence[str]], None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    try:
        check(command.words, composed, monkeypatch)
    except SystemExit as stop:
        said = capfd.readouterr().err
        if stop.code and (command.complete or "arguments are required" not in said):
            pytest.fail(said)
        if stop.code:
            check_mention(command.words, composed, monkeypatch, capfd)


def check_mention(
    words: Sequence[str],
    composed: Callable[[Sequence[str]], None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Check that the help of a command has the options that are mentioned with it."""
    with pytest.raises(SystemExit):
        check([*words, "--help"], composed, monkeypatch)
    mentioned = {word for word in words if word.startswith("--")}
    assert mentioned <= {*re.findall(r"--[a-z][\w-]*", capfd.readouterr().out)}


def check(command: Sequence[str], composed: Callable[[Sequence[str]], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """Check one command line, up to what its program would do."""
    program, *words = command
    if program == "mixlaw":
        parsed(mixlaw, words)
    elif program in PYTHON:
        assert words[0] == "-m"
        check_module(words[1:], composed, monkeypatch)
    elif program == "torchrun":
        check_torchrun(words, composed)
    elif program == "sbatch":
        check_sbatch(words, composed)
    elif program == "make":
        check_make(words)
    elif program == "pip":
        check_pip(words)
    elif program in ("docker", "apptainer", "srun"):
        check_docker(words)
        check_in_container(words, composed, monkeypatch)
    elif "/" in program:
        assert shutil.which(str(ROOT / program)), f"{program} is no program of the checkout"
    else:
        assert program in OF_THE_SHELL, f"{program}: the tests do not know this program"


def test_options_in_the_prose_of_the_fitter_s_readmes_are_in_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    for name in MIXLAW_COMMANDS:
        with pytest.raises(SystemExit):
            mixlaw([name, "--help"])
    known = {*re.findall(r"--[a-z][\w-]*", capsys.readouterr().out)}
    named = [
        (f, n, *re.findall(r"^--[a-z][\w-]*", t.content))
        for f, n, t in inline("code_inline")
        if f.startswith("mixlaw/")
    ]
    options = [found for found in named if len(found) == 3]
    assert len(options) > 20
    assert [found for found in options if found[2] not in known] == []


def test_commands_of_all_kinds_are_found() -> None:
    programs = {command.words[0] for command in COMMANDS}
    assert {"mixlaw", "python", "make", "pip", "sbatch", "torchrun", "docker", "scripts/sync_wandb.sh"} <= programs
    assert {"README.md", "mixlaw/README.md", "train/README.md", "sweeps/README.md"} <= {c.file for c in COMMANDS}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files that the fitter's README speaks of: a table, and its fitted laws and curves."""
    folder = tmp_path_factory.mktemp("desk")
    names = {"weight_code": "weight_code", "weight_docs": "weight_wiki", "loss_main": "loss_web"}
    frame = small_study().frame.drop(columns="row").rename(columns=names)
    frame = frame.assign(loss_reviews=frame["loss_web"] + 0.1, loss_code=frame["loss_web"] - 0.1)
    frame = frame.assign(acc_quiz=100 * (0.25 + 0.7 / (1 + np.exp(4 * (frame["loss_web"] - frame["loss_web"].mean())))))
    frame = frame.assign(available_code=6e10, available_web=2e11, available_wiki=2.4e10)
    for name in ("table.csv", "new_runs.csv"):
        frame.to_csv(folder / name, index=False)
    fit = ["fit", "table.csv", "--law", "additive,simple", "--n-bootstrap", "8", "--out", "laws.json"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert mixlaw(fit) == 0
        score = ["--loss", "loss_web", "--score", "acc_quiz", "--chance", "1/4"]
        assert mixlaw(["benchmarks", "table.csv", *score, "--out", "benchmarks.json"]) == 0
    return folder


READS = ("table.csv", "new_runs.csv", "laws.json", "example:")
SHORT = [
    command
    for command in COMMANDS
    if command.complete and command.words[0] == "mixlaw"
    if command.words[1] == "laws" or command.words[2].startswith(READS)
]


def tiered(found: Sequence[Command]) -> list[Any]:
    """Return different commands as cases; those that fit laws or draw a report are slow."""
    cases = {command.words: command for command in found}
    return [slow(c) if {"example:text", "compare", "fit", "report"} & {*w} else c for w, c in cases.items()]


@pytest.mark.parametrize("command", tiered(SHORT), ids=str)
def test_a_short_command_does_what_it_says(
    command: Command, desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for path in desk.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs/mixture").mkdir(parents=True)
    code = mixlaw(list(command.words[1:]))
    assert code == 0, capfd.readouterr().err
    if "--out" in command.words:
        assert (tmp_path / command.words[command.words.index("--out") + 1]).stat().st_size > 0


def test_short_commands_are_found() -> None:
    assert {"check", "fit", "compare", "predict", "recommend", "plot", "report", "laws"} <= {c.words[1] for c in SHORT}


@pytest.fixture
def own_files(own_configurations: Path, tmp_path: Path) -> dict[str, str]:
    """Return the environment in which `data=mine` is the template for one's own files, with files that are there."""
    rng = np.random.default_rng(0)
    words = np.array(["".join(rng.choice(list("abcdefgh"), rng.integers(2, 9))) for _ in range(9000)])
    texts = {name: [" ".join(rng.choice(words, 100)) for _ in range(n)] for name, n in (("web", 3000), ("books", 3000))}
    folder = tmp_path / "files"
    folder.mkdir()
    pd.DataFrame({"text": texts["web"]}).to_json(folder / "web.jsonl", orient="records", lines=True)
    pd.DataFrame({"text": texts["books"]}).to_parquet(folder / "books.parquet")
    for i in range(400):
        (folder / f"{i}.txt").write_text(" ".join(rng.choice(words, 100)))
    template = (ROOT / "configs/data/own_files.yaml").read_text().replace("${oc.env:WEB_FILES}", f"{folder}/web.jsonl")
    template = template.replace("path: ???", f"path: {folder}/books.parquet", 1).replace(
        "path: ???", f"path: {folder}/*.txt"
    )
    shutil.copytree(own_configurations, tmp_path / "configs")
    (tmp_path / "configs/data/mine.yaml").write_text(template)
    return {"MIXLAW_CONFIGS": str(tmp_path / "configs"), "MIXLAW_CACHE": str(tmp_path / "cache")}


@pytest.mark.slow
def test_the_front_page_trains_on_one_s_own_files(own_files: dict[str, str], tmp_path: Path) -> None:
    shown = {}
    short = ["schedule.n_tokens=20480", "schedule.warmup_tokens=2048", f"machine.runs={tmp_path / 'runs'}"]
    for words in (c.words[1:] for c in COMMANDS if c.file == "README.md" and "data=mine" in c.words):
        if words[1] in ("data.prepare", "data.preview", "train"):
            more = short if words[1] == "train" else []
            code, shown[words[1]], err = call(*words, *more, timeout=240, **own_files)
            assert code == 0, err
    assert list(shown) == ["data.prepare", "data.preview", "train"]
    assert {"web", "books"} <= {*shown["data.preview"].split()}
    assert " finished" in shown["train"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [c for c in COMMANDS if c.complete and {"train.memory", "--cfg"} & {*c.words}], ids=str
)
def test_a_command_that_only_looks_at_settings_does_what_it_says(command: Command) -> None:
    code, out, err = call(*command.words[1:])
    assert (code, err) == (0, "")
    assert len(out.splitlines()) > 5


@pytest.mark.slow  # fits the shipped table
@pytest.mark.parametrize("file", sorted({block.file for block in blocks("python")}))
def test_the_python_of_a_readme_runs(file: str, desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in desk.iterdir():
        shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "readme.py"
    script.write_text("\n".join(block.text for block in blocks("python") if block.file == file))
    runpy.run_path(str(script))


def test_every_block_says_its_language() -> None:
    unknown = [f"{b.file}:{b.line}: '{b.language}'" for b in blocks() if b.language not in LANGUAGES]
    assert not unknown, f"write one of {LANGUAGES} behind the fence: {unknown}"


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: f"{block.file}:{block.line}")
def test_yaml_can_be_read(block: Block) -> None:
    assert yaml.safe_load(block.text)


def test_files_that_are_named_exist() -> None:
    named = [(file, line, token.content) for file, line, token in inline("code_inline")]
    paths = [(f, n, text) for f, n, text in named if re.fullmatch(r"[\w./-]+\.(py|md|yaml|sh|sbatch)", text)]
    assert len(paths) > 100
    absent = [
        f"{f}:{n}: {text}" for f, n, text in paths if not OWN_CONFIGURATION.fullmatch(text) and not is_there(f, text)
    ]
    assert not absent


def is_there(file: str, path: str) -> bool:
    """Say whether a path exists from the checkout or from the README that names it; a bare name anywhere below that."""
    folder = (ROOT / file).parent
    return any(p.exists() for p in (ROOT / path, folder / path)) or ("/" not in path and any(folder.rglob(path)))


@pytest.mark.parametrize(("kind", "attribute"), [("link_open", "href"), ("image", "src")])
def test_links_lead_somewhere(kind: str, attribute: str) -> None:
    targets = [(file, line, str(token.attrs[attribute])) for file, line, token in inline(kind)]
    assert targets
    for file, line, target in targets:
        path, _, part = target.partition("#")
        if not target.startswith("https://"):
            assert not path or ((ROOT / file).parent / path).exists(), f"{file}:{line}: {target}"
            assert not part or part in anchors(file, path), f"{file}:{line}: {target}"


def anchors(file: str, path: str) -> set[str]:
    """Return the names that GitHub gives to the headings of a file."""
    document = (ROOT / file).parent / path if path else ROOT / file
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
