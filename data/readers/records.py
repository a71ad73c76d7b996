"""Reads one column of JSON lines, CSV and parquet files; errors in other columns do not matter.

Nothing is guessed: a damaged record is counted as a bad document, with its number.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.readers.budget import BadDocuments
from data.readers.compressed import open_plain
from mixlaw.errors import DataError

Row = Mapping[str, Any]
Rows = Iterator[tuple[int, Row]]  # number of the record, from 1, and its columns
UTF16 = ("\udcff\udcfe", "\udcfe\udcff")  # byte order marks, decoded with surrogateescape
ZEROS = "\0" * 16  # a run of zeros shows a lost write; texts contain none
MOST_WITHOUT = 1000  # if the first records all lack the column, the file does not have it
BATCH_ROWS = 256  # of parquet; a document may have megabytes
NOT_UTF8 = re.compile("[\udc80-\udcff]")  # bytes that are not UTF-8, decoded with surrogateescape


def texts(path: Path, key: str, kind: str, bad: BadDocuments) -> Iterator[str]:
    """Yield one column of a file of records; see `records`."""
    return (text for text, _ in records(path, key, kind, bad))


def records(
    path: Path, key: str, kind: str, bad: BadDocuments, others: Sequence[str] = ()
) -> Iterator[tuple[str, Row]]:
    """Yield the text of each record, and the record.

    Parameters
    ----------
    key : name of the column of the text
    kind : "json", "csv" or "parquet"
    bad : counts records that are damaged, not UTF-8, or without a text in this column
    others : columns of parquet to read as well, those inside another as a.b; the other kinds read all columns

    Raises
    ------
    DataError
        If the file has no such column, or more records are bad than the budget allows.
    """
    seen, without, columns = False, list[int](), list[str]()
    rows = parquet_rows(path, key, bad, others) if kind == "parquet" else _ROWS[kind](path, key, bad)
    for number, row in rows:
        if key not in row and not seen:  # counted as bad later, if another record has the column
            without.append(number)
            columns = columns or list(row)
            if len(without) == MOST_WITHOUT:
                break
            continue
        seen = True
        while without:
            _add_without_text(path, without.pop(0), key, None, bad)
        value = row.get(key)
        if not isinstance(value, str):
            _add_without_text(path, number, key, value, bad)
        elif broken := not_utf8(value):
            bad.add(f"{path}, record {number}", f"byte 0x{ord(broken[0]) - 0xDC00:02x} in '{key}'")
        else:
            yield value, row
    if without:
        raise DataError(no_column(path, key, columns))


def not_utf8(text: str) -> re.Match[str] | None:
    """Return the first byte of a text that is not UTF-8, as `lines` decodes it; None if there is none."""
    try:
        text.encode()  # much faster than the regular expression
    except UnicodeEncodeError:
        return NOT_UTF8.search(text)
    return None


def _add_without_text(path: Path, number: int, key: str, value: Any, bad: BadDocuments) -> None:
    kind = "is empty" if value is None else f"is of type {type(value).__name__}"
    bad.add(f"{path}, record {number}", "no text", f"'{key}' {kind}")


def no_column(path: Path, key: str, columns: Iterable[str]) -> str:
    """Return the message for a missing column, with the existing ones."""
    names = (str(name).encode("ascii", "backslashreplace").decode() for name in columns)
    return f"{path}: no column '{key}', it has {', '.join(sorted(names))[:200]}: set text_key to the one with the text"


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file, decompressed, with line ends; bytes that are not UTF-8 become lone surrogates.

    Raises
    ------
    DataError
        If a part of the file was overwritten by zeros, or it is UTF-16.
    """
    with io.TextIOWrapper(open_plain(path), encoding="utf-8", errors="surrogateescape", newline="") as file:
        for number, line in enumerate(file):
            if ZEROS in line:
                raise DataError(f"{path}: a part of it was overwritten by zeros, or it is not text: write it again")
            if number == 0 and line.startswith(UTF16):
                raise DataError(
                    f"{path} is UTF-16: convert it: iconv -f UTF-16 -t UTF-8 {path.name} > {path.stem}.utf8"
                )
            yield line.removeprefix("\ufeff") if number == 0 else line


def json_rows(path: Path, key: str, bad: BadDocuments) -> Rows:
    """Yield the records of JSON lines, of one JSON array, or of objects that span several lines."""
    number = 0
    for values, error, raw in _json_values(path, key):
        for value in values:
            number += 1
            if isinstance(value, dict):
                text = value.get(key)
                if isinstance(text, str) and not_utf8(text) and not not_utf8(raw):  # an escaped half of a character
                    value[key] = NOT_UTF8.sub("", text)
                yield number, value
            else:
                bad.add(f"{path}, record {number}", f"a {type(value).__name__}", "it is not a JSON object")
        if error:
            number += 1
            bad.add(f"{path}, record {number}", error, "JSON parse error")


def _json_values(path: Path, key: str) -> Iterator[tuple[list[Any], str, str]]:
    """Yield for each line: its values (usually one), the error after them or '', and the line."""
    decoder = _once(key)
    quoted = json.dumps(key)
    first = True
    for line in lines(path):
        text = line.strip()
        if not text:
            continue
        if first and (text[0] == "[" or text[-1] != "}"):
            whole = "".join(lines(path))
            values, error = _decoded(whole, decoder)
            if not error:
                yield (values[0] if len(values) == 1 and isinstance(values[0], list) else values), "", whole
                return
        first = False
        if text.count(quoted) > 1:  # the key may occur twice, which the default decoder ignores
            yield *_decoded(text, decoder), text
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            yield *_decoded(text, decoder), text
        else:
            yield [value], "", text


def _once(key: str) -> json.JSONDecoder:
    """Return a decoder that refuses objects with a duplicate of the key."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        if sum(name == key for name, _ in found) > 1:
            raise ValueError(f"'{key}' is specified twice")
        return dict(found)

    return json.JSONDecoder(object_pairs_hook=pairs)


def _decoded(text: str, decoder: json.JSONDecoder) -> tuple[list[Any], str]:
    """Return the concatenated JSON values of a text, and the error after the last one or ''."""
    values: list[Any] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        try:
            value, at = decoder.raw_decode(text, at)
        except RecursionError:
            return values, "nested too deeply"
        except ValueError as error:
            return values, str(error).partition(": line ")[0]
        values.append(value)
    return values, ""


def csv_rows(path: Path, key: str, bad: BadDocuments) -> Rows:
    """Yield the records of a CSV file with a header; a record with another number of fields is bad.

    Raises
    ------
    DataError
        If the header is missing or lacks the column, or a quote is never closed.
    """
    csv.field_size_limit(sys.maxsize)
    reader = csv.reader(lines(path), strict=True)
    header = next(reader, [])
    if header.count(key) != 1:
        if len(header) == 1 and (other := next((c for c in ";\t|" if c in header[0]), "")):
            raise DataError(
                f"{path}: its columns are separated by {other!r}; this reader needs commas: convert the file"
            )
        twice = f"{path}: the header has the column '{key}' {header.count(key)} times: rename all but one"
        raise DataError(twice if key in header else no_column(path, key, header))
    number = 0
    while True:
        number, line = number + 1, reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise DataError(f"{path}, record {number}: a quote (line {line}) is never closed") from None
            bad.add(f"{path}, record {number}", f"line {line}: {error}", "wrong quotes")
            continue
        if not row:  # a blank line
            number -= 1
        elif len(row) != len(header):
            bad.add(f"{path}, record {number}", f"line {line}", f"{len(row)} fields, but {len(header)} in the header")
        else:
            yield number, dict(zip(header, row, strict=True))


def parquet_rows(path: Path, key: str, bad: BadDocuments, others: Sequence[str] = ()) -> Rows:
    """Yield one column of a parquet file, and other ones if they exist, without reading the rest.

    Raises
    ------
    DataError
        If there is no such column, or its type cannot be read.
    """
    import pyarrow
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        if key not in file.schema_arrow.names:
            raise DataError(no_column(path, key, file.schema_arrow.names))
        number = 0
        try:
            for batch in file.iter_batches(BATCH_ROWS, columns=[key, *others]):
                columns = {name: _values(batch.column(name)) for name in batch.schema.names}
                for values in zip(*columns.values(), strict=True):
                    number += 1
                    yield number, dict(zip(columns, values, strict=True))
        except pyarrow.ArrowNotImplementedError as error:
            raise DataError(f"{path}: the column '{key}' cannot be read: {str(error).splitlines()[0]}") from None


def _values(column: Any) -> list[Any]:
    """Return the values of an Arrow column; bytes that are not UTF-8 become lone surrogates."""
    import pyarrow

    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        large = pyarrow.types.is_large_string(column.type)
        raw = column.view(pyarrow.large_binary() if large else pyarrow.binary()).to_pylist()
        return [value if value is None else value.decode("utf-8", "surrogateescape") for value in raw]


_ROWS: dict[str, Callable[[Path, str, BadDocuments], Rows]] = {"json": json_rows, "csv": csv_rows}
