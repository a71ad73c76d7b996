"""Tables in JSON: records in a list or one a line, columns, and what pandas writes; nested mixtures become columns."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mixlaw.tables.columns import is_standard

LISTS = ("data", "runs", "rows", "records", "results", "table")
NESTED = {
    "weight": "weight_", "weights": "weight_", "mixture": "weight_", "mixtures": "weight_", "domain_weights": "weight_",
    "loss": "loss_", "losses": "loss_", "val_loss": "loss_", "eval_loss": "loss_", "loss_se": "loss_se_",
    "available": "available_", "before": "before_",
}  # fmt: skip


def frame_of_json(text: str) -> tuple[pd.DataFrame, list[str]]:
    """Return the table in a JSON text, and a sentence for each of its lines that is no JSON.

    Raises
    ------
    ValueError
        If it holds no table.
    """
    try:
        return pd.DataFrame([_flat(record) for record in _records(json.loads(text))]), []
    except json.JSONDecodeError as error:
        records, bad = _lines(text)
        if not records or len(bad) > len(records):
            raise ValueError(f"it is no JSON: {error}") from None
        return pd.DataFrame([_flat(record) for record in records]), bad


def _lines(text: str) -> tuple[list[Mapping[str, Any]], list[str]]:
    """Return the records of JSON lines; sentences begin with 'row I'."""
    records: list[Mapping[str, Any]] = []
    bad: list[str] = []
    for i, line in enumerate((line for line in text.split("\n") if line.strip()), start=1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            record = None
        if isinstance(record, dict):
            records.append(record)
        else:
            bad.append(f"row {i}: it is no JSON record; left out")
    return records, bad


def _records(content: Any) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a table, however it is nested."""
    if isinstance(content, dict):
        return _rows_of(content)
    if isinstance(content, list) and all(isinstance(row, dict) for row in content):
        return content
    if isinstance(content, list) and content and all(isinstance(row, list) for row in content):
        head, *rows = content
        return [dict(zip(map(str, head), row, strict=True)) for row in rows]
    raise ValueError("its JSON is no table: write a list of records, one for each row")


def _rows_of(content: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """Return the rows of a JSON object: columns and data apart, a list under a name, columns, or runs by their ids."""
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
    raise ValueError("its JSON is no table: write a list of records, one for each row")


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record whose nested mappings are columns: {"weights": {"web": 1}} is weight_web."""
    flat: dict[str, Any] = {}
    for name, value in record.items():
        if not isinstance(value, dict):
            flat[str(name)] = value
            continue
        prefix = NESTED.get(str(name).lower(), f"{name}.")
        flat |= {f"{prefix}{inner}": cell for inner, cell in _flat(value).items()}
    return flat
