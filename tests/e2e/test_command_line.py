"""The fitter's commands as a person types them, on tables with the mistakes that people make."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

import mixlaw
from mixlaw.cli.main import main
from tests.marks import all_slow_but, slow

DOMAINS = ("a", "b", "c")


def losses(n, d, h, c):
    shares = sum(c[i] * h[i] ** 0.6 for i in range(3))
    return 1.5 + 1 / shares + 0.4 * (n / 1e6) ** -0.3 + 0.5 * (d / 1e8) ** -0.3


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Return a folder with a table and its laws, which tests copy before they use them."""
    folder = tmp_path_factory.mktemp("fitted")
    rng = np.random.default_rng(0)
    rows = []
    for mixture, h in enumerate(rng.dirichlet(np.ones(3), 9)):
        for n in (1e6, 3e6, 9e6):
            for d in (1e8, 2e8, 4e8):
                row = {"run_id": f"{mixture}-{n:g}", "n_params": n, "n_tokens": d}
                row |= {f"weight_{name}": w for name, w in zip(DOMAINS, h, strict=True)}
                row |= {"loss_x": losses(n, d, h, (2, 1, 0.5)), "loss_y": losses(n, d, h, (0.5, 1, 2))}
                rows.append(row)
    table, laws = folder / "table.csv", folder / "laws.json"
    pd.DataFrame(rows).to_csv(table, index=False)
    assert main(["fit", str(table), "--law", "additive", "--n-bootstrap", "8", "--out", str(laws)]) == 0
    return folder


@pytest.fixture
def table(fitted, tmp_path):
    return shutil.copy(fitted / "table.csv", tmp_path / "table.csv")


@pytest.fixture
def laws(fitted, tmp_path):
    return shutil.copy(fitted / "laws.json", tmp_path / "laws.json")


def edit(table, **cells):
    frame = pd.read_csv(table)
    for column, value in cells.items():
        frame[column] = frame[column].astype(object)
        frame.loc[4, column] = value
    frame.to_csv(table, index=False)


def test_fit_scores_on_a_holdout_and_chooses(table, tmp_path, capsys):
    arguments = ["--law", "base,additive", "--holdout", "scale", "--n-bootstrap", "4", "--n-starts", "8"]
    assert main(["fit", str(table), *arguments, "--out", str(tmp_path / "l.json")]) == 0
    out = capsys.readouterr().out
    assert "MRE [%]" in out
    assert "chosen: additive" in out


def test_predictions_have_a_row_per_row_and_target(laws, table, tmp_path):
    out = tmp_path / "predicted.csv"
    assert main(["predict", str(laws), str(table), "--out", str(out)]) == 0
    predicted = pd.read_csv(out)
    assert list(predicted) == ["row", "target", "law", "predicted", "low", "high", "observed"]
    assert len(predicted) == 81 * 2
    assert (predicted["predicted"] - predicted["observed"]).abs().max() < 0.01


def test_a_recommendation_is_json_with_the_trainer_s_override(laws, capsys):
    capsys.readouterr()
    question = ["--n-params", "7e9", "--n-tokens", "150e9", "--target", "x:1,y:1", "--json"]
    assert main(["recommend", str(laws), *question]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert sum(answer["weights"].values()) == pytest.approx(1)
    assert answer["override"].startswith("mixture.weights={a:")
    assert {o["mixture"] for o in answer["outcomes"]} == {"recommended", "uniform"}


def test_limits_and_repetition_are_kept(laws, capsys):
    capsys.readouterr()
    arguments = ["--n-params", "7e9", "--n-tokens", "1e9", "--target", "x", "--floor", "c=0.1", "--max-epochs", "2"]
    assert main(["recommend", str(laws), *arguments, "--available", "a=2e8,b=1e9,c=1e9", "--json"]) == 0
    weights = json.loads(capsys.readouterr().out)["weights"]
    assert weights["a"] <= 0.4 + 1e-6
    assert weights["c"] >= 0.1 - 1e-6


def test_compare_prints_json_for_scripts(table, capsys):
    arguments = ["--laws", "base,additive", "--holdout", "mixture", "--n-bootstrap", "4", "--n-starts", "8", "--json"]
    assert main(["compare", str(table), *arguments]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    asked = {(law, t) for law in ("base", "additive") for t in ("x", "y")}
    assert {(r["law"], r["target"]) for r in found["targets"]} == asked
    assert {r["law"]: r["against"] for r in found["laws"]} == {"base": "base", "additive": "base"}
    assert (found["kind"], found["chosen"]) == ("mixture", "additive")
    assert {row["target"] for row in found["signals"]} == {"x", "y"}


@pytest.mark.slow
def test_compare_goes_on_where_a_table_has_nothing_to_hold_out_of_one_kind(table, tmp_path, capsys):
    one = tmp_path / "one.csv"
    frame = pd.read_csv(table)
    frame[frame["n_params"] == 1e6].to_csv(one, index=False)
    arguments = "--laws linear,joint --n-bootstrap 4 --n-starts 4 --holdout scale mixture".split()
    assert main(["compare", str(one), *arguments]) == 0
    captured = capsys.readouterr()
    assert "left out: --holdout scale: the table has nothing to hold out" in captured.err
    assert "left out: joint: the joint law cannot be fitted" in captured.err
    assert "chosen: linear" in captured.out


def test_auto_stands_alone(table, capsys):
    assert main(["fit", str(table), "--law", "auto,joint"]) == 2
    assert "auto chooses its laws itself" in capsys.readouterr().err


def test_a_report_is_one_file_without_a_network(laws, table, tmp_path):
    out = tmp_path / "report.html"
    assert main(["report", str(table), "--laws", str(laws), "--out", str(out)]) == 0
    page = out.read_text()
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<figure>") >= 2
    assert (tmp_path / "figures" / "overview.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        ({"weight_a": 1.3}, ["row 5", "weight_a", "1.3"]),
        slow({"n_params": "many"}, ["row 5", "n_params", "not a number"]),
        slow({"n_tokens": -1}, ["row 5", "n_tokens", "above 0"]),
        slow({"loss_x": "inf"}, ["row 5", "loss_x"]),
        slow({"weight_a": 0.9, "weight_b": 0.2, "weight_c": 0.1}, ["row 5", "the weights sum to 1.2"]),
    ],
)
def test_a_bad_cell_is_named_and_the_other_rows_are_fitted(table, cells, words, capsys):
    edit(table, **cells)
    assert main(["fit", str(table), "--law", "additive", "--n-bootstrap", "2", "--n-starts", "4"]) == 0
    captured = capsys.readouterr()
    assert all(word in captured.err for word in words)
    assert "warning: " not in captured.err  # 1 of 81 rows
    assert re.search(r"\bx +80 +27 ", captured.out)


@pytest.mark.parametrize("command", ["check", "fit", slow("compare"), slow("report")])
def test_much_that_is_left_out_is_a_warning_on_its_own_line(laws, table, tmp_path, command, capsys):
    frame = pd.read_csv(table).astype({"n_tokens": object})
    frame.loc[:4, "n_tokens"] = "?"
    frame.to_csv(table, index=False)
    fast = ["--n-bootstrap", "2", "--n-starts", "2"]
    more = {
        "fit": ["--law", "additive", *fast],
        "compare": ["--laws", "additive,base", "--holdout", "mixture", *fast],
        "report": ["--laws", str(laws), "--out", str(tmp_path / "report.html")],
    }
    assert main([command, str(table), *more.get(command, [])]) == 0
    lines = capsys.readouterr().err.splitlines()
    sentence = "5 of 81 rows (6 %) are left out: n_tokens is not a number above 0 (5)"
    assert [line for line in lines if line.startswith("warning: 5")] == [f"warning: {sentence}"]


def test_weights_of_a_missing_domain_are_refused(table, capsys):
    pd.read_csv(table).drop(columns="weight_c").to_csv(table, index=False)
    assert main(["fit", str(table), "--law", "additive"]) == 3
    assert "A domain is missing: correct the table" in capsys.readouterr().err


@pytest.mark.slow
def test_names_are_the_same_by_pattern_and_laws_of_lower_case_names_still_read(table, tmp_path, capsys):
    """A layout or pattern used to write names in lower case, so laws that were fitted then have such names."""
    frame, named = pd.read_csv(table), tmp_path / "named.csv"
    frame.rename(columns={"weight_a": "mix/GitHub", "loss_x": "Pile-CC ce"}).to_csv(named, index=False)
    old = tmp_path / "old.csv"
    frame.rename(columns={"weight_a": "weight_github", "loss_x": "loss_pile-cc"}).to_csv(old, index=False)
    fast = ["--law", "additive", "--n-bootstrap", "2", "--n-starts", "4"]
    columns = ["--columns", "weight_*=mix/*,loss_*=* ce"]
    for kind, path, more in (("new", named, columns), ("old", old, [])):
        assert main(["fit", str(path), *fast, *more, "--out", str(tmp_path / f"{kind}.json")]) == 0
    capsys.readouterr()
    predicted = []
    for kind in ("new", "old"):
        out = tmp_path / f"{kind}.csv"
        assert main(["predict", str(tmp_path / f"{kind}.json"), str(named), *columns, "--out", str(out)]) == 0
        predicted.append(pd.read_csv(out))
        notes = [line for line in capsys.readouterr().err.splitlines() if "case or punctuation" in line]
        said = "note: names matched although case or punctuation differs: "
        assert notes == ([said + "GitHub is github, Pile-CC is pile-cc"] if kind == "old" else [])
    assert list(predicted[0]["target"].unique()) == ["Pile-CC", "y"]
    np.testing.assert_allclose(predicted[0]["predicted"], predicted[1]["predicted"], rtol=1e-3)
    assert predicted[1]["observed"].notna().all()


def test_globs_declare_metrics_and_wrong_ones_are_wrong_options(table, capsys):
    frame = pd.read_csv(table)
    frame["loss_mmlu_a"], frame["loss_mmlu_b"] = 1 - frame.pop("loss_x") / 10, 1 - frame.pop("loss_y") / 10
    frame.to_csv(table, index=False)
    for pattern in ("*", "mmlu_*"):
        assert main(["check", str(table), "--higher-is-better", pattern]) == 0
        assert "loss_mmlu_a is now the error rate 1 - mmlu_a, loss_mmlu_b is now" in capsys.readouterr().err
    for pattern in ("arc_*", "mmlu"):
        assert main(["check", str(table), "--higher-is-better", pattern]) == 2
        assert f"--higher-is-better {pattern}" in capsys.readouterr().err


def test_runs_that_repeat_a_design_are_kept_or_the_best_of_them(table, capsys):
    frame = pd.read_csv(table).drop(columns="run_id")
    bad = frame.assign(lr=4e-3, loss_x=frame["loss_x"] + 1, loss_y=frame["loss_y"] + 1)
    pd.concat([bad, frame.assign(lr=1e-3)]).to_csv(table, index=False)
    assert main(["check", str(table)]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("162 rows of 162 runs")
    assert "They differ in lr (2 values)" in captured.err
    assert main(["check", str(table), "--best", "--json"]) == 0
    captured = capsys.readouterr()
    facts = json.loads(captured.out)
    assert (facts["rows"], facts["columns"]["loss_x"]["high"]) == (81, pytest.approx(frame["loss_x"].max()))
    assert "81 of 162 rows are left out" in captured.err
    assert main(["check", str(table), "--run-id", "lr,n_params,weight_a"]) == 0
    assert capsys.readouterr().out.startswith("162 rows of 54 runs")
    assert main(["check", str(table), "--rows-are-runs"]) == 0
    assert capsys.readouterr().out.startswith("162 rows of 162 runs")
    assert main(["check", str(table), "--run-id", "learning_rate"]) == 2


def test_an_empty_loss_costs_one_cell_and_is_said(table, capsys):
    edit(table, loss_x=float("nan"))
    assert main(["fit", str(table), "--law", "additive", "--n-bootstrap", "4", "--n-starts", "8"]) == 0
    captured = capsys.readouterr()
    assert "row 5: loss_x is empty" in captured.err
    assert re.search(r"\bx +80 +27 ", captured.out)
    assert re.search(r"\by +81 +27 ", captured.out)


def test_too_few_runs_and_one_size_are_refused_in_words(table, tmp_path, capsys):
    frame = pd.read_csv(table)
    few, one = tmp_path / "few.csv", tmp_path / "one.csv"
    few_runs = frame["run_id"].str.startswith(("0-", "1-", "2-")) & (frame["n_params"] > frame["n_params"].min())
    frame[few_runs].to_csv(few, index=False)
    frame[frame["n_params"] == 1e6].to_csv(one, index=False)
    assert main(["fit", str(few), "--law", "additive"]) == 5
    assert "6 runs are too few for its 9 parameters without a narrow prior" in capsys.readouterr().err
    assert main(["fit", str(few), "--law", "additive", "--prior-strength", "0"]) == 5
    assert "6 runs are too few for its 11 parameters" in capsys.readouterr().err
    assert main(["fit", str(one), "--law", "additive"]) == 5
    assert "one model size" in capsys.readouterr().err


def test_unknown_names_get_the_near_match(table, laws, capsys):
    assert main(["fit", str(table), "--law", "aditive"]) == 2
    assert "did you mean 'additive'" in capsys.readouterr().err
    assert main(["recommend", str(laws), "--n-params", "1", "--n-tokens", "1", "--target", "xx"]) == 2
    assert "did you mean 'x'" in capsys.readouterr().err
    assert main(["fit", str(table), "--law", "additive", "--columns", "n_params"]) == 2
    assert "--columns" in capsys.readouterr().err


def test_help_needs_no_heavy_import(tmp_path):
    import subprocess
    import sys

    code = "import sys, mixlaw.cli.main\ntry: mixlaw.cli.main.main(['--help'])\nexcept SystemExit: pass\n"
    code += "print(sorted({'numpy', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_override_is_a_file_of_the_trainer_s_configuration(laws, tmp_path):
    import yaml

    from train.config import MixtureConfig

    question = ["--n-params", "7e9", "--n-tokens", "150e9", "--target", "x"]
    assert main(["recommend", str(laws), *question, "--override", str(tmp_path / "mixture/big.yaml")]) == 0
    config = MixtureConfig(**yaml.safe_load((tmp_path / "mixture/big.yaml").read_text()))
    assert set(config.weights) == set(DOMAINS)
    assert sum(config.weights.values()) == pytest.approx(1)


def test_two_files_in_other_order_are_joined_by_their_id_and_completed(table, tmp_path, capsys):
    frame = pd.read_csv(table).assign(id=range(81))
    mixtures, losses = tmp_path / "mixtures.csv", tmp_path / "losses.csv"
    frame[["id", "weight_a", "weight_b", "weight_c"]].to_csv(mixtures, index=False)
    rest = frame.rename(columns={"loss_x": "x_nats", "loss_y": "y_nats", "n_tokens": "tokens"})
    rest[["id", "n_params", "tokens", "x_nats", "y_nats"]].sample(frac=1, random_state=0).to_csv(losses, index=False)
    names = ["--join", "id", "--columns", "n_tokens=tokens,loss_*=*_nats"]
    out = tmp_path / "l.json"
    fast = ["--law", "additive", "--n-bootstrap", "4", "--n-starts", "8"]
    assert main(["fit", str(mixtures), str(losses), *names, *fast, "--out", str(out)]) == 0
    assert main(["predict", str(out), str(table), "--out", str(tmp_path / "p.csv")]) == 0
    predicted = pd.read_csv(tmp_path / "p.csv")
    assert (predicted["predicted"] - predicted["observed"]).abs().max() < 0.01


def test_predicting_needs_no_losses_and_prints_json_for_scripts(laws, table, tmp_path, capsys):
    bare = tmp_path / "bare.csv"
    pd.read_csv(table).drop(columns=["loss_x", "loss_y"]).to_csv(bare, index=False)
    capsys.readouterr()
    assert main(["predict", str(laws), str(bare), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 162
    assert "observed" not in rows[0]


FIGURES = ["optimum", "ternary", "path", "parameters", "predicted", "tokens"]


@pytest.mark.parametrize("kind", all_slow_but(("optimum", "parameters"), FIGURES))
def test_one_figure_is_one_command(laws, table, tmp_path, kind):
    out = tmp_path / f"{kind}.png"
    asked = ["--n-params", "7e9", "--n-tokens", "1e9", "--target", "x", "--table", str(table), "--out", str(out)]
    assert main(["plot", str(laws), kind, *asked]) == 0
    assert out.stat().st_size > 5000


def test_laws_are_listed_with_formulas_and_sources(capsys):
    assert main(["laws", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["joint"]["parameters"] == 33
    assert all(row["formula"] and row["source"] for row in rows.values())
    assert main(["laws", "--domains", "3"]) == 0
    assert "joint (17 parameters for 3 domains" in capsys.readouterr().out


def test_check_says_what_a_table_can_support_as_json_too(table, capsys):
    assert main(["check", str(table), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["rows"], facts["runs"], facts["model_sizes"], facts["mixtures"]) == (81, 27, 3, 9)
    assert facts["warnings"] == []


def test_a_metric_where_higher_is_better_is_refused_until_it_is_declared(table, tmp_path, capsys):
    frame = pd.read_csv(table)
    frame["loss_acc"] = 1 - frame.pop("loss_y") / 10
    other = tmp_path / "acc.csv"
    frame.to_csv(other, index=False)
    fast = ["--law", "additive", "--n-bootstrap", "4", "--n-starts", "4"]
    assert main(["fit", str(other), *fast]) == 3
    assert "--higher-is-better acc" in capsys.readouterr().err
    assert main(["fit", str(other), *fast, "--higher-is-better", "acc"]) == 0


@pytest.mark.slow  # imports lightgbm
def test_json_is_what_every_reader_takes(laws, table, tmp_path, capsys):
    """Not NaN, which Python alone reads."""

    def refuse(name):
        raise AssertionError(name)

    one = tmp_path / "one.csv"
    pd.read_csv(table).groupby("run_id").tail(1).to_csv(one, index=False)
    commands = [
        [
            "recommend",
            str(laws),
            "--n-params",
            "7e9",
            "--n-tokens",
            "1e9",
            "--target",
            "x",
            "--json",
            "--group",
            "g=a+b:0:0.3",
        ],
        ["compare", str(one), "--laws", "linear,lightgbm", "--holdout", "mixture", "--n-bootstrap", "4", "--json"],
        ["fit", str(table), "--law", "additive", "--n-bootstrap", "4", "--n-starts", "4", "--json"],
        ["check", str(table), "--json"],
        ["laws", "--json"],
    ]
    for command in commands:
        capsys.readouterr()
        assert main(command) == 0
        json.loads(capsys.readouterr().out, parse_constant=refuse)
    json.loads(laws.read_text(), parse_constant=refuse)


def test_an_override_never_writes_over_somebody_else_s_mixture(laws, tmp_path, capsys):
    own = tmp_path / "uniform.yaml"
    own.write_text("named: uniform\n")
    question = ["recommend", str(laws), "--n-params", "7e9", "--n-tokens", "1e9", "--target", "x"]
    assert main([*question, "--override", str(own)]) == 2
    assert "was not written by `mixlaw recommend`" in capsys.readouterr().err
    assert own.read_text() == "named: uniform\n"
    for _ in range(2):  # its own file it may renew
        assert main([*question, "--override", str(tmp_path / "big.yaml")]) == 0


def test_names_that_yaml_takes_for_something_else_stay_names():
    import yaml

    from mixlaw.advice.constraints import Question
    from mixlaw.advice.recommend import recommend
    from mixlaw.cli.recommend import override_file
    from tests.mixlaw.synthetic import TRUTHS, fitted

    names = ["no", "1e3", "on"]
    answer = recommend(fitted("additive", {"main": TRUTHS["additive"]}, names), Question(1e9, 1e11, {"main": 1.0}))
    assert list(yaml.safe_load(override_file(answer))["weights"]) == names


def test_an_empty_target_is_left_out_and_the_others_are_fitted(table, capsys):
    pd.read_csv(table).assign(loss_z=np.nan).to_csv(table, index=False)
    assert main(["fit", str(table), "--law", "additive", "--n-bootstrap", "4", "--n-starts", "4"]) == 0
    assert main(["laws", "--domains", "3"]) == 0
    with pytest.raises(SystemExit):
        main(["laws", "--domains", "0"])


@pytest.mark.parametrize("out", [".", "folder", ".."])
def test_an_output_that_is_a_folder_is_refused_before_the_work(table, tmp_path, monkeypatch, capsys, out):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["fit", str(table), "--out", out]) == 4
    assert capsys.readouterr().err == f"error: {out}: this is a folder, not a file to write\n"


def test_no_law_at_all_is_a_wrong_option(table, capsys):
    assert main(["fit", str(table), "--law", ""]) == 2
    assert "name a law, several with commas between, or auto" in capsys.readouterr().err


def test_the_version_is_an_option(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"mixlaw {mixlaw.__version__}\n"
