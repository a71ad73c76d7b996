"""The protocol: named splits, one row of scores per law, and what `auto` would have chosen from the fitted part."""

import numpy as np
import pytest

from mixlaw.errors import FitError
from mixlaw.selection.protocol import judge
from tests.mixlaw.synthetic import study

QUICK = {"n_starts": 4, "n_bootstrap": 20}


def test_the_law_that_wrote_the_runs_is_surely_better():
    scores, _ = judge(study("joint", noise=0.002, n_mixtures=25), ["additive", "joint"], "scale", **QUICK)
    additive = scores.set_index("law").loc["additive"]
    assert additive["low"] > 0
    assert additive["low"] <= additive["difference"] <= additive["high"]
    assert scores.set_index("law").loc["joint", ["difference", "low", "high"]].tolist() == [0, 0, 0]
    assert scores["n_free"].tolist() == [11, 17]


def test_every_mixture_is_held_out_once():
    table = study("additive", noise=0.002)
    _, trials = judge(table, ["additive"], "mixture", "additive", **QUICK)
    held = np.concatenate([trial.held.frame["row"] for trial in trials])
    assert sorted(held) == sorted(table.frame["row"])


def test_auto_sees_the_fitted_part_only_and_says_what_it_took():
    table = study("additive", noise=0.002)
    before, trials = judge(table, ["auto"], "scale", "auto", **QUICK)
    largest = table.frame["n_params"] == table.frame["n_params"].max()
    table.frame.loc[largest, "loss_main"] *= 1.5
    after, again = judge(table, ["auto"], "scale", "auto", **QUICK)
    assert trials[0].chosen == again[0].chosen
    assert trials[0].chosen[0] in ("multiplicative", "additive", "joint")
    assert after["mre"].item() > before["mre"].item() + 20
    assert after["bias"].item() < -20


def test_a_law_that_the_fitted_part_cannot_support_is_left_out():
    scores, trials = judge(study("additive", n_mixtures=5), ["additive", "full"], "mixture", "full", **QUICK)
    assert scores["law"].tolist() == ["additive"]
    assert scores["against"].tolist() == ["additive"]  # not full, which could not be fitted
    assert "runs must decide" in trials[0].refused["full"]


def test_a_table_with_nothing_to_hold_out_is_refused():
    with pytest.raises(FitError, match="nothing to hold out"):
        judge(study("additive", sizes=(1e8,)), ["additive-fixed-n"], "scale")
