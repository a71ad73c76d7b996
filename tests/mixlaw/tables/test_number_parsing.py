"""Cells: what people write for numbers is read as the number that they mean, and words stay words."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixlaw.tables.number_parsing import decimal_mark_of, is_empty, parse_number, parse_numbers


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3.5", 3.5),
        (" 3.5 ", 3.5),
        ("+3", 3.0),
        ("-2.5e-3", -0.0025),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e9", 1e9),
        ("0,25", 0.25),
        ("3,5", 3.5),
        ("3,4567", 3.4567),
        ("1,5e9", 1.5e9),
        ("-0,125", -0.125),
        ("50,000,000", 5e7),
        ("50.000.000", 5e7),
        ("50 000 000", 5e7),
        ("50'000'000", 5e7),
        ("50_000_000", 5e7),
        ("50\u00a0000", 5e4),
        ("50\u202f000", 5e4),
        ("1,234.5", 1234.5),
        ("1.234,5", 1234.5),
        ("1,234", 1234.0),
        ("0,234", 0.234),
        ("1.234", 1.234),
        ("45%", 0.45),
        ("12,5 %", 0.125),
        ("\u22123", -3.0),
    ],
)
def test_numbers_are_read_as_people_write_them(text, value):
    assert parse_number(text) == value


@pytest.mark.parametrize(("text", "value"), [("1,234", 1.234), ("1.234", 1234.0), ("1.234.567", 1234567.0)])
def test_what_may_be_read_in_two_ways_follows_the_decimal_mark(text, value):
    assert parse_number(text, decimal=",") == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("50M", 5e7),
        ("2B", 2e9),
        ("0.3B", 3e8),
        ("1.5e9", 1.5e9),
        ("7b", 7e9),
        ("300k", 3e5),
        ("1T", 1e12),
        (" 7 B ", 7e9),
        ("20 billion", 2e10),
        ("2bn", 2e9),
        ("20B tokens", 2e10),
        ("410M params", 4.1e8),
        ("2.7G", 2.7e9),
        ("1,5B", 1.5e9),
    ],
)
def test_sizes_in_words_are_counts(text, value):
    assert parse_number(text, counts=True) == value
    if text != "1.5e9":
        assert parse_number(text) is None


@pytest.mark.parametrize(
    "text", ["diverged", "3.5.2", "1,2,3", "12,34,567", "3 5", "0x10", "e9", "50Q", "#DIV/0!", "1e", "--5"]
)
def test_words_are_no_numbers(text):
    assert parse_number(text, counts=True) is None


@pytest.mark.parametrize(
    "text", ["", " ", "nan", "NaN", "n/a", "NA", "-", "–", "null", "None", "?", None, float("nan"), pd.NA, pd.NaT]
)
def test_words_for_nothing_are_empty(text):
    assert is_empty(text)
    assert math.isnan(parse_number(text))


@pytest.mark.parametrize(
    ("cells", "mark"),
    [
        (["0,25", "1,234"], ","),
        (["0.25", "1,234"], "."),
        (["1.234.567", "1,5"], ","),
        (["1,234,567"], "."),
        (["1.234.567"], ","),
        (["1.234,5"], ","),
        (["1,234.5"], "."),
        (["abc", ""], "."),
        (["1,234"], "."),
    ],
)
def test_the_decimal_mark_is_found_by_the_cells_without_doubt(cells, mark):
    assert decimal_mark_of(cells) == mark


@given(st.floats(1e-6, 1e15), st.booleans(), st.sampled_from(["", ",", ".", " ", "'", "\u00a0", "_"]))
def test_a_number_reads_back_whatever_its_marks(value, exponent, separator):
    """Two decimals, with any separator of thousands and the other mark before the decimals."""
    value = round(value, 2)
    decimal = "," if separator == "." else "."
    text = f"{value:,.2f}".replace(",", "t").replace(".", decimal).replace("t", separator)
    if exponent:
        text = repr(value).replace(".", decimal)
    assert parse_number(text, decimal) == value


def test_columns_of_anything_are_numbers_and_the_rest_is_named():
    cells = pd.Series([3, "4,5", None, "x", [1], 2.5, np.inf, "inf", 10**400, True], dtype=object)
    numbers, bad = parse_numbers(cells)
    assert bad.tolist() == [False, False, False, True, True, False, False, False, False, False]
    assert numbers[~bad].fillna(-1).tolist() == [3, 4.5, -1, 2.5, np.inf, np.inf, np.inf, 1]
