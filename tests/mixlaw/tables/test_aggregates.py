"""Aggregates: named groups of targets become targets that every command takes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.cli.main import main
from mixlaw.errors import ConfigError
from mixlaw.fitting.saved import FittedLaws
from mixlaw.tables.aggregates import read_aggregates, with_aggregates
from mixlaw.tables.check import check_frame
from mixlaw.tables.examples import small_study

COLUMNS = {"n_params": [1e8, 2e8], "n_tokens": [1e9, 2e9], "weight_a": [0.5, 0.4], "weight_b": [0.5, 0.6]}
LOSSES = {"loss_x": [2.0, 1.0], "loss_y": [4.0, np.nan], "loss_z_bpb": [1.0, 0.8]}
MORE = {"loss_se_x": [0.3, 0.3], "loss_se_y": [0.4, 0.4], "score_x": [0.5, 0.6], "score_y": [0.2, 0.3]}


def table():
    return check_frame(pd.DataFrame(COLUMNS | LOSSES | MORE), "runs")


def test_an_aggregate_is_the_weighted_mean_with_the_errors_of_independent_questions():
    found = with_aggregates(table(), {"both": {"x": 1, "y": 3}})
    row = found.frame.iloc[0]
    assert found.targets[-1] == "both"
    assert row["loss_both"] == pytest.approx(3.5)
    assert row["score_both"] == pytest.approx(0.275)
    assert row["loss_se_both"] == pytest.approx(np.hypot(0.25 * 0.3, 0.75 * 0.4))
    assert np.isnan(found.frame["loss_both"].iloc[1])  # a member is empty
    assert found.warnings == []


@given(st.floats(0.1, 10), st.floats(0.1, 10), st.floats(0.1, 100))
def test_only_the_proportions_of_weights_count(x, y, factor):
    one, other = ({"x": x, "y": y}, {"x": factor * x, "y": factor * y})
    losses = [with_aggregates(table(), {"both": w}).frame["loss_both"].iloc[0] for w in (one, other)]
    assert losses[0] == pytest.approx(losses[1])


def test_members_in_different_units_are_a_warning():
    found = with_aggregates(table(), {"all_of_it": {"x": 1, "z_bpb": 1}})
    assert found.units["all_of_it"] == "mixed units"
    assert found.warnings[0].startswith("the aggregate all_of_it: the target is a mean of values in different units")


def test_scores_in_per_cent_and_shares_are_a_warning():
    scored = table()
    scored.frame["score_x"], scored.frame["score_y"] = 40.0, 0.5
    found = with_aggregates(scored, {"both": {"x": 1, "y": 1}})
    assert found.warnings == [
        "the aggregate both: the scores of x go above 1, those of y do not: give all as shares or all as per cent "
        "before you use its mean score"
    ]
    scored.frame["score_x"] = "40 %"
    found = with_aggregates(scored, {"both": {"x": 1, "y": 1}})
    assert found.warnings == []
    assert found.frame["score_both"].tolist() == pytest.approx([0.45, 0.45])


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["r=arc:2,piqa:1"], {"r": {"arc": 2.0, "piqa": 1.0}}),
        (["r=arc,piqa", 's="a,b":0.5'], {"r": {"arc": 1.0, "piqa": 1.0}, "s": {"a,b": 0.5}}),
    ],
)
def test_a_text_names_members_and_weights(texts, expected):
    assert read_aggregates(texts) == expected


def test_a_yaml_file_holds_several(tmp_path):
    path = tmp_path / "groups.yaml"
    path.write_text("reasoning: {arc: 2, piqa: 1}\nknowledge: {mmlu: 1}\n")
    assert read_aggregates([str(path)]) == {"reasoning": {"arc": 2.0, "piqa": 1.0}, "knowledge": {"mmlu": 1.0}}
    for text in ("- arc\n", "", "{}"):
        path.write_text(text)
        with pytest.raises(ConfigError, match=r"groups.yaml: write NAME: \{TARGET: 2, OTHER: 1\}"):
            read_aggregates([str(path)])


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        (["r"], "--aggregates r: write NAME=TARGET:2,OTHER:1"),
        (["r=x:many"], "write NAME=TARGET:2,OTHER:1"),
        (["r=x:1:2"], "write NAME=TARGET:2,OTHER:1"),
        (["r=x:1,x:2"], "with each target once"),
        (["r="], "write NAME=TARGET:2,OTHER:1"),
        (["=x"], "write NAME=TARGET:2,OTHER:1"),
        (["r=x", "r=y"], "--aggregates r is given twice"),
        (["r=x,w"], "--aggregates r: unknown target 'w'"),
        (["x=y"], "--aggregates x: this name is taken"),
        (["a=x,y"], "--aggregates a: this name is taken by a target, domain or option"),  # not the loss of domain a
        (["average=x"], "--aggregates average: this name is taken"),
        (["r=x:0"], "--aggregates r: it needs members with weights above 0"),
        (["r=x:nan"], "--aggregates r: it needs members with weights above 0"),
        (["missing.yaml"], "--aggregates missing.yaml cannot be read"),
    ],
)
def test_bad_groups_are_one_sentence(texts, words):
    with pytest.raises(ConfigError) as error:
        with_aggregates(table(), read_aggregates(texts))
    assert words in str(error.value)


@pytest.fixture
def laws(tmp_path, monkeypatch):
    """Return laws of an aggregate and a domain, fitted by the command, beside their table in the working folder."""
    monkeypatch.chdir(tmp_path)
    frame = small_study().frame.drop(columns="row")
    frame.assign(loss_other=frame["loss_main"] + 0.1).to_csv("table.csv", index=False)
    quick = ["--law", "additive", "--n-bootstrap", "4", "--n-starts", "4"]
    group = ["--aggregates", "both=main:3,other:1", "--target", "both", "main"]
    assert main(["fit", "table.csv", *quick, *group, "--out", "laws.json"]) == 0
    return FittedLaws.load("laws.json")


def test_laws_of_an_aggregate_know_how_it_is_formed(laws):
    assert list(laws.best.targets) == ["both", "main"]
    assert laws.choice["aggregates"] == {"both": {"main": 3.0, "other": 1.0}}
    assert main(["predict", "laws.json", "table.csv", "--out", "predicted.csv"]) == 0
    predicted = pd.read_csv("predicted.csv").pivot_table(index="row", columns="target", values="observed")
    assert predicted["both"].to_numpy() == pytest.approx(predicted["main"].to_numpy() + 0.025)


@pytest.mark.slow
@pytest.mark.usefixtures("laws")
def test_recommend_and_report_take_it_by_name(capsys):
    asked = ["--n-params", "1e9", "--n-tokens", "1e10", "--target", "both:1,main:1", "--out", "answer.json"]
    assert main(["recommend", "laws.json", *asked]) == 0
    assert "both 0.50, main 0.50" in capsys.readouterr().out
    assert main(["report", "table.csv", "--laws", "laws.json", "--recommendation", "answer.json"]) == 0
    assert "both" in Path("report.html").read_text()
