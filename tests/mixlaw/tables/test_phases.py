"""Tables of runs whose mixture changes: the columns of phases are no domains, and are checked."""

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mixlaw.errors import RunLogError
from mixlaw.tables.check import check_frame
from mixlaw.tables.read import read_table


def frame(**changes: Any) -> pd.DataFrame:
    """Return a static run, and a run that changes from a to b at 0.5 of its 2e6 tokens, evaluated twice."""
    nan = np.nan
    columns: dict[str, Any] = {
        "run_id": ["static", "phased", "phased"],
        "n_params": [1e6] * 3,
        "n_tokens": [2e6, 1e6, 2e6],
        "weight_a": [0.5, 0.8, 0.5],
        "weight_b": [0.5, 0.2, 0.5],
        "weight_a@1": [nan, 0.8, 0.8],
        "weight_b@1": [nan, 0.2, 0.2],
        "until@1": [nan, 1.0, 0.5],
        "weight_a@2": [nan, nan, 0.2],
        "weight_b@2": [nan, nan, 0.8],
        "until@2": [nan, nan, 1.0],
        "loss_top@1": [2.0, 2.1, 1.9],
    }
    return pd.DataFrame({k: v for k, v in (columns | changes).items() if v is not None})


def test_columns_of_phases_are_no_domains_and_keep_their_empty_cells(tmp_path) -> None:
    path = tmp_path / "runs.csv"
    frame().to_csv(path, index=False)
    table = read_table([path])
    assert (table.domains, table.targets) == (["a", "b"], ["top@1"])
    np.testing.assert_allclose(table.frame["weight_a@2"], [np.nan, np.nan, 0.2])
    assert not [note for note in table.notes if "@" in note]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"weight_c@1": [0.0] * 3}, "weight_c@1: unknown domain 'c'"),
        ({"until@1": None}, "runs has phases and no column until@1: every phase needs"),
        ({"weight_b@2": None}, "runs has phases and no column weight_b@2"),
        ({"weight_a@1": [np.nan, 0.7, 0.8]}, "row 2: the weights of phase 1 sum to 0.9, not 1"),
        ({"until@2": [np.nan, np.nan, 0.9]}, "row 3: until@ is 0.5, 0.9; it must increase and be 1"),
        ({"until@1": [np.nan, 1.0, 1.0]}, "row 3: until@ is 1, 1; it must increase"),
        ({"until@1": [np.nan, 1.0, np.nan]}, "row 3: weights and until@ must be filled for the phases"),
        ({"weight_b@2": [np.nan, 0.8, 0.8]}, "row 2: weights and until@ must be filled for the phases"),
        ({"weight_a": [0.5, 0.8, 0.2], "weight_b": [0.5, 0.2, 0.8]}, ", and its phases give 0.5; it must be the share"),
        ({"weight_a@1": [np.nan, 1.8, 0.8]}, "weights and until@ must be filled"),
        ({"weight_a@1": ["x", "y", "z"]}, "weight_a@1 is 'x', 'y', 'z', not a share in [0, 1]"),
    ],
)
def test_wrong_phases_are_refused_by_row_and_column(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(RunLogError, match=re.escape(sentence)):
        check_frame(frame(**changes), "runs")


def test_domains_are_renamed_in_all_phases() -> None:
    table = check_frame(frame(), "runs").named_as(["A", "B"], [])
    assert {"weight_A", "weight_A@1", "weight_B@2", "until@2"} <= set(table.frame.columns)
