"""Reads a corpus that is to be divided: the text of each document, and the value that decides its domain."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from data.config import SourceConfig
from data.preparation.sources import unreadable_files_named
from data.readers.budget import BadDocuments
from data.readers.documents import lookup
from data.readers.files import sample_text, text
from data.readers.paths import SUFFIXES, find_files
from data.readers.records import Row, records
from data.readers.webdataset import TarShards
from mixlaw.errors import ConfigError, DataError, unknown_name

KINDS = {"jsonl": "json", "csv": "csv", "parquet": "parquet"}  # readers of records
READERS = (*KINDS, "webdataset", "text")
MOST_WITHOUT = 1000  # if the first documents all lack the column, the corpus does not have it


@dataclass(frozen=True)
class Document:
    """A document of the corpus.

    Attributes
    ----------
    value : of the column that decides the domain, or the document's vector; None if there is no such column
    """

    text: str
    value: Any = None


@dataclass(frozen=True)
class Corpus:
    """A corpus that can be read several times, always in the same order.

    Attributes
    ----------
    source : reader, path and column of the text
    files : of the path, in reading order
    column : whose value decides the domain (a.b: b inside a); empty: none
    vectors : .npy file with a row per document, in reading order; takes the place of `column`
    budget : unreadable documents to skip
    """

    source: SourceConfig
    files: list[Path]
    column: str = ""
    vectors: Path | None = None
    budget: int = 0

    def __iter__(self) -> Iterator[Document]:
        documents = with_column(self._documents(), self) if self.column else self._documents()
        return with_vectors(documents, self.vectors) if self.vectors else documents

    def _documents(self) -> Iterator[Document]:
        bad = BadDocuments(self.budget, setting="--bad-budget")
        for path in self.files:
            with unreadable_files_named(path, self.source.reader):
                for words, row in _rows(path, self.source, self.column, bad):
                    yield Document(words, value_of(row, self.column))


def _rows(path: Path, source: SourceConfig, column: str, bad: BadDocuments) -> Iterator[tuple[str, Row]]:
    """Yield the text of each document of a file, and its other columns."""
    if source.reader == "text":
        yield from ((words, {}) for words in text(path, source, bad))
    elif source.reader == "webdataset":
        yield from _samples(path, source, column, bad)
    else:
        yield from records(path, source.text_column, KINDS[source.reader], bad, [column] if column else [])


def _samples(path: Path, source: SourceConfig, column: str, bad: BadDocuments) -> Iterator[tuple[str, Row]]:
    shards = TarShards([path])
    for number, key in enumerate(shards.keys):
        sample = shards.sample(number)
        words = sample_text(sample, f"{path}: {key}", source.text_key, bad)
        if words is not None:
            yield words, _facts(sample) if column else {}


def _facts(sample: Mapping[str, bytes]) -> Row:
    """Return the columns of the .json member of a sample, {} if there is none."""
    facts = json.loads(sample.get("json", b"{}"))
    return facts if isinstance(facts, dict) else {}


def value_of(row: Row, column: str) -> Any:
    """Return the value of a column, or of one inside another (a.b); None if the record lacks it."""
    return row[column] if column in row else lookup(row, column)


def with_column(documents: Iterable[Document], corpus: Corpus) -> Iterator[Document]:
    """Yield the documents; refuse a corpus whose first documents all have no value in the column.

    Raises
    ------
    DataError
        With the columns that the corpus has, and the one of the closest name.
    """
    waiting: list[Document] | None = []
    for document in documents:
        if waiting is None:
            yield document
        elif document.value is None and len(waiting) < MOST_WITHOUT:
            waiting.append(document)
        elif document.value is None:
            break
        else:
            yield from [*waiting, document]
            waiting = None
    if waiting:
        names = column_names(corpus)
        missing = f"the column '{corpus.column}' is empty in all of the first {len(waiting):,} documents"
        fault = missing if corpus.column in names else unknown_name("column", corpus.column, names)
        raise DataError(f"{corpus.files[0]}: {fault}")


def column_names(corpus: Corpus) -> list[str]:
    """Return the columns of the first record, those inside others as a.b."""
    path, reader = corpus.files[0], corpus.source.reader
    if reader == "parquet":
        from pyarrow import parquet

        return list(_leaves(parquet.read_schema(path)))
    if reader == "webdataset":
        return _flat(_facts(TarShards([path]).sample(0)))
    first: Row = next((row for _, row in records(path, corpus.source.text_column, KINDS[reader], BadDocuments())), {})
    return _flat(first)


def _leaves(fields: Iterable[Any], prefix: str = "") -> Iterator[str]:
    from pyarrow.types import is_struct

    for field in fields:
        if is_struct(field.type):
            yield from _leaves(field.type.fields, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def _flat(row: Row, prefix: str = "") -> list[str]:
    names = []
    for name, value in row.items():
        names += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) and value else [f"{prefix}{name}"]
    return names


def with_vectors(documents: Iterable[Document], path: Path) -> Iterator[Document]:
    """Yield the documents with the rows of a .npy file as their values.

    Raises
    ------
    DataError
        If it is no table of numbers, or has another number of rows than there are documents.
    """
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        raise DataError(f"--vectors {path}: {error.strerror or error}") from None
    except (ValueError, EOFError):
        raise DataError(f"--vectors {path}: it is no table of numbers in NumPy's .npy format") from None
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise DataError(f"--vectors {path}: {vectors.dtype} of shape {vectors.shape}: it must be a row per document")
    number = 0
    for number, document in enumerate(documents, 1):
        if number <= len(vectors):
            yield Document(document.text, vectors[number - 1])
    if number != len(vectors):
        raise DataError(f"--vectors {path}: {len(vectors):,} rows for {number:,} documents: they must be as many")


def open_corpus(
    path: str, reader: str, text_key: str, column: str = "", vectors: Path | None = None, budget: int = 0
) -> Corpus:
    """Return the corpus of a path: a file, a folder or a glob.

    Parameters
    ----------
    reader : a name in READERS; empty: the one that reads the suffixes of the files

    Raises
    ------
    ConfigError, DataError
        If there are no files, or files of several kinds.
    """
    source = SourceConfig(reader=reader or reader_of(path), path=path, text_key=text_key)
    if source.reader == "text" and column:
        raise ConfigError(f"--column {column}: a text file has no columns; --by language and --by clusters need none")
    return Corpus(source, find_files(source, "PATH"), column, vectors, budget)


def reader_of(path: str) -> str:
    """Return the reader of the files of a path; files of records take precedence over plain texts."""
    found = [reader for reader in READERS if _reads_all(reader, path)]
    if not found:
        find_files(SourceConfig(reader="jsonl", path=path), "PATH")  # raises if there is no such file
    if not found or len(set(found) - {"text"}) > 1:
        kinds = " and ".join(found) or "no kind that data.split reads"
        raise ConfigError(f"{path}: the files are of {kinds}: choose --reader {', '.join(READERS)}")
    return found[0]


def _reads_all(reader: str, path: str) -> bool:
    with suppress(DataError):
        files = find_files(SourceConfig(reader=reader, path=path), "PATH")
        return all(file.name.lower().endswith(SUFFIXES[reader]) for file in files)
    return False
