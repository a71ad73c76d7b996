"""Available tokens: what a table states, what counts as unlimited, and cells that are empty."""

import numpy as np
import pandas as pd
import pytest

from mixlaw.tables.available import UNLIMITED, available_tokens
from mixlaw.tables.check import check_frame
from mixlaw.tables.clean import prepare

ROWS = {"n_params": 1e8, "n_tokens": 1e9, "weight_code": 0.5, "weight_docs": 0.5, "loss_code": 2.0}


def table(**available):
    return check_frame(pd.DataFrame({**ROWS, "n_tokens": [1e9, 2e9, 4e9], **available}), "runs")


def test_a_table_that_states_none_has_none():
    assert available_tokens(table()) is None


@pytest.mark.parametrize("code", [{}, {"available_code": [np.nan] * 3}])
def test_a_domain_without_any_number_is_unlimited_beside_one_with_numbers(code):
    found = available_tokens(table(available_docs=[1e8, 2e8, 3e8], **code))
    assert found[:, 0].tolist() == [UNLIMITED] * 3
    assert found[:, 1].tolist() == [1e8, 2e8, 3e8]
    assert not any("available" in text for text in prepare(table(available_docs=[1e8, 2e8, 3e8], **code)).warnings)


def test_a_cell_that_is_empty_among_different_numbers_is_warned_about_with_what_to_do():
    runs = prepare(table(available_docs=[1e8, np.nan, 3e8]))
    assert np.isnan(available_tokens(runs)[1, 1])
    assert [text for text in runs.warnings if "available" in text] == [
        "available_docs is empty in runs row 2, so no law of repeated data is fitted: fill it in, with a number above "
        "n_tokens where the data are unlimited"
    ]


def test_a_cell_that_is_empty_among_equal_numbers_is_the_size_of_the_domain():
    assert available_tokens(table(available_docs=[1e8, np.nan, 1e8]))[:, 1].tolist() == [1e8] * 3
