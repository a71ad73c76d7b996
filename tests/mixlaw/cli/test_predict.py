"""`mixlaw predict --baseline`: gains beside predictions, and mixtures that are none."""

import re

import pandas as pd
import pytest

from mixlaw.cli.main import main
from tests.mixlaw.synthetic import laws_of, study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with laws of mixtures, laws without, and the table that they were fitted to."""
    folder, table = tmp_path_factory.mktemp("predict"), study("additive", 0.01)
    for law in ("additive", "base"):
        laws_of(table, law, n_starts=4, n_bootstrap=10).save(folder / f"{law}.json")
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
