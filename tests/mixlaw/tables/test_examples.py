import pandas as pd
import pytest

from mixlaw.cli.main import main
from mixlaw.errors import ConfigError
from mixlaw.tables import examples
from mixlaw.tables.clean import prepare
from mixlaw.tables.read import read_table
from tests.marks import all_slow_but

TARGETS = {"text": "reviews", "multimodal": "icons", "vision": "icons"}


@pytest.mark.parametrize("name", all_slow_but(["text"], examples.names()))
def test_every_example_is_a_measured_study_that_reads_without_repairs(name):
    table = examples.load(name)
    assert table.notes == []
    assert table.left_out == {}
    assert TARGETS[name] in table.targets
    assert table.frame["n_params"].nunique() >= 4  # three fitted sizes and a held-out one
    assert table.frame.groupby("study")["seed"].nunique().max() >= 3  # repeats that show the seed noise
    assert all((table.frame[f"loss_se_{target}"] > 0).all() for target in table.targets)
    assert prepare(table).warnings == []


def test_all_examples_take_less_than_a_megabyte():
    files = list(examples.path("text").parent.iterdir())
    assert sum(file.stat().st_size for file in files) < 1e6


def test_an_example_is_the_file_at_its_path():
    loaded, read = examples.load("text"), read_table([examples.path("text")])
    pd.testing.assert_frame_equal(loaded.frame, read.frame)
    assert [where for where, _ in loaded.sources] == ["example:text"]


def test_an_unknown_example_names_the_closest_one(capsys):
    with pytest.raises(ConfigError, match="unknown example 'txt'; did you mean 'text'"):
        examples.path("txt")
    with pytest.raises(ConfigError, match="did you mean 'vision'"):
        examples.load("visoin")
    assert main(["check", "example:multi-modal"]) == 2
    assert "did you mean 'multimodal'" in capsys.readouterr().err


@pytest.mark.slow  # all commands, with a report
def test_every_command_that_takes_a_table_takes_an_example(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fast = ["--law", "additive", "--target", "reviews", "--n-bootstrap", "4", "--n-starts", "4"]
    assert main(["fit", "example:text", *fast, "--out", "laws.json"]) == 0
    assert main(["check", "example:text", "--json"]) == 0
    assert main(["predict", "laws.json", "example:text", "--out", "predicted.csv"]) == 0
    assert len(pd.read_csv("predicted.csv")) == len(examples.load("text").frame)
    assert main(["recommend", "laws.json", "--n-params", "7e9", "--n-tokens", "150e9", "--target", "reviews"]) == 0
    assert "mixture.weights={" in capsys.readouterr().out
    compared = ["compare", "example:text", "--laws", "base,additive", "--target", "reviews"]
    assert main([*compared, "--n-bootstrap", "4", "--n-starts", "4"]) == 0
    assert main(["report", "example:text", "--laws", "laws.json", "--out", "report.html"]) == 0
    assert (tmp_path / "report.html").exists()


def test_one_path_needs_no_list():
    assert read_table("example:text").frame.equals(examples.load("text").frame)
