"""Parse numbers as they stand in cells: decimal commas, thousands separators, 50M, 45 %, and words for empty cells."""

import re
from collections.abc import Hashable, Iterable
from decimal import Decimal
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

EMPTY = {  # in lower case
    *("", "-", "--", "–", "—", "?", ".", "nan", "na", "n/a", "#n/a", "#na", "<na>"),
    *("null", "none", "nil", "missing", "not available"),
}
UNITS = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}
AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmbt])\s*", re.IGNORECASE)  # 410M
_WORDS = {
    **UNITS,
    "thousand": 1e3,
    **dict.fromkeys(("mn", "mio", "mt", "million", "millions"), 1e6),
    **dict.fromkeys(("g", "bn", "bt", "billion", "billions"), 1e9),
    **dict.fromkeys(("tn", "tt", "trillion", "trillions"), 1e12),
}
_COUNT = re.compile(r"(.*?[\d.,])\s*([a-z]*?)\s*-?\s*(?:tok(?:en)?s?|params?|parameters?)?", re.IGNORECASE)
_PLAIN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_SPACED = re.compile(r"(?<=\d)[ _'’\u00a0\u2009\u202f](?=\d{3}(?!\d))")
_GROUPED = {mark: re.compile(rf"[+-]?[1-9]\d{{0,2}}(\{mark}\d{{3}})+") for mark in ",."}
_DECIMAL = {mark: re.compile(rf"[+-]?\d*\{mark}\d+(e[+-]?\d+)?\s*%?", re.IGNORECASE) for mark in ",."}


def parse_numbers(cells: pd.Series, decimal: str = ".", counts: bool = False) -> tuple[pd.Series, pd.Series]:
    """Return cells as floats (n,), and a mask (n,) of those that are neither empty nor a number.

    Parameters
    ----------
    decimal : the decimal mark of cells that can be read in two ways: "1,234" and "1.234"
    counts : whether to accept 50M, 2B and 300k
    """
    if pd.api.types.is_numeric_dtype(cells):
        return cells.astype(float), pd.Series(False, index=cells.index)
    known = {cell: parse_number(cell, decimal, counts) for cell in set(filter(_hashable, cells))}
    values = [known[cell] if _hashable(cell) else None for cell in cells]
    numbers = pd.Series([np.nan if v is None else v for v in values], cells.index, dtype=float)
    return numbers, pd.Series([v is None for v in values], cells.index, dtype=bool)


def parse_number(cell: Any, decimal: str = ".", counts: bool = False) -> float | None:
    """Return the number in a cell: NaN if the cell is empty, None if it is not a number.

    >>> [parse_number(cell) for cell in ("1.234,5", "50 000", "0,25", "45 %", "1,234", "diverged", "n/a")]
    [1234.5, 50000.0, 0.25, 0.45, 1234.0, None, nan]
    >>> parse_number("1,234", decimal=","), parse_number("1.5B", counts=True)
    (1.234, 1500000000.0)
    """
    if cell is None or cell is pd.NA or cell is pd.NaT:
        return float("nan")
    if not isinstance(cell, str):
        return _as_float(cell)
    text = cell.strip().replace("\u2212", "-").strip("\ufeff")
    if text.lower() in EMPTY:
        return float("nan")
    if text.lower().lstrip("+-") in ("inf", "infinity", "∞"):
        return float("-inf" if text.startswith("-") else "inf")
    factor = 1.0
    if text.endswith("%"):
        text, factor = text[:-1].strip(), 0.01
    elif counts and (match := _COUNT.fullmatch(text)) and (not match[2] or match[2].lower() in _WORDS):
        text, factor = match[1], _WORDS.get(match[2].lower(), 1.0)
    plain = _with_point(_SPACED.sub("", text), decimal)
    if not _PLAIN.fullmatch(plain):
        return None
    return _scaled(plain, factor)


def _scaled(plain: str, factor: float) -> float:
    """Return a number times a power of ten, rounded once: 0.3B is exactly 3e8."""
    digits, _, exponent = plain.lower().partition("e")
    return float(f"{digits}e{int(exponent or 0) + round(np.log10(factor))}")


def _as_float(cell: Any) -> float | None:
    if not isinstance(cell, Real | Decimal):
        return None
    try:
        return float(cell)
    except OverflowError:
        return float("inf")


def _with_point(text: str, decimal: str) -> str:
    """Return a number with a decimal point and without thousands separators."""
    digits = text.lower().partition("e")[0]
    both = "," in digits and "." in digits
    mark = max(",.", key=digits.rfind)  # the last one is the decimal mark, if any is
    other = "." if mark == "," else ","
    if both:
        whole, _, rest = text.rpartition(mark)
        return f"{whole.replace(other, '')}.{rest}" if _GROUPED[other].fullmatch(whole) else text
    if mark not in digits:
        return text
    grouped = bool(_GROUPED[mark].fullmatch(digits))
    if grouped and (digits.count(mark) > 1 or mark != decimal):
        return text.replace(mark, "")
    return text.replace(",", ".") if digits.count(mark) == 1 else text


def decimal_mark_of(cells: Iterable[str], default: str = ".") -> str:
    """Return the decimal mark, by the cells that can be read in one way only, such as '0,25'."""
    votes = {",": 0, ".": 0}
    for cell in cells:
        text = cell.strip()
        for mark, other in ((",", "."), (".", ",")):
            grouped = bool(_GROUPED[mark].fullmatch(text))
            if grouped and text.count(mark) > 1:  # 50.000.000: the other mark is the decimal one
                votes[other] += 1
            elif not grouped and (_DECIMAL[mark].fullmatch(text) or _mixed(text, other, mark)):
                votes[mark] += 1
    if votes[","] == votes["."]:
        return default
    return "," if votes[","] > votes["."] else "."


def _mixed(text: str, thousands: str, decimal: str) -> bool:
    """Return whether a text has both marks, as 1.234,5 has."""
    whole, _, rest = text.rpartition(decimal)
    return rest.isdecimal() and bool(_GROUPED[thousands].fullmatch(whole))


def text_cells(frame: pd.DataFrame) -> Iterable[str]:
    """Yield the cells of a frame that are text."""
    for column in frame:
        if not pd.api.types.is_numeric_dtype(frame[column]):
            yield from (cell for cell in frame[column] if isinstance(cell, str))


def is_empty(cell: Any) -> bool:
    """Return whether a cell is empty or has a word for empty, such as n/a."""
    if isinstance(cell, str):
        return cell.strip().lower() in EMPTY
    return cell is None or cell is pd.NA or cell is pd.NaT or (isinstance(cell, float) and np.isnan(cell))


def blank_rows(frame: pd.DataFrame) -> pd.Series:
    """Return a mask (n,) of rows in which all cells are empty."""
    text = [not pd.api.types.is_numeric_dtype(frame[column]) for column in frame]
    blank = frame.loc[:, [not is_text for is_text in text]].isna().all(axis=1)
    if blank.any():
        blank &= frame.loc[blank, text].map(is_empty).all(axis=1).reindex(frame.index, fill_value=False)
    return blank


def _hashable(cell: Any) -> bool:
    return isinstance(cell, Hashable)
