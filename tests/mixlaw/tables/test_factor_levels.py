"""Values of N and D that differ by a few per cent count as one, and a dense grid of checkpoints never does."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.errors import FitError
from mixlaw.fitting.bootstrap import seed_noise
from mixlaw.fitting.estimator import LawFit
from mixlaw.fitting.identifiability import distinct
from mixlaw.selection.candidates import auto_laws
from mixlaw.selection.fit_laws import fit_and_choose
from mixlaw.selection.splits import default_kind, held_out
from mixlaw.tables.check import check_frame
from mixlaw.tables.clean import prepare
from mixlaw.tables.factor_levels import SAME, count_levels, level_notes, levels
from mixlaw.tables.table import Table
from tests.marks import slow
from tests.mixlaw.synthetic import study

QUICK = {"n_starts": 6, "n_bootstrap": 8}
counts = st.floats(1e3, 1e13)


def jittered(table: Table, column: str, within: float, seed: int = 0) -> Table:
    """Return a table whose runs have slightly more of N or D, every run another amount."""
    frame, rng = table.frame.drop(columns="row"), np.random.default_rng(seed)
    more = dict(zip(frame["run_id"].unique(), rng.uniform(0, within, frame["run_id"].nunique()), strict=True))
    frame[column] = frame[column] * (1 + frame["run_id"].map(more))
    return check_frame(frame, "jittered")


def rows(n: list[float], d: list[float], runs: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"run_id": runs, "n_params": n, "n_tokens": d})


@given(st.lists(counts, min_size=1, max_size=50), st.floats(1e-6, 1e6))
def test_levels_are_narrow_ordered_and_begin_more_than_their_width_apart(values, unit):
    values = np.array(values)
    found = levels(values)
    assert sorted(set(found)) == list(range(found.max() + 1))
    lowest = np.array([values[found == i].min() for i in range(found.max() + 1)])
    highest = np.array([values[found == i].max() for i in range(found.max() + 1)])
    assert (highest <= lowest * (1 + SAME)).all()
    assert (lowest[1:] > lowest[:-1] * (1 + SAME)).all()
    assert (np.diff(found[np.argsort(values, kind="stable")]) >= 0).all()


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=30),
    st.lists(st.floats(0, 0.04), min_size=30, max_size=30),
)
def test_jitter_changes_no_level_of_values_that_are_far_apart(exponents, jitter):
    exact = 1e6 * 1.3 ** np.array(exponents, float)
    moved = exact * (1 + np.array(jitter[: len(exact)]))
    assert levels(moved).tolist() == levels(exact).tolist()


@pytest.mark.parametrize(
    ("values", "count"),
    [
        ([2.150e9, 2.155e9, 2.156e9], 1),
        ([2e9, 2.0002e9], 1),
        ([1e9, 1.02e9, 1.04e9], 1),
        ([1e9, 1.1e9], 2),
        ([1e6, 6e7, 1e9], 3),
        ([1e6, 1.001e6, 6e7, 6.01e7], 2),
        ([5e9], 1),
    ],
)
def test_values_within_a_few_percent_are_one(values, count):
    frame = rows(values, [1e9] * len(values), [str(i) for i in range(len(values))])
    assert count_levels(frame, "n_params") == count
    assert bool(level_notes(frame)) == (count < len(values))


def test_the_checkpoints_of_one_run_are_not_one_however_dense_they_are():
    grid = np.geomspace(1e9, 2e9, 60)  # 1.2 % apart
    frame = rows([1e8] * 60, list(grid), ["a"] * 60)
    assert count_levels(frame, "n_tokens") == 60
    assert level_notes(frame) == []
    few = rows([1e8] * 3, [1e9, 1.02e9, 1.04e9], ["a"] * 3)
    assert count_levels(few, "n_tokens") == 1  # all of them together tell no exponent


def test_a_note_names_the_values_and_says_that_they_are_fitted_as_they_are():
    frame = rows([1e6, 6e7, 6e7], [2e9, 2.0002e9, 2e9], ["a", "b", "c"])
    assert level_notes(frame) == [
        "n_tokens: 2 values count as 1 number of tokens, because values within 5 % of each other count as one: "
        "2e+09 to 2.0002e+09. Laws are fitted to the exact values"
    ]
    ready = prepare(check_frame(frame.assign(loss_x=[3.0, 2.5, 2.51]), "mine"))
    assert ready.notes == level_notes(frame)
    assert ready.frame["n_tokens"].tolist() == [2e9, 2.0002e9, 2e9]


def test_all_runs_of_nearly_the_largest_size_are_held_out_together():
    exact = study("additive")
    near = jittered(exact, "n_params", 0.03)
    assert held_out(near, "scale").tolist() == held_out(exact, "scale").tolist()
    assert distinct(near)[:2] == (3, 3)
    assert default_kind(near) == "scale"
    one = jittered(study("additive", sizes=(1e8,)), "n_params", 0.03)
    assert default_kind(one) == "mixture"
    with pytest.raises(FitError, match="nothing to hold out"):
        held_out(one, "scale")


def test_seeds_are_compared_where_d_differs_by_a_thousandth_and_not_where_it_differs_by_a_twentieth():
    losses = [3.00, 3.02, 2.98]
    for more, expected in ((1.001, 0.02), (1.045, None)):
        frame = rows([1e8] * 3, [1e9, 1e9 * more, 1e9 * more * more], ["a", "b", "c"])
        noise = seed_noise(check_frame(frame.assign(seed=[0, 1, 2], loss_x=losses), "mine"))
        assert (noise["sd"].tolist() if len(noise) else None) == (pytest.approx([expected]) if expected else None)


@pytest.mark.parametrize(("column", "form"), [slow("n_params", "-fixed-n"), ("n_tokens", "-fixed-d")])
def test_no_exponent_is_fitted_from_jitter(column, form):
    whole = study("additive", noise=0.003)
    one = whole.rows(whole.frame[column].isin([1e8, 1e10]))
    near = jittered(one, column, 0.01)
    assert auto_laws(near) == auto_laws(one) == [name + form for name in ("multiplicative", "additive", "joint")]
    choices = [fit_and_choose(table, ["auto"], **QUICK) for table in (one, near)]
    assert choices[0].chosen == choices[1].chosen
    exact, moved = (c.fits[c.chosen].predict(one)["predicted"] for c in choices)
    np.testing.assert_allclose(moved, exact, rtol=2e-3)
    symbol, what = {"n_params": ("N", "model size"), "n_tokens": ("D", "number of tokens")}[column]
    words = f"it has one {what} .* so they count as one.*the {symbol} term cannot be fitted.*{form}: additive{form}$"
    with pytest.raises(FitError, match=words):
        LawFit("additive", **QUICK).fit(near)
