"""`mixlaw benchmarks` as a person types it: table, verdict, file, figure, and mistakes."""

import json

import pytest

from mixlaw.benchmarks.saved import Benchmarks
from mixlaw.cli.benchmarks import read_chance
from mixlaw.cli.main import main
from mixlaw.errors import ConfigError
from tests.mixlaw.benchmarks.tables import scored_runs


@pytest.fixture
def table(tmp_path):
    scored_runs().rename(columns={"score_arc": "acc"}).to_csv(tmp_path / "table.csv", index=False)
    return tmp_path / "table.csv"


def test_a_table_becomes_a_file_a_figure_and_a_verdict(table, tmp_path, capsys):
    out, figure = tmp_path / "out/benchmarks.json", tmp_path / "figures/arc.png"
    asked = ["--loss", "loss_arc", "--score", "acc", "--chance", "1/4", "--n-bootstrap", "40"]
    asked += ["--out", str(out), "--figure", str(figure)]
    assert main(["benchmarks", str(table), *asked]) == 0
    said = capsys.readouterr().out
    assert "N = 160M  5 " in said
    assert "acc: predictable" in said
    assert list(Benchmarks.load(out)) == ["acc"]
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_json_holds_what_the_file_holds(table, tmp_path, capsys):
    out = tmp_path / "benchmarks.json"
    asked = ["--loss", "loss_arc", "--score", "acc", "--chance", "acc=0.25", "--n-bootstrap", "10", "--json"]
    asked += ["--out", str(out)]
    assert main(["benchmarks", str(table), *asked]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(out.read_text())


@pytest.mark.parametrize(
    ("asked", "words", "code"),
    [
        (["--score", "acc", "--chance", "1/4"], "--loss: unknown column 'loss_acc'", 2),
        (["--loss", "loss_arc", "--score", "acc", "--chance", "a quarter"], "--chance a quarter: write 1/4", 2),
        (["--loss", "loss_arc", "--score", "n_tokens", "--chance", "0"], "scores lie between 0 and 1", 3),
        (
            ["--loss", "loss_arc", "--score", "acc", "--chance", "0", "--n-bootstrap", "2", "--figure", "x.doc"],
            "ends in .png",
            2,
        ),
    ],
)
def test_mistakes_are_one_sentence(table, asked, words, code, capsys):
    assert main(["benchmarks", str(table), *asked]) == code
    said = capsys.readouterr().err
    assert words in said.splitlines()[-1]
    assert "Traceback" not in said


@pytest.mark.parametrize("text", ["", "1/0", "a=b=c", "a=1/4,b"])
def test_a_chance_that_is_no_number_is_refused(text):
    with pytest.raises(ConfigError, match="--chance"):
        read_chance(text)


def test_chances_are_shares_by_name():
    assert read_chance("1/4") == 0.25
    assert read_chance('arc=1/4,"a,b"=0') == {"arc": 0.25, "a,b": 0.0}


def test_check_shows_scores_that_are_numbers(tmp_path, capsys):
    frame = scored_runs(n_runs=3).assign(score_arc="31 %", loss_quiz=2.0, score_quiz="good")
    frame.loc[0, "score_arc"] = ""
    frame.to_csv(tmp_path / "table.csv", index=False)
    assert main(["check", str(tmp_path / "table.csv")]) == 0
    said = capsys.readouterr().out
    assert "score_arc: 0.31 to 0.31, 1 values, 1 empty" in said
    assert "score_quiz" not in said
