"""Records of JSON lines, CSV and parquet: the wanted column whatever the others hold, and nothing shifted or lost."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data.preparation.corpus import clean
from data.readers.budget import BadDocuments
from data.readers.records import texts
from mixlaw.errors import DataError

some_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def read(path: Path, kind: str, budget: int = 0, key: str = "text") -> list[str]:
    return list(texts(path, key, kind, BadDocuments(budget)))


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# CSV


@pytest.mark.parametrize("row", ["b,2,3", "b", '"b, 2"', "b,2,,,", "," * 5])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_row_with_more_or_fewer_fields_than_the_header_is_refused_by_its_number(
    tmp_path: Path, row: str, place: str
) -> None:
    rows = [f"text {i},{i}" for i in range(5)]
    at = {"first": 0, "middle": 2, "last": 5}[place]
    path = written(tmp_path, "a.csv", "\n".join(["text,n", *rows[:at], row, *rows[at:]]))
    n_fields = len(next(csv.reader([row])))
    with pytest.raises(
        DataError, match=rf"a\.csv, record {at + 1}: {n_fields} fields, but 2 in the header \(line {at + 2}\)"
    ):
        read(path, "csv")
    assert read(path, "csv", budget=1) == [f"text {i}" for i in range(5)]


def test_rows_with_a_number_of_their_own_are_not_shifted(tmp_path: Path) -> None:
    """As R writes them; pandas takes the first column for an index."""
    with pytest.raises(DataError, match="record 1: 3 fields, but 2 in the header"):
        read(written(tmp_path, "a.csv", "text,n\n1,a,7\n2,b,8\n"), "csv")


@given(
    rows=st.lists(st.tuples(some_text, some_text, some_text)),
    ragged=st.sets(st.integers(0, 20)),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@settings(max_examples=60)
def test_csv_gives_every_text_back_and_counts_every_ragged_row(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]], ragged: set[int], end: str, quoting: int
) -> None:
    other = {"\n": "\r", "\r": "\n"}.get(end, "")  # a line break that the writer does not quote
    assume(quoting == csv.QUOTE_ALL or not other or not any(other in field for row in rows for field in row))
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]
    writer.writerow(["a", "text", "b"])
    for i, row in enumerate(rows):
        writer.writerow((*row, "more") if i in ragged else row)
    path = written(tmp_path_factory.mktemp("csv"), "a.csv", stream.getvalue())
    bad = BadDocuments(len(rows))
    assert list(texts(path, "text", "csv", bad)) == [row[1] for i, row in enumerate(rows) if i not in ragged]
    assert bad.count == len(ragged & set(range(len(rows))))


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ('text,n\na,1\n"b,2\nc,3\n', r"record 2: a quote \(line 3\) is never closed"),
        ('text,n\na,1\n"b,2\n"c",3\n', "record 2: wrong quotes"),
        ('text,n\n"say \\"yes\\"",1\n', "record 1: wrong quotes"),
        ("text,n,text\na,1,b\n", "the header has the column 'text' 2 times"),
        ("body,n\na,1\n", "no column 'text', it has body, n"),
        ("body\n", "no column 'text', it has body"),
        ("", "no column 'text'"),
        ("text;n\na;1\n", "its columns are separated by ';'; this reader needs commas"),
        ("n\ttext\n1\ta\n", r"its columns are separated by '\\t'; this reader needs commas"),
        ("text,n\na,1\n".encode("utf-16"), r"a\.csv is UTF-16: convert it: iconv -f UTF-16 -t UTF-8 a\.csv"),
    ],
)
def test_csv_that_would_be_read_wrongly_is_refused(tmp_path: Path, content: str | bytes, cause: str) -> None:
    with pytest.raises(DataError, match=cause):
        read(written(tmp_path, "a.csv", content), "csv")


def test_an_unclosed_quote_stops_whatever_the_budget(tmp_path: Path) -> None:
    """It swallows all records behind it, and nobody knows how many."""
    with pytest.raises(DataError, match="never closed"):
        read(written(tmp_path, "a.csv", 'text,n\n"b,2\nc,3\n'), "csv", budget=100)


def test_blank_lines_are_no_records_and_fields_may_be_long(tmp_path: Path) -> None:
    long = "word " * 100_000
    path = written(tmp_path, "a.csv", f"\ufefftext,n\n\n{long},1\n\n\nb,2,3\n")
    assert read(path, "csv", budget=1) == [long]
    with pytest.raises(DataError, match=r"record 2: 3 fields, but 2 in the header \(line 6\)"):
        read(path, "csv")


# JSON


BIG = "alpha beta gamma delta " * 160  # 3,000 of it are above 10 MB, where other readers begin another block
OTHERS = {
    "null first": lambda i: {"url": None if i < 2900 else "http://x"},
    "late": lambda i: {} if i < 2900 else {"extra": {"deep": [i]}},
    "another type": lambda i: {"score": i if i < 2900 else f"s{i}"},
    "of every type": lambda i: {"x": [i, None, str(i), [i], {"y": i}][i % 5]},
    "nested": lambda i: {"meta": {"text": 1, "n": i} if i % 2 else None},
    "numbers that grow": lambda i: {"n": 10 ** (i % 40)},
    "struct then list": lambda i: {"meta": {"a": 1} if i < 2900 else [1]},
}


@pytest.mark.parametrize("other", OTHERS)
def test_other_columns_never_stop_json_lines(tmp_path: Path, other: str) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("w") as file:
        for i in range(3000):
            file.write(json.dumps({"text": f"{i} {BIG}"} | OTHERS[other](i)) + "\n")
    assert path.stat().st_size > 10_000_000
    assert read(path, "json") == [f"{i} {BIG}" for i in range(3000)]


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | some_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(some_text, inner, max_size=3),
    max_leaves=6,
)
other_columns = st.dictionaries(some_text.filter(lambda name: name != "text"), values, max_size=4)


@given(
    records=st.lists(st.tuples(some_text, other_columns), min_size=1, max_size=8),
    layout=st.sampled_from(["lines", "array", "pretty", "packed", "end to end"]),
    ascii_only=st.booleans(),
)
@settings(max_examples=80)
def test_json_gives_every_text_back_in_every_layout(
    tmp_path_factory: pytest.TempPathFactory, records: list[tuple[str, Any]], layout: str, ascii_only: bool
) -> None:
    rows = [other | {"text": text} for text, other in records]
    each = [json.dumps(row, ensure_ascii=ascii_only) for row in rows]
    folder = tmp_path_factory.mktemp("json")
    if layout == "packed":
        path = folder / "a.jsonl.gz"
        path.write_bytes(gzip.compress("\n".join(each).encode()))
    else:
        contents = {
            "lines": "\r\n".join(each),
            "array": json.dumps(rows, ensure_ascii=ascii_only),
            "pretty": "\n".join(json.dumps(row, indent=2, ensure_ascii=ascii_only) for row in rows),
            "end to end": "".join(each),
        }
        path = written(folder, "a.json", contents[layout])
    assert read(path, "json") == [text for text, _ in records]


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        (b'{"text": "b"', "record 2: JSON parse error"),
        (b'{"text": "b", "n": }', "record 2: JSON parse error"),
        (b'{"text": "b", "text": "c"}', r"record 2: JSON parse error \('text' is specified twice\)"),
        (b"[" * 100_000, r"record 2: JSON parse error \(nested too deeply\)"),
        (b"[1]", "record 2: it is not a JSON object"),
        (b"null", "record 2: it is not a JSON object"),
        (b'{"text": null}', "record 2: 'text' is empty"),
        (b'{"body": "b"}', "record 2: 'text' is empty"),
        (b'{"text": 3}', "record 2: 'text' is of type int"),
        (b'{"text": "caf\xe9"}', r"record 2: not UTF-8 \(byte 0xe9 in 'text'\)"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_a_bad_record_is_named_or_left_out_within_the_budget(
    tmp_path: Path, line: bytes, cause: str, packed: bool
) -> None:
    content = b"\n".join([b'{"text": "a"}', line, b'{"text": "c"}', b""])
    path = tmp_path / ("a.jsonl.gz" if packed else "a.jsonl")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(DataError, match=cause):
        read(path, "json")
    assert read(path, "json", budget=1) == ["a", "c"]


def test_a_column_that_no_record_has_is_refused_whatever_the_budget(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", '{"body": "a", "n": 1}\n' * 5)
    with pytest.raises(DataError, match=r"no column 'text', it has body, n: set text_key"):
        read(path, "json", budget=100)
    path = written(tmp_path, "b.jsonl", '{"body": "a"}\n' * 5000)
    with pytest.raises(DataError, match="no column 'text', it has body"):
        read(path, "json")


def test_first_records_without_the_column_are_bad_where_later_ones_have_it(tmp_path: Path) -> None:
    path = written(tmp_path, "a.jsonl", '{"body": "x"}\n{"body": "y"}\n{"text": "a"}\n')
    with pytest.raises(DataError, match="record 1: 'text' is empty"):
        read(path, "json")
    assert read(path, "json", budget=2) == ["a"]


def test_an_escaped_half_of_a_character_is_not_taken_for_a_damaged_byte(tmp_path: Path) -> None:
    lines = ['{"text": "a \\udc4d\\udce9 b"}', '{"text": "\\ud83d"}', '{"text": "\\ud83d\\udc4d"}', ""]
    path = written(tmp_path, "a.jsonl", "\n".join(lines))
    assert [clean(text) for text in read(path, "json")] == ["a  b", "", "👍"]


def test_bytes_that_are_not_utf8_in_other_columns_do_not_matter(tmp_path: Path) -> None:
    assert read(written(tmp_path, "a.jsonl", b'{"text": "a", "n": "\xe9"}\n'), "json") == ["a"]
    assert read(written(tmp_path, "a.csv", b"text,n\na,\xe9\n"), "csv") == ["a"]


# Parquet


def test_parquet_reads_one_column_only(tmp_path: Path) -> None:
    """A byte flipped within another column is never seen."""
    import pyarrow
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    table = pyarrow.table({"text": ["a", "b"] * 500, "other": [f"{i} SECRET" for i in range(1000)]})
    parquet.write_table(table, path, compression="none", use_dictionary=False)
    path.write_bytes(path.read_bytes().replace(b"SECRET", b"\xff\xfe\xfd\xfc\xfb\xfa"))
    assert read(path, "parquet") == ["a", "b"] * 500


def test_parquet_columns_of_every_type_of_text_and_none(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    kinds = {
        "string": pa.array(["a", None, "é"]),
        "large": pa.array(["a", None, "é"], pa.large_string()),
        "dictionary": pa.array(["a", None, "é"]).dictionary_encode(),
        "null": pa.array([None, None, None]),
        "list": pa.array([["a"], ["b"], ["c"]]),
        "int": pa.array([1, 2, 3]),
    }
    path = tmp_path / "a.parquet"
    parquet.write_table(pa.table(kinds), path)
    for key in ("string", "large", "dictionary"):
        assert read(path, "parquet", 1, key) == ["a", "é"]
        with pytest.raises(DataError, match=f"record 2: '{key}' is empty"):
            read(path, "parquet", 0, key)
    with pytest.raises(DataError, match="record 1: 'list' is of type list"):
        read(path, "parquet", 0, "list")
    with pytest.raises(DataError, match="record 1: 'int' is of type int"):
        read(path, "parquet", 0, "int")
    assert read(path, "parquet", 3, "null") == []
    with pytest.raises(DataError, match="no column 'text', it has dictionary, int, large, list, null, string"):
        read(path, "parquet")
