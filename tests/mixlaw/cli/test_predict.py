"""`mixlaw predict`: gains beside predictions, a run that is stated by its mixtures, and what is refused."""

import re
from dataclasses import replace

import pandas as pd
import pytest

from mixlaw.cli.main import main
from mixlaw.fitting.saved import FittedLaws
from mixlaw.tables.columns import WEIGHT
from tests.mixlaw.synthetic import DOMAINS, TRUTHS, fitted, laws_of, study

PHASED = "multiplicative-phases"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with laws of mixtures, laws without, and the table that they were fitted to."""
    folder, table = tmp_path_factory.mktemp("predict"), study("additive", 0.01)
    for law in ("additive", "base"):
        laws_of(table, law, n_starts=4, n_bootstrap=10).save(folder / f"{law}.json")
    phased = fitted(PHASED, {"main": TRUTHS[PHASED]})
    replace(phased, fits={PHASED: replace(phased.best, settings={"law": PHASED})}).save(folder / "phases.json")
    table.frame.drop(columns="row").to_csv(folder / "runs.csv", index=False)
    return folder


def test_gains_stand_beside_predictions(folder):
    out = folder / "gains.csv"
    assert (
        main(["predict", f"{folder}/additive.json", f"{folder}/runs.csv", "--baseline", "uniform", "--out", str(out)])
        == 0
    )
    table = pd.read_csv(out)
    assert table["gain"].between(table["gain_low"], table["gain_high"]).all()
    assert table["gain"].abs().max() > 0


@pytest.mark.parametrize(
    ("laws", "baseline", "said"),
    [
        ("additive", "unifrom", "unknown mixture 'unifrom'; did you mean 'uniform'?"),
        ("additive", "code=0.5,dosc=0.5", "unknown domain 'dosc'; did you mean 'docs'?"),
        ("additive", "code=0.5", "weights sum to 0.5, not 1"),
        ("additive", "natural", "unknown mixture 'natural'"),
        ("base", "uniform", "the base law does not depend on the mixture, so it predicts no gain"),
    ],
)
def test_a_baseline_that_is_none_is_refused_in_a_sentence(folder, capsys, laws, baseline, said):
    assert main(["predict", f"{folder}/{laws}.json", f"{folder}/runs.csv", "--baseline", baseline]) in (2, 5)
    error = capsys.readouterr().err
    assert re.search(re.escape(said), error), error
    assert "Traceback" not in error


FIRST, SECOND, SIZE = (
    "code=0.6,docs=0.3,web=0.1",
    "code=0.1,docs=0.3,web=0.6",
    ["--n-params", "1e8", "--n-tokens", "1e10"],
)


def test_a_run_with_phases_is_predicted_as_the_row_of_a_table(folder):
    row = {"n_params": 1e8, "n_tokens": 1e10, "until@1": 0.8, "until@2": 1.0}
    for domain, first, second in zip(DOMAINS, (0.6, 0.3, 0.1), (0.1, 0.3, 0.6), strict=True):
        row |= {
            f"{WEIGHT}{domain}@1": first,
            f"{WEIGHT}{domain}@2": second,
            WEIGHT + domain: 0.8 * first + 0.2 * second,
        }
    pd.DataFrame([row]).to_csv(folder / "row.csv", index=False)
    laws, outs = str(folder / "phases.json"), [folder / "of_row.csv", folder / "of_run.csv"]
    stated = ["--mixture", FIRST, "--until", "0.8", "--mixture", SECOND, *SIZE]
    for given, out in zip(([str(folder / "row.csv")], stated), outs, strict=True):
        assert main(["predict", laws, *given, "--baseline", "uniform", "--out", str(out)]) == 0
    of_row, of_run = map(pd.read_csv, outs)
    pd.testing.assert_frame_equal(of_row, of_run)
    fit = FittedLaws.load(laws).best
    even = fit.predict(pd.DataFrame([row | {WEIGHT + d: 1 / 3 for d in DOMAINS}]).filter(regex="^[^@]*$"))
    assert of_run["predicted"][0] + of_run["gain"][0] == pytest.approx(even["predicted"][0])


@pytest.mark.parametrize(
    ("laws", "given", "said"),
    [
        ("phases", [], "predict takes a table of runs, or --mixture, --n-params and --n-tokens of one run"),
        ("phases", ["--mixture", "uniform"], "predict takes a table of runs, or --mixture"),
        ("phases", ["runs.csv", "--mixture", "uniform", *SIZE], "predict takes a table of runs, or --mixture"),
        ("phases", SIZE, "0 times --mixture and 0 times --until"),
        ("phases", ["--mixture", FIRST, "--mixture", SECOND, *SIZE], "2 times --mixture and 0 times --until"),
        ("phases", ["--mixture", "cod=1", *SIZE], "mixture: unknown domain 'cod'; did you mean 'code'?"),
        (
            "additive",
            ["--mixture", FIRST, "--until", "0.5", "--mixture", SECOND, *SIZE],
            "--until: the additive law does not tell phases apart",
        ),
    ],
)
def test_a_run_that_is_none_is_refused_in_a_sentence(folder, capsys, laws, given, said):
    assert main(["predict", f"{folder}/{laws}.json", *given]) == 2
    error = capsys.readouterr().err
    assert said in error, error
    assert "Traceback" not in error
