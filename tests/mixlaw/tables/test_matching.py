"""Runs on a mixture are recognised by the weights that they realised."""

import pandas as pd

from mixlaw.tables.matching import last_rows, on_mixture, weights_off

FRAME = pd.DataFrame(
    {
        "run_id": ["x", "x", "y"],
        "n_tokens": [2.0, 1.0, 1.0],
        "weight_a": [0.5049, 0.506, 0.2],
        "weight_b": [0.4951, 0.494, 0.8],
    }
)


def test_every_weight_must_be_within_half_a_per_cent():
    assert on_mixture(FRAME, {"a": 0.5, "b": 0.5}).tolist() == [True, False, False]
    assert weights_off(FRAME, {"b": 0.5, "a": 0.5}).round(4).tolist() == [0.0049, 0.006, 0.3]


def test_a_run_with_phases_has_a_mixture_only_if_all_its_phases_have_it():
    phases = FRAME.assign(**{f"weight_{d}@{p}": 0.5 for d in "ab" for p in (1, 2)})
    assert on_mixture(phases, {"a": 0.5, "b": 0.5}).tolist() == [True, False, False]
    phases.loc[0, ["weight_a@1", "weight_b@1", "weight_a@2", "weight_b@2"]] = [0.2, 0.8, 0.8, 0.2]
    phases.loc[1:, [c for c in phases if "@" in c]] = float("nan")
    assert weights_off(phases, {"a": 0.5, "b": 0.5}).round(4).tolist() == [0.3, 0.006, 0.3]


def test_the_last_row_of_a_run_is_that_of_the_largest_d():
    assert sorted(last_rows(FRAME).index) == [0, 2]
