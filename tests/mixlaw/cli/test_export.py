"""`mixlaw export` as a person types it."""

from pathlib import Path

import pytest

from mixlaw.cli.main import main
from mixlaw.export.registry import FORMATS
from tests.mixlaw.answers import answer


@pytest.fixture
def saved(tmp_path: Path) -> str:
    """Return the path of a recommendation for two domains with weights 1/3 and 2/3, N = 7e9 and D = 150e9."""
    answer(2).save(tmp_path / "answer.json")
    return str(tmp_path / "answer.json")


def test_stdout_is_the_file_and_stderr_the_epochs(saved: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--to", "megatron", "--paths", "domain0=/data/a=b,domain1='/data/c,d'", "--available", "domain0=25e9"]
    assert main(["export", saved, *arguments]) == 0
    out, err = capsys.readouterr()
    assert out == "0.333333 /data/a=b\n0.666667 /data/c,d\n"
    assert "domain0  0.3333  2.0000" in err


@pytest.mark.parametrize("to", FORMATS)
def test_out_holds_what_stdout_shows(to: str, saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", saved, "--to", to]) == 0
    shown, _ = capsys.readouterr()
    assert main(["export", saved, "--to", to, "--out", str(tmp_path / "new" / "blend")]) == 0
    assert (tmp_path / "new" / "blend").read_text() == shown
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--to", "mosaic"], 2, "--to: unknown format 'mosaic'; did you mean 'mosaicml'? known: hf, hydra,"),
        (["--to", "hf", "--mean-tokens", "domain0=10"], 2, "--mean-tokens lacks domain1"),
        (["--to", "hf", "--mean-tokens", "domain0"], 2, "'domain0': write NAME=NUMBER"),
        (["--to", "hf", "--mean-tokens", "domain0=-1,domain1=1"], 2, "--mean-tokens domain0=-1: tokens must be"),
        (["--to", "nemo", "--mean-tokens", "domain0=1,domain1=1"], 2, "nemo draws sequences of equal length"),
        (["--to", "nemo", "--paths", "domain0"], 2, "'domain0': write NAME=TEXT"),
        (["--to", "nemo", "--paths", "domain0=a,domain0=b"], 2, "names something twice"),
        (["--to", "nemo", "--paths", "domain9=a"], 2, "--paths: unknown domain 'domain9'"),
        (["--to", "nemo", "--available", "domain0=0"], 2, "--available domain0=0: tokens must be"),
        (["--to", "megatron", "--paths", "domain0=/a b"], 2, "has a blank, at which Megatron splits"),
        (["--to", "nemo", "--out", "."], 4, "this is a folder, not a file to write"),
    ],
)
def test_mistakes_end_in_a_sentence(
    arguments: list[str], code: int, message: str, saved: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", saved, *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert message in err
    assert len(err.splitlines()) == 1


def test_other_files_are_refused(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = tmp_path / "damaged.json"
    damaged.write_text(Path(saved).read_text()[:300])
    for path in (damaged, tmp_path / "absent.json", tmp_path):
        assert main(["export", str(path), "--to", "nemo"]) == 3
        assert f"error: {path}" in capsys.readouterr().err
