"""`compare`: named splits, one row of scores per law, and what `auto` would have chosen from the fitted part."""

import numpy as np
import pytest

from mixlaw.errors import ConfigError, FitError
from mixlaw.selection.compare import compare
from tests.mixlaw.synthetic import study

QUICK = {"n_starts": 4, "n_bootstrap": 20}


def test_the_law_that_generated_the_runs_is_significantly_better():
    found = compare(study("joint", noise=0.002, n_mixtures=25), ["additive", "joint"], holdout="scale", **QUICK)
    scores = found.laws.set_index("law")
    additive = scores.loc["additive"]
    assert additive["low"] > 0
    assert additive["low"] <= additive["difference"] <= additive["high"]
    assert scores.loc["joint", ["difference", "low", "high"]].tolist() == [0, 0, 0]
    assert scores["n_free"].tolist() == [11, 17]
    assert found.chosen == "joint"


def test_every_mixture_is_held_out_once():
    table = study("additive", noise=0.002)
    found = compare(table, ["additive"], holdout="mixture", against="additive", **QUICK)
    held = np.concatenate([trial.held.frame["row"] for trial in found.trials])
    assert sorted(held) == sorted(table.frame["row"])
    assert found.targets["mre"].mean() == pytest.approx(found.laws["mre"].item())  # both pool the rows of all folds


@pytest.mark.slow  # four comparisons
def test_auto_sees_the_fitted_part_only_and_reports_its_choice():
    table = study("additive", noise=0.002)
    quick = QUICK | {"n_bootstrap": 4}
    before = compare(table, "auto", holdout="scale", **quick)
    largest = table.frame["n_params"] == table.frame["n_params"].max()
    table.frame.loc[largest, "loss_main"] *= 1.5
    after = compare(table, "auto", holdout="scale", **quick)
    assert before.auto == after.auto
    assert before.auto[0][0] in ("multiplicative", "additive", "joint")
    assert after.laws["mre"].item() > before.laws["mre"].item() + 20
    assert after.laws["bias"].item() < -20


@pytest.mark.slow
def test_a_law_that_cannot_be_fitted_to_the_fitted_part_is_left_out():
    found = compare(study("additive", n_mixtures=5), ["additive", "full"], holdout="mixture", against="full", **QUICK)
    assert found.laws["law"].tolist() == ["additive"]
    assert found.laws["against"].tolist() == ["additive"]  # not full, which could not be fitted
    assert "runs are too few" in found.refused["full"]


def test_a_table_with_nothing_to_hold_out_is_refused():
    with pytest.raises(FitError, match="nothing to hold out"):
        compare(study("additive", sizes=(1e8,)), ["additive-fixed-n"], holdout="scale")


def test_the_law_to_compare_with_is_one_of_those_that_are_compared():
    with pytest.raises(ConfigError, match=r"--against: unknown law 'jont'; did you mean 'joint'\?"):
        compare(study("additive"), ["additive", "joint"], against="jont")
