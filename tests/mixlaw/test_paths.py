"""Paths are expanded as a shell would, wherever they are written."""

import argparse
from pathlib import Path

import pytest

from mixlaw.cli.main import main
from mixlaw.errors import ConfigError
from mixlaw.paths import expand_options, expand_path, path_option


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    monkeypatch.delenv("NOWHERE", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("~/runs", "{home}/runs"),
        ("~", "{home}"),
        ("$SCRATCH/runs", "/scratch/me/runs"),
        ("${SCRATCH}/runs/*.jsonl", "/scratch/me/runs/*.jsonl"),
        ("~/$SCRATCH", "{home}//scratch/me"),
        ("runs/a~b", "runs/a~b"),
        ("/data/x", "/data/x"),
        ("", ""),
    ],
)
def test_a_path_is_expanded_as_a_shell_would(written: str, meant: str, home: Path) -> None:
    assert expand_path(written) == meant.format(home=home)


def test_what_cannot_be_expanded_is_named() -> None:
    with pytest.raises(ConfigError, match=r"^machine\.runs: \$NOWHERE/x: the environment variable NOWHERE is not set"):
        expand_path("$NOWHERE/x", "machine.runs")
    with pytest.raises(ConfigError, match="no home directory is known for ~nobody-of-that-name"):
        expand_path("~nobody-of-that-name/x")


def test_a_file_with_such_a_name_is_that_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cost$NOWHERE.csv").write_text("")
    assert expand_path("cost$NOWHERE.csv") == "cost$NOWHERE.csv"


def test_options_are_expanded_alone_and_in_lists(home: Path) -> None:
    options = argparse.Namespace(out=Path("~/a"), table=["~/b", "c"], law="~", test=None)
    expand_options(options, ["out", "table", "test", "absent"])
    assert vars(options) == {"out": home / "a", "table": [f"{home}/b", "c"], "law": "~", "test": None}
    assert path_option("~/a") == home / "a"
    with pytest.raises(argparse.ArgumentTypeError, match="NOWHERE is not set"):
        path_option("$NOWHERE/a")


def test_the_fitter_reads_below_the_home_directory(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "t.csv").write_text("n_params,n_tokens,weight_a,weight_b,loss_a\n1e6,1e8,0.5,0.5,3\n1e6,2e8,0.5,0.5,2.9\n")
    main(["check", "~/t.csv"])
    assert f"{home}/t.csv" in (said := "".join(capsys.readouterr())) or "2 rows" in said
    assert main(["check", "$NOWHERE/t.csv"]) == 2
    assert capsys.readouterr().err == "error: --table: $NOWHERE/t.csv: the environment variable NOWHERE is not set\n"
