"""Readers of people's own files: text, JSON lines, CSV and parquet tables, and webdataset shards."""

import codecs
import glob
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from data.budget import BadDocuments, Reader
from data.config import SourceConfig
from mixlaw.errors import DataError

SUFFIXES = {  # which files of a folder each reader takes
    "text": (".txt", ".md"),
    "jsonl": (".jsonl", ".json", ".jsonl.gz", ".json.gz"),
    "csv": (".csv", ".csv.gz"),
    "parquet": (".parquet",),
    "webdataset": (".tar",),
}
TAR_END = 1024  # a complete tar archive ends in two blocks of zeros
BLOCK = 1 << 20
REPLACEMENT = "\ufffd"


def find_files(source: SourceConfig, where: str) -> list[Path]:
    """Return the files that `path` means (a file, a folder or a glob), sorted.

    Raises
    ------
    DataError
        If there is none.
    """
    path = Path(source.path).expanduser()
    if path.is_file():
        return [path.resolve()]
    if path.is_dir():
        suffixes = SUFFIXES[source.reader]
        found = [p for p in path.rglob("*") if p.is_file() and p.name.endswith(suffixes)]
        missing = f"{where}.path: the folder {path} holds no file that ends in {' or '.join(suffixes)}"
    else:
        found = [p for p in map(Path, glob.glob(str(path), recursive=True)) if p.is_file()]
        missing = f"{where}.path: {path} is neither a file nor a folder, and matches no file as a pattern"
    if not found:
        raise DataError(f"{missing} (looked from {Path.cwd()})")
    return sorted(p.resolve() for p in found)


def text(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[str]:
    """Yield the file as one document."""
    document = bad.decode(path.read_bytes(), str(path))
    if document is not None:
        yield document


def table(path: Path, source: SourceConfig, bad: BadDocuments, kind: str) -> Iterator[str]:
    """Yield the text column of a file, one document per record, by streaming with Hugging Face datasets."""
    with _utf8(path, kind) as (readable, damaged), _quiet_datasets():
        for number, row in enumerate(_rows(readable, source, kind), 1):
            document = row.get(source.text_key)
            if not isinstance(document, str):
                raise DataError(_no_text(path, number, row, source.text_key))
            if damaged and REPLACEMENT in document:
                bad.add(f"{path}, record {number}", "in this record")
            else:
                yield document


def _rows(path: Path, source: SourceConfig, kind: str) -> Iterator[dict[str, Any]]:
    import datasets  # a second of imports that the fast path never needs

    key = source.text_key
    options: dict[str, dict[str, Any]] = {
        "csv": {"converters": {key: str}, "keep_default_na": False},  # "NA" and "12" are texts too
        "parquet": {"columns": [key]},
    }
    try:
        files = [glob.escape(str(path))]  # datasets reads `[` and `*` as a pattern
        yield from datasets.load_dataset(kind, data_files=files, split="train", streaming=True, **options.get(kind, {}))
    except StopIteration:  # how datasets says that a file holds no record
        return
    except (datasets.exceptions.DatasetsError, NotImplementedError) as error:
        raise ValueError(str(error)) from error


def _no_text(path: Path, number: int, row: dict[str, Any], key: str) -> str:
    if key not in row:
        columns = ", ".join(sorted(row))
        return f"{path}: no column '{key}', it has {columns}: set text_key to the one that holds the text"
    kind = "empty" if row[key] is None else f"of type {type(row[key]).__name__}"
    return f"{path}, record {number}: '{key}' is {kind}, not text: repair or remove the record"


@contextmanager
def _utf8(path: Path, kind: str) -> Iterator[tuple[Path, bool]]:
    """Give the file itself, or a copy with replacement characters where it is not UTF-8; say which."""
    if path.suffix == ".gz" or kind == "parquet" or _is_utf8(path):
        yield path, False
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        with (
            path.open(encoding="utf-8", errors="replace", newline="") as old,
            copy.open("w", newline="") as new,
        ):
            while block := old.read(BLOCK):
                new.write(block)
        yield copy, True


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


@contextmanager
def _quiet_datasets() -> Iterator[None]:
    """Silence the log of errors that are raised anyway, and the warning about the CSV files left open."""
    logger = logging.getLogger("datasets")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            yield
    finally:
        logger.setLevel(level)


def webdataset(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[str]:
    """Yield the `.txt` members of a tar shard."""
    from webdataset.tariterators import tar_file_iterator

    _refuse_cut_tar(path)
    with path.open("rb") as file:
        for member in tar_file_iterator(file, select_files=lambda name: name.endswith(".txt")):
            document = bad.decode(member["data"], f"{path}: {member['fname']}")
            if document is not None:
                yield document


def _refuse_cut_tar(path: Path) -> None:
    """Tar readers take an archive that was cut between two members for a shorter one."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - TAR_END, 0))
        if file.read() != bytes(TAR_END):
            raise DataError(f"{path}: the shard is cut or no tar archive (its end mark is missing): write it again")


OWN_FILE_READERS: dict[str, Reader] = {
    "text": text,
    "jsonl": partial(table, kind="json"),
    "csv": partial(table, kind="csv"),
    "parquet": partial(table, kind="parquet"),
    "webdataset": webdataset,
}
