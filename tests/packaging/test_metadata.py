"""Version, changelog, citation and CI agree with each other and with the package."""

import re
import tomllib
from pathlib import Path

import yaml

import mixlaw

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
RELEASES = re.findall(r"^## (\S+) \((\d{4}-\d{2}-\d{2})\)$", (ROOT / "CHANGELOG.md").read_text(), re.M)


def test_the_version_is_the_same_everywhere():
    versions = {PROJECT["version"], mixlaw.__version__, CITATION["version"], RELEASES[0][0]}
    assert len(versions) == 1, versions


def test_the_newest_release_is_dated_as_it_is_cited():
    assert str(CITATION["date-released"]) == RELEASES[0][1]


def test_every_section_of_the_changelog_is_a_release_or_the_next_one():
    headings = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    released = headings[headings[0] == "Unreleased" :]
    assert released == [f"{version} ({date})" for version, date in RELEASES]


def test_ci_runs_what_a_change_must_pass_on_a_python_that_is_supported():
    [job] = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"].values()
    least = PROJECT["requires-python"].removeprefix(">=")
    assert least in job["strategy"]["matrix"]["python"]
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o100


def test_the_changelog_and_the_fitter_s_readme_list_the_public_names():
    for name in ("CHANGELOG.md", "mixlaw/README.md"):
        text = (ROOT / name).read_text()
        assert [public for public in mixlaw.__all__ if f"`{public}`" not in text and public != "__version__"] == [], (
            name
        )
