"""Weights in any unit are the same mixtures; a missing domain stays an error."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.errors import RunLogError
from mixlaw.tables.check import check_frame
from tests.marks import examples

DOMAINS = ("a", "b", "c")


def frame_of(weights: np.ndarray, tokens: float = 2e9) -> pd.DataFrame:
    """Return a run for each row of weights (n, 3)."""
    n = len(weights)
    columns = {"run_id": [f"r{i}" for i in range(n)], "n_params": 1e7, "n_tokens": tokens * np.arange(1, n + 1)}
    columns |= {f"weight_{d}": weights[:, i] for i, d in enumerate(DOMAINS[: weights.shape[1]])}
    return pd.DataFrame(columns | {"loss_x": 3.0 + np.arange(n)})


def mixtures(n: int, seed: int, k: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(k), n).clip(1e-3) / 1.0


@given(
    n=st.integers(3, 12),
    seed=st.integers(0, 99),
    unit=st.sampled_from(["per cent", "tokens", "billions", "relative", "words"]),
)
@examples(60)
def test_every_unit_gives_the_same_mixtures(n, seed, unit):
    h = mixtures(n, seed)
    h = h / h.sum(1, keepdims=True)
    tokens = frame_of(h)["n_tokens"].to_numpy()[:, None]
    written = {
        "per cent": 100 * h,
        "tokens": h * tokens,
        "billions": h * tokens / 1e9,
        "words": 100 * h,
        "relative": h / h.min(axis=1, keepdims=True),
    }[unit]
    frame = frame_of(written)
    if unit == "words":
        names = [f"weight_{d}" for d in DOMAINS]
        frame[names] = frame[names].map("{:.13g} %".format)
    table = check_frame(frame, "mine")
    np.testing.assert_allclose(table.mixtures, h, rtol=1e-9)
    notes = " ".join(table.notes)
    said = {"per cent": "per cent", "tokens": "are tokens", "billions": "billions of tokens", "relative": "relative"}
    assert unit == "words" or said[unit] in notes
    assert unit == "words" or "they are scaled to 1" in notes


def test_units_may_differ_between_rows_where_each_row_says_its_own():
    table = check_frame(frame_of(np.array([[0.5, 0.25, 0.25], [50, 25, 25], [0.2, 0.3, 0.5]])), "mine")
    assert table.mixtures.tolist() == [[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [0.2, 0.3, 0.5]]
    assert table.notes == ["mine row 2: the weights are per cent (they sum to 100); they are scaled to 1"]


@pytest.mark.parametrize("whole", [1.0, 100.0, 2e9])
def test_a_missing_domain_is_an_error_in_every_unit(whole):
    h = np.random.default_rng(1).dirichlet([2, 2, 2, 1], 12)[:, :3]
    frame = frame_of(h * whole).assign(n_tokens=2e9)
    with pytest.raises(RunLogError, match=r"mine row \d+: the weights sum to .*A domain is missing: correct the table"):
        check_frame(frame, "mine")
    forced = check_frame(frame, "mine", relative_weights=True)
    np.testing.assert_allclose(forced.mixtures, h / h.sum(1, keepdims=True), rtol=1e-12)


@given(st.floats(0.05, 0.96), st.integers(2, 9))
def test_weights_that_all_sum_to_less_than_one_are_never_scaled_in_silence(total, n):
    h = mixtures(n, n)
    with pytest.raises(RunLogError, match="A domain is missing"):
        check_frame(frame_of(total * h / h.sum(1, keepdims=True)), "mine")


def test_rows_whose_weights_are_off_are_left_out_and_named():
    h = np.tile([0.5, 0.25, 0.25], (8, 1))
    h[2], h[5] = [0.5, 0.5, 0.2], [0.4, 0.2, 0.2]
    table = check_frame(frame_of(h), "mine")
    assert table.frame["row"].tolist() == [1, 2, 4, 5, 7, 8]
    assert table.notes == ["mine rows 3, 6: the weights sum to 1.2, not 1, the weights sum to 0.8, not 1; left out"]
    assert table.much_left_out() == ["2 of 8 rows (25 %) are left out: weights that are not a mixture (2)"]


def test_a_row_that_is_off_is_told_the_unit_of_the_others():
    h = np.tile([50.0, 25, 25], (4, 1))
    h[1] = [60, 25, 25]
    [unit, off] = check_frame(frame_of(h), "mine").notes
    assert unit == "mine rows 1, 3-4: the weights are per cent (they sum to 100); they are scaled to 1"
    assert off == "mine row 2: the weights sum to 110, not 100; left out"


def test_empty_weights_are_zero_where_the_others_make_a_mixture():
    h = np.array([[0.5, 0.5, np.nan], [0.25, 0.25, 0.5], [np.nan, 1.0, np.nan], [0.5, 0.25, 0.25]])
    table = check_frame(frame_of(h), "mine")
    assert table.mixtures.tolist() == [[0.5, 0.5, 0], [0.25, 0.25, 0.5], [0, 1, 0], [0.5, 0.25, 0.25]]
    assert table.notes == ["mine rows 1, 3: empty weights count as 0, because the others sum to the whole"]
    per_cent = check_frame(frame_of(100 * h), "mine")
    assert per_cent.mixtures.tolist() == table.mixtures.tolist()
    h[0, 1] = 0.25
    assert "row 1: weight_c is empty, and the other weights sum to 0.75, not 1; left out" in " ".join(
        check_frame(frame_of(h), "mine").notes
    )


@pytest.mark.parametrize(
    ("cell", "sentence"),
    [
        ("half", "weight_b is not a number"),
        ("inf", "weight_b is inf, which must lie in [0, 1]"),
        (-0.2, "weight_b is -0.2, which"),
    ],
)
def test_one_bad_weight_costs_its_row(cell, sentence):
    frame = frame_of(np.tile([0.5, 0.25, 0.25], (4, 1))).astype({"weight_b": object})
    frame.loc[1, "weight_b"] = cell
    table = check_frame(frame, "mine")
    assert table.notes[0].startswith(f"mine row 2: {sentence}")
    assert table.frame["row"].tolist() == [1, 3, 4]


def test_billions_of_tokens_may_sum_to_one_in_some_rows():
    h = mixtures(4, 0)
    h = h / h.sum(1, keepdims=True)
    tokens = np.array([5e8, 1e9, 2e9, 1e11])
    table = check_frame(frame_of(h * tokens[:, None] / 1e9).assign(n_tokens=tokens), "mine")
    np.testing.assert_allclose(table.mixtures, h, rtol=1e-9)
    assert "billions of tokens" in " ".join(table.notes)
