"""Text tables for a terminal: aligned columns, missing values, and no padding at the end of lines."""

import pandas as pd

from mixlaw.text import text_table


def test_words_are_aligned_left_and_numbers_right():
    frame = pd.DataFrame({"name": ["a", "long name"], "loss": [10.0, 2.5], "runs": [3, 12], "why": ["x", ""]})
    assert text_table(frame, decimals=1).splitlines() == [
        "name       loss  runs  why",
        "a          10.0     3  x",
        "long name   2.5    12",
    ]


def test_missing_values_are_dashes_and_an_empty_table_is_its_header():
    frame = pd.DataFrame({"target": ["x", None], "mre": [float("nan"), 1.0]})
    assert text_table(frame, decimals=2).splitlines() == ["target   mre", "x          -", "-       1.00"]
    assert text_table(frame[:0]) == "target  mre"


def test_columns_of_one_name_are_all_shown():
    frame = pd.DataFrame([["a", "1", "2"]], columns=["N", "1e+06", "1e+06"])
    assert text_table(frame).splitlines()[0] == "N  1e+06  1e+06"
