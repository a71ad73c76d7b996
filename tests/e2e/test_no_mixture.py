"""The commands on tables without a mixture: all of them work, or say in one sentence why they cannot."""

import json

import numpy as np
import pandas as pd
import pytest

from mixlaw.cli.main import main
from mixlaw.cli.plot import KINDS
from mixlaw.report.drawings import OF_MIXTURES
from tests.marks import slow
from tests.mixlaw.no_mixture import REPEATED, losses, repeated

FAST = ["--n-bootstrap", "8", "--n-starts", "8"]
ASKED = ["--n-params", "1e10", "--n-tokens", "2e11"]


def loss(n, d):
    return 1.8 + 0.4 * (n / 1e8) ** -0.34 + 0.5 * (d / 1e10) ** -0.28


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Return a folder with a table and the laws that were fitted to it."""
    folder = tmp_path_factory.mktemp("fitted")
    n, factor = (a.ravel() for a in np.meshgrid((1e7, 3e7, 1e8, 3e8), (20, 60, 200), indexing="ij"))
    frame = pd.DataFrame({"run_id": [f"r{i}" for i in range(12)], "n_params": n, "n_tokens": n * factor})
    table, laws = folder / "runs.csv", folder / "laws.json"
    frame.assign(loss_val=loss(n, n * factor)).to_csv(table, index=False)
    assert main(["fit", str(table), *FAST, "--out", str(laws)]) == 0
    return folder


@pytest.fixture
def table(fitted):
    return fitted / "runs.csv"


@pytest.fixture
def laws(fitted):
    return fitted / "laws.json"


def test_check_names_the_laws_that_auto_would_fit(table, capsys):
    assert main(["check", str(table), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["laws"] == ["base", "coupled"]
    assert facts["warnings"] == []
    assert main(["check", str(table)]) == 0
    assert "laws that auto would fit: base, coupled" in capsys.readouterr().out


def test_check_says_why_no_law_can_be_fitted(table, tmp_path, capsys):
    same = tmp_path / "same.csv"
    pd.read_csv(table).assign(n_params=1e8, n_tokens=1e10).to_csv(same, index=False)
    assert main(["check", str(same)]) == 0
    out = capsys.readouterr().out
    assert "laws that auto would fit: none" in out
    assert "add runs that differ in one of them" in out
    assert main(["fit", str(same), *FAST]) == 5


def test_fit_chooses_and_its_law_predicts_beyond_the_runs(laws, tmp_path, capsys):
    capsys.readouterr()
    new = tmp_path / "new.csv"
    pd.DataFrame({"n_params": [2e9], "n_tokens": [1e11]}).to_csv(new, index=False)
    assert main(["predict", str(laws), str(new), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)[0]["predicted"] == pytest.approx(loss(2e9, 1e11), rel=5e-3)
    assert "far outside" not in err
    pd.DataFrame({"n_params": [2e9, 3e9], "n_tokens": [1e11, 1e13]}).to_csv(new, index=False)
    assert main(["predict", str(laws), str(new)]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "warning: n_params of 1 of 2 rows (3e+09) is far outside the data (1e+07 to 3e+08)",
        "warning: n_tokens of 1 of 2 rows (1e+13) is far outside the data (2e+08 to 6e+10)",
    ]


@pytest.mark.parametrize("named", [[], slow(["--laws", "base,auto"])])
def test_compare_scores_the_laws_that_need_no_mixture(table, named, capsys):
    assert main(["compare", str(table), *named, "--holdout", "scale", *FAST, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert [row["law"] for row in found["laws"]] == (["base", "auto"] if named else ["base", "coupled"])
    assert found["refused"] == {}
    assert all(row["mre"] < 1 for row in found["laws"])


@pytest.mark.slow  # tries every law
def test_every_other_law_is_left_out_of_a_comparison_with_its_reason(table, capsys):
    arguments = ["--laws", "all", "--holdout", "scale", "--n-bootstrap", "2", "--n-starts", "4", "--json"]
    assert main(["compare", str(table), *arguments]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert {row["law"] for row in found["laws"]} == {"base", "base-fixed-n", "base-fixed-d", "coupled", "auto"}
    assert "needs weights of at least 2 domains, the table has 0" in found["refused"]["joint"]
    assert "add a column unique_tokens" in found["refused"]["muennighoff"]


def test_a_recommendation_is_refused_in_a_sentence_with_what_works_instead(laws, capsys):
    capsys.readouterr()
    assert main(["recommend", str(laws), *ASKED]) == 5
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "error: the runs have no mixture, so no mixture can be recommended; `mixlaw predict` "
        "predicts the loss at another N and D\n"
    )


@pytest.mark.parametrize("asked", [[], slow(ASKED)])
@pytest.mark.parametrize("kind", KINDS)
def test_figures_of_laws_are_drawn_and_those_of_mixtures_refused(laws, table, tmp_path, kind, asked, capsys):
    out = tmp_path / f"{kind}.png"
    code = main(["plot", str(laws), kind, "--table", str(table), *asked, "--out", str(out)])
    if kind in OF_MIXTURES:
        assert code == 5
        assert "error: the runs have no mixture, so no mixture can be recommended" in capsys.readouterr().err
    else:
        assert code == 0
        assert out.stat().st_size > 5000


def test_a_figure_of_one_target_draws_the_target_that_is_named(laws, table, tmp_path, capsys):
    arguments = ["plot", str(laws), "tokens", "--table", str(table), "--out", str(tmp_path / "t.png")]
    assert main([*arguments, "--target", "val"]) == 0
    assert main([*arguments, "--target", "vall"]) == 2
    assert "unknown target 'vall'; did you mean 'val'?" in capsys.readouterr().err


@pytest.mark.slow
def test_a_report_asks_for_the_loss_and_not_for_a_mixture(laws, table, tmp_path):
    out = tmp_path / "report.html"
    assert main(["report", str(table), "--laws", str(laws), "--out", str(out)]) == 0
    page = out.read_text(encoding="utf-8")
    assert "What loss will the big run have?" in page
    assert "Which mixture" not in page
    assert (tmp_path / "figures" / "tokens.png").exists()


def test_repeated_tokens_are_fitted_predicted_and_drawn(tmp_path, capsys):
    path, fitted, new = (tmp_path / name for name in ("epochs.csv", "r.json", "new.csv"))
    repeated(noise=0.002).to_csv(path, index=False)
    assert main(["fit", str(path), *FAST, "--out", str(fitted)]) == 0
    assert "chosen: muennighoff" in capsys.readouterr().out
    n, d, pool = (np.array([value]) for value in (5e9, 8e10, 8e9))
    truth = losses("muennighoff", REPEATED, n, d, unique=pool)["loss_val"].item()
    fresh = losses("muennighoff", REPEATED, n, d, unique=d)["loss_val"].item()
    pd.DataFrame({"n_params": n, "n_tokens": d, "available": pool}).to_csv(new, index=False)
    assert main(["predict", str(fitted), str(new), "--json"]) == 0
    predicted = json.loads(capsys.readouterr().out)[0]["predicted"]
    assert predicted == pytest.approx(truth, rel=0.01)
    assert truth > 1.02 * fresh  # ten epochs are not worth ten times the tokens
    pd.DataFrame({"n_params": n, "n_tokens": d}).to_csv(new, index=False)
    assert main(["predict", str(fitted), str(new)]) == 5
    assert "needs a column available_all (or unique_tokens)" in capsys.readouterr().err
    assert main(["plot", str(fitted), "tokens", "--table", str(path), "--out", str(tmp_path / "t.png")]) == 0
    assert main(["recommend", str(fitted), *ASKED]) == 5


def test_sizes_that_are_nearly_one_are_refused_for_a_law_of_n_and_fitted_without_it(tmp_path, capsys):
    d = np.array([2e9, 8e9, 2e9, 8e9, 2e9, 8e9, 2e10, 2e10])
    n = np.array([2.150e9, 2.150e9, 2.155e9, 2.155e9, 2.156e9, 2.156e9, 2.150e9, 2.156e9])
    near, laws, new = (tmp_path / name for name in ("near.csv", "b.json", "q.csv"))
    noisy = loss(n, d) + 0.02 * np.random.default_rng(0).normal(size=8)
    frame = pd.DataFrame({"n_params": n, "n_tokens": d, "loss_a": noisy, "run_id": [f"r{i}" for i in range(8)]})
    frame.to_csv(near, index=False)
    assert main(["fit", str(near), "--law", "base", *FAST]) == 5
    err = capsys.readouterr().err
    assert "n_params: 3 values count as 1 model size" in err
    assert "use a law whose name ends in -fixed-n: base-fixed-n" in err
    assert main(["fit", str(near), *FAST, "--out", str(laws)]) == 0
    assert "chosen: base-fixed-n" in capsys.readouterr().out
    pd.DataFrame({"n_params": [2.156e9, 4e9], "n_tokens": [2e10, 2e10]}).to_csv(new, index=False)
    assert main(["predict", str(laws), str(new), "--json"]) == 0
    out, err = capsys.readouterr()
    one, other = (row["predicted"] for row in json.loads(out))
    assert one == other
    assert "the base-fixed-n law does not depend on N: losses are those of the runs' n_params" in err
    assert "not of n_params of 1 of 2 rows (4e+09)" in err
