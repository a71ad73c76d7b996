"""HTML from the Jinja templates of this package: autoescaping, and the filters that templates use."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

LONG = 28  # letters; longer cells wrap
MOST_COLUMNS = 8  # wider tables are transposed


@dataclass(frozen=True)
class Cells:
    """The text of a table's cells, each with its CSS class: long, text, or none for numbers.

    Attributes
    ----------
    head : (text, class) per column
    rows : (text, class) per column of every row
    """

    head: list[tuple[str, str]]
    rows: list[list[tuple[str, str]]]


def render(template: str, **values: Any) -> Markup:
    """Render a template; every value that is not Markup is escaped.

    Parameters
    ----------
    template : its name without `.html.j2`
    """
    return Markup(ENVIRONMENT.get_template(f"{template}.html.j2").render(values))


def html_table(frame: pd.DataFrame) -> Markup:
    """Return a DataFrame as an HTML table: four significant digits, missing values empty, words aligned left."""
    macros: Any = ENVIRONMENT.get_template("macros.html.j2").module
    return Markup(macros.table(frame))


def cells_of(frame: pd.DataFrame) -> Cells:
    """Return the text and the CSS class of every cell of a DataFrame."""
    texts = [[_cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    kinds = [_kind([row[i] for row in texts]) for i in range(frame.shape[1])]
    head = [(str(name), kind) for name, kind in zip(frame.columns, kinds, strict=True)]
    return Cells(head, [list(zip(row, kinds, strict=True)) for row in texts])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "" if pd.isna(value) else f"{value:.4g}" if value == 0 or abs(value) >= 1e-4 else f"{value:.1e}"
    return "" if value is None else str(value)


def _kind(column: Iterable[str]) -> str:
    """Return the CSS class of a column: long for sentences, text for words, none for numbers."""
    known = [text for text in column if text]
    if max(map(len, known), default=0) > LONG and any(text[:1].isalpha() for text in known):
        return "long"
    return "text" if any(text[0] not in "0123456789+-<" for text in known) else ""


def upright(table: pd.DataFrame) -> pd.DataFrame:
    """Transpose a table with many columns and few rows, so that it fits the page."""
    if table.shape[1] <= max(MOST_COLUMNS, len(table)):
        return table
    turned = table.set_index(table.columns[0]).T
    return turned.rename_axis(table.columns[0]).reset_index().rename_axis(None, axis=1)


def prose(sentence: str) -> Markup:
    """Return a sentence as HTML: its first letter capital, text between backticks as code.

    >>> prose("run `mixlaw fit` & wait")
    Markup('Run <code>mixlaw fit</code> &amp; wait')
    """
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(sentence[:1].upper() + sentence[1:]))))


ENVIRONMENT = Environment(
    loader=PackageLoader("mixlaw.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters |= {"cells": cells_of, "upright": upright, "prose": prose}
