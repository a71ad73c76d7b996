"""The 245 runs that Besiroglu et al. (2024) read off the Chinchilla figure, against their own fit of the base law."""

import numpy as np
import pandas as pd
import pytest

from mixlaw.fitting.estimator import LawFit
from mixlaw.tables.check import check_frame
from mixlaw.tables.table import Table
from tests.published.real_tables import real_table

pytestmark = pytest.mark.published


def chinchilla() -> Table:
    """Return the runs without the five of highest loss, which the replication calls outliers and drops too."""
    raw = pd.read_csv(real_table("chinchilla/svg_extracted_data.csv"))
    n_params = raw["Model Size"]
    columns = {"n_params": n_params, "n_tokens": raw["Training FLOP"] / (6 * n_params), "loss_text": raw["loss"]}
    frame = pd.DataFrame(columns | {"run_id": np.arange(len(raw))})
    return check_frame(frame.nsmallest(len(raw) - 5, "loss_text"), "chinchilla")


def test_the_published_coefficients_come_out_within_their_intervals():
    table = chinchilla()
    fit = LawFit("base", n_bootstrap=60).fit(table).fitted_
    found = fit.params.loc["text"]
    assert found["alpha"] == pytest.approx(0.3478, abs=0.02)
    assert found["beta"] == pytest.approx(0.3658, abs=0.02)
    assert found["E"] == pytest.approx(1.8172, abs=0.03)
    assert found["A"] * fit.units.n_params ** found["alpha"] == pytest.approx(482.01, rel=0.3)
    assert found["B"] * fit.units.n_tokens ** found["beta"] == pytest.approx(2085.43, rel=0.3)
    intervals = fit.intervals_of_params().set_index("parameter")
    for name, published in (("E", 1.8172), ("alpha", 0.3478), ("beta", 0.3658)):
        assert intervals.loc[name, "low"] <= published <= intervals.loc[name, "high"]


def test_the_starts_agree_and_the_losses_are_predicted_to_half_a_percent():
    table = chinchilla()
    fit = LawFit("base", n_starts=10, n_bootstrap=20).fit(table).fitted_
    assert fit.target("text").statement == "8 of 8 starts kept (of 10) reached the lowest minimum"
    assert fit.scores(table)["mre"].item() < 0.6


def test_the_law_of_small_compute_predicts_the_large_runs():
    table = chinchilla()
    flops = 6 * table.frame["n_params"] * table.frame["n_tokens"]
    small = flops < flops.quantile(0.7)
    score = LawFit("base", n_bootstrap=20).fit(table.rows(small)).fitted_.scores(table.rows(~small))
    assert score["n"].item() == 72
    assert score["mre"].item() < 1.3
