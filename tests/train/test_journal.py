"""What a run's facts say of the code that made it."""

import subprocess
from pathlib import Path

import pytest

from train.journal import git_revision


def test_a_checkout_tells_its_own_commit_and_an_image_what_its_build_was_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert git_revision(tmp_path) == ""
    monkeypatch.setenv("MIXLAW_REVISION", "0123456789ab")
    assert git_revision(tmp_path) == "0123456789ab"

    def git(*words: str) -> str:
        known = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", *known, *words], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    (tmp_path / "a").write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "a")
    own = git("rev-parse", "--short=12", "HEAD").strip()
    assert git_revision(tmp_path) == own
    (tmp_path / "a").write_text("2")
    assert git_revision(tmp_path) == f"{own}-dirty"
