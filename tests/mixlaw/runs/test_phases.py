"""Runs whose mixture changes: the weights of every phase stand beside those of the whole run."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mixlaw.errors import RunLogError
from mixlaw.runs.load import load_runs
from mixlaw.tables.read import read_table
from tests.mixlaw.run_logs import eval_row, train_row, write_run

SPENT = {2: {"code": 150, "web": 50}, 4: {"code": 170, "web": 230}, 5: {"code": 170, "web": 330}}
PHASES = [
    {"until": 0.4, "step": 2, "weights": {"code": 0.75, "web": 0.25}, "tokens_by_domain": SPENT[2]},
    {"until": 0.8, "step": 4, "weights": {"code": 0.1, "web": 0.9}, "tokens_by_domain": SPENT[4]},
    {"until": 1.0, "step": 5, "weights": {"code": 0.0, "web": 1.0}, "tokens_by_domain": SPENT[5]},
]


def write_phased(root: Path, phases: Any = PHASES) -> Path:
    spent = {1: {"code": 75, "web": 25}, **SPENT}
    rows = [row for s in spent for row in (train_row(s, tokens_by_domain=spent[s]), eval_row(s, "code", 2.0 / s))]
    return write_run(root, "phased", rows, phases=phases, mixture={"code": 0.34, "web": 0.66})


def test_rows_state_the_weights_of_the_phases_that_have_begun(tmp_path: Path) -> None:
    write_phased(tmp_path)
    table = load_runs(tmp_path).table.set_index("step")
    nan = np.nan
    expected = {
        "weight_code": [0.75, 0.75, 0.425, 0.34],
        "weight_code@1": [0.75, 0.75, 0.75, 0.75],
        "weight_web@2": [nan, nan, 0.9, 0.9],
        "weight_code@3": [nan, nan, nan, 0.0],
        "until@1": [1.0, 1.0, 0.5, 0.4],
        "until@2": [nan, nan, 1.0, 0.8],
        "until@3": [nan, nan, nan, 1.0],
        "requested_web@2": [0.9] * 4,
        "requested_code": [0.34] * 4,
    }
    for column, values in expected.items():
        np.testing.assert_allclose(table[column], values, rtol=1e-12, err_msg=column)


def test_a_table_of_runs_with_and_without_phases_has_empty_cells_for_those_without(tmp_path: Path) -> None:
    write_phased(tmp_path)
    rows = [train_row(2), eval_row(2, "code", 2.0)]
    write_run(tmp_path, "static", rows)
    table = read_table([tmp_path])
    assert table.domains == ["code", "web"]
    frame = table.frame.set_index("run_id")
    assert len(frame) == 5
    assert frame.loc["static", ["weight_code@1", "until@1", "weight_web@3"]].isna().all()
    np.testing.assert_allclose(frame.loc["phased", "weight_web@2"], [np.nan, np.nan, 0.9, 0.9])


@pytest.mark.parametrize(
    ("phases", "sentence"),
    [
        ({}, "'phases' is not a list"),
        ([PHASES[0], {"until": 1.0}], "phase 2 is"),
        ([PHASES[0] | {"weights": {"code": 1.0}}], "phase 1 is"),
        ([PHASES[0] | {"step": "2"}], "phase 1 is"),
        ([PHASES[1], PHASES[0]], "the steps at which phases end do not increase"),
    ],
)
def test_phases_of_another_form_are_refused(tmp_path: Path, phases: Any, sentence: str) -> None:
    write_phased(tmp_path, phases)
    with pytest.raises(RunLogError, match=re.escape(sentence)):
        load_runs(tmp_path)
