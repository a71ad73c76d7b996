"""Records of JSON lines, CSV and parquet files, of which one column is wanted: no other column can stop the reading.

Nothing is shifted, filled or guessed: a record that is damaged is counted as a bad document, by its number.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from data.readers.budget import BadDocuments
from data.readers.compressed import open_plain
from mixlaw.errors import DataError

Row = Mapping[str, Any]
Rows = Iterator[tuple[int, Row]]  # number of the record, from 1, and its columns
UTF16 = ("\udcff\udcfe", "\udcfe\udcff")  # its marks of byte order, as bytes that are not UTF-8
ZEROS = "\0" * 16  # no text holds as many: where a write was lost, file systems give zeros
MOST_WITHOUT = 1000  # records without the wanted column at the beginning of a file: then it has none
BATCH_ROWS = 256  # of parquet: a document may have megabytes
NOT_UTF8 = re.compile("[\udc80-\udcff]")  # how Python keeps bytes that are not UTF-8


def texts(path: Path, key: str, kind: str, bad: BadDocuments) -> Iterator[str]:
    """Yield one column of a file of records.

    Parameters
    ----------
    key : the column
    kind : "json", "csv" or "parquet"
    bad : counts records that are damaged, not UTF-8, or without a text in this column

    Raises
    ------
    DataError
        If the file has no such column, or more records are bad than allowed.
    """
    seen, without, columns = False, list[int](), list[str]()
    for number, row in _ROWS[kind](path, key, bad):
        if key not in row and not seen:  # a bad record where a later one has the column
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
            yield value
    if without:
        raise DataError(no_column(path, key, columns))


def not_utf8(text: str) -> re.Match[str] | None:
    """Return the first byte of a text that is not UTF-8, as `lines` keeps it."""
    try:
        text.encode()  # many times faster than the search
    except UnicodeEncodeError:
        return NOT_UTF8.search(text)
    return None


def _add_without_text(path: Path, number: int, key: str, value: Any, bad: BadDocuments) -> None:
    kind = "is empty" if value is None else f"is of type {type(value).__name__}"
    bad.add(f"{path}, record {number}", "no text", f"'{key}' {kind}")


def no_column(path: Path, key: str, columns: Iterable[str]) -> str:
    """Return the sentence about a column that is not there, with those that are."""
    names = (str(name).encode("ascii", "backslashreplace").decode() for name in columns)
    return f"{path}: no column '{key}', it has {', '.join(sorted(names))[:200]}: set text_key to the one with the text"


def lines(path: Path) -> Iterator[str]:
    """Yield the lines of a file, packed or not, with their ends; bytes that are not UTF-8 as lone surrogates.

    Raises
    ------
    DataError
        If a part of the file was overwritten by zeros, or it is UTF-16.
    """
    with io.TextIOWrapper(open_plain(path), encoding="utf-8", errors="surrogateescape", newline="") as file:
        for number, line in enumerate(file):
            if ZEROS in line:
                raise DataError(f"{path}: a part of it was overwritten by zeros, or it is no text: write it again")
            if number == 0 and line.startswith(UTF16):
                raise DataError(
                    f"{path} is UTF-16: convert it, iconv -f UTF-16 -t UTF-8 {path.name} > {path.stem}.utf8"
                )
            yield line.removeprefix("\ufeff") if number == 0 else line


def json_rows(path: Path, key: str, bad: BadDocuments) -> Rows:
    """Yield the records of JSON lines, or of one JSON array, or of objects that go over several lines."""
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
                bad.add(f"{path}, record {number}", f"a {type(value).__name__}", "it is no JSON object")
        if error:
            number += 1
            bad.add(f"{path}, record {number}", error, "JSON parse error")


def _json_values(path: Path, key: str) -> Iterator[tuple[list[Any], str, str]]:
    """Yield for each line its values (mostly one), what is wrong behind them, if anything is, and the line."""
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
        if text.count(quoted) > 1:  # rarely the key twice, which the plain decoder does not see
            yield *_decoded(text, decoder), text
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            yield *_decoded(text, decoder), text
        else:
            yield [value], "", text


def _once(key: str) -> json.JSONDecoder:
    """Return a decoder that refuses objects that have the key twice."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        if sum(name == key for name, _ in found) > 1:
            raise ValueError(f"'{key}' is specified twice")
        return dict(found)

    return json.JSONDecoder(object_pairs_hook=pairs)


def _decoded(text: str, decoder: json.JSONDecoder) -> tuple[list[Any], str]:
    """Return the values that stand in a text one behind the other, and what is wrong behind the last."""
    values: list[Any] = []
    at = 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        try:
            value, at = decoder.raw_decode(text, at)
        except RecursionError:
            return values, "nested too deep"
        except ValueError as error:
            return values, str(error).partition(": line ")[0]
        values.append(value)
    return values, ""


def csv_rows(path: Path, key: str, bad: BadDocuments) -> Rows:
    """Yield the records of a CSV file with a header; one with more or fewer fields than it is bad.

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
                f"{path}: its columns are separated by {other!r}; CSV has commas: write it again with these"
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


def parquet_rows(path: Path, key: str, bad: BadDocuments) -> Rows:
    """Yield the wanted column of a parquet file, reading no other.

    Raises
    ------
    DataError
        If there is no such column, or it has a type that cannot be read.
    """
    import pyarrow
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        if key not in file.schema_arrow.names:
            raise DataError(no_column(path, key, file.schema_arrow.names))
        number = 0
        try:
            for batch in file.iter_batches(BATCH_ROWS, columns=[key]):
                for value in _values(batch.column(key)):
                    number += 1
                    yield number, {key: value}
        except pyarrow.ArrowNotImplementedError as error:
            raise DataError(f"{path}: the column '{key}' cannot be read: {str(error).splitlines()[0]}") from None


def _values(column: Any) -> list[Any]:
    """Return the values of a column of arrow's; texts that are not UTF-8 with lone surrogates."""
    import pyarrow

    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        large = pyarrow.types.is_large_string(column.type)
        raw = column.view(pyarrow.large_binary() if large else pyarrow.binary()).to_pylist()
        return [value if value is None else value.decode("utf-8", "surrogateescape") for value in raw]


_ROWS: dict[str, Callable[[Path, str, BadDocuments], Rows]] = {
    "json": json_rows,
    "csv": csv_rows,
    "parquet": parquet_rows,
}
