"""Tables in JSON: a list of records, JSON lines, columns, or pandas' formats; nested mixtures become columns."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mixlaw.tables.columns import is_standard

LISTS = ("data", "runs", "rows", "records", "results", "table")
NESTED = {  # key of a nested object -> prefix of its columns
    **dict.fromkeys(("weight", "weights", "mixture", "mixtures", "domain_weights"), "weight_"),
    **dict.fromkeys(("loss", "losses", "val_loss", "eval_loss"), "loss_"),
    **{name: f"{name}_" for name in ("loss_se", "score", "score_se", "available", "before")},
}


def frame_of_json(text: str) -> tuple[pd.DataFrame, list[int]]:
    """Return the table in a JSON text, and the numbers of JSON lines that are not records, counted from 1.

    Raises
    ------
    ValueError
        If the text is not JSON, or not a table.
    """
    try:
        return pd.DataFrame([_flat(record) for record in _records(json.loads(text))]), []
    except json.JSONDecodeError as error:
        records, bad = _lines(text)
        if not records or len(bad) > len(records):
            raise ValueError(f"it is not JSON: {error}") from None
        return pd.DataFrame([_flat(record) for record in records]), bad


def _lines(text: str) -> tuple[list[Mapping[str, Any]], list[int]]:
    """Return the records of JSON lines, and the numbers of the other lines; empty lines do not count."""
    records: list[Mapping[str, Any]] = []
    bad: list[int] = []
    for i, line in enumerate((line for line in text.split("\n") if line.strip()), start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            record = None
        if isinstance(record, dict):
            records.append(record)
        else:
            bad.append(i)
    return records, bad


def _records(content: Any) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a table in any of the accepted structures."""
    if isinstance(content, dict):
        return _rows_of(content)
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return content
    if isinstance(content, list) and content and all(isinstance(row, list) for row in content):
        head, *rows = content
        return [dict(zip(map(str, head), row, strict=True)) for row in rows]
    raise ValueError("its JSON is not a table: write a list of records, one per row")


def _rows_of(content: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a JSON object: columns and data, a list under a known key, lists by column, or runs by id."""
    if isinstance(content.get("columns"), list) and isinstance(content.get("data"), list):
        return [dict(zip(map(str, content["columns"]), row, strict=True)) for row in content["data"]]
    lists = [v for k, v in content.items() if k in LISTS and isinstance(v, list)]
    if len(lists) == 1:
        return _records(lists[0])
    values = list(content.values())
    if values and all(isinstance(value, list) for value in values):
        return [dict(zip(content, row, strict=True)) for row in zip(*values, strict=True)]
    if values and all(isinstance(value, dict) for value in values):
        if all(is_standard(name) or name in NESTED for name in values[0]) or not any(map(is_standard, content)):
            numbered = list(content) in ([str(i + first) for i in range(len(content))] for first in (0, 1))
            return values if numbered else [{"run_id": name, **value} for name, value in content.items()]
        rows = list(dict.fromkeys(row for value in values for row in value))
        return [{name: value.get(row) for name, value in content.items()} for row in rows]
    if any(is_standard(name) or name in NESTED for name in content):
        return [content]  # one run
    raise ValueError("its JSON is not a table: write a list of records, one per row")


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with a column per nested value: {"weights": {"web": 1}} becomes weight_web."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if not isinstance(value, dict):
            flat[str(name)] = value
            continue
        prefix = NESTED.get(str(name).lower(), f"{name}.")
        flat |= {f"{prefix}{inner}": cell for inner, cell in _flat(value).items()}
    return flat
