"""The protocol's command: its cases, and the table that it left in the repository."""

import pickle

import numpy as np
import pandas as pd
import pytest

from scripts.protocol import RESULT, Case, cases, one_size, run
from tests.mixlaw.synthetic import study
from tests.published.real_tables import real_table

pytestmark = pytest.mark.published


def tiny():
    return study("additive", noise=0.002, n_mixtures=3, tokens=(1e10,))


def test_every_case_has_its_row_in_the_table_and_no_other_has():
    table = pd.read_csv(RESULT)
    assert {(c.table, c.kind) for c in cases()} == set(zip(table["table"], table["split"], strict=True))
    assert table["law"].notna().all()
    assert np.isfinite(table[["mre", "median_mre", "bias", "coverage", "difference", "low", "high"]]).all(axis=None)
    pickle.dumps(cases())  # they are run by other processes


def test_the_table_says_what_the_readme_claims():
    table = pd.read_csv(RESULT)
    auto = table[table["law"] == "auto"]
    assert (auto["low"] < 0.05).all()  # nowhere surely worse than joint, or than additive where joint cannot be fitted
    for writer in ("additive", "joint", "multiplicative"):
        own = table[table["table"] == f"truth-{writer}"].pivot(index="split", columns="law", values="mre")
        assert (own[[writer]].to_numpy() <= own[["additive", "joint", "multiplicative"]].to_numpy() * 1.02).all()


def test_a_case_that_a_table_cannot_support_says_why_in_one_row():
    (row,) = run(Case("tiny", "tokens", tiny)).to_dict("records")
    assert row["table"] == "tiny"
    assert "nothing to hold out" in row["remark"]


@pytest.mark.slow
def test_a_case_gives_what_the_table_holds():
    real_table("slimpajama/slimpajama_llm_small.csv")
    laws = ("additive-fixed-n", "multiplicative-fixed-n")
    found = run(Case("slimpajama-122M", "tokens", one_size, laws, laws[0])).set_index("law")
    table = pd.read_csv(RESULT)
    held = table[(table["table"] == "slimpajama-122M") & (table["split"] == "tokens")].set_index("law")
    for law in laws:
        assert found.loc[law, "mre"] == pytest.approx(held.loc[law, "mre"], abs=0.03)
