"""Readers of people's own files: text, JSON lines, CSV and parquet tables, and webdataset shards."""

import codecs
import glob
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from data.budget import BadDocuments, Reader
from data.config import SourceConfig
from data.documents import IMAGE, Document, as_text, placed
from data.images import SUFFIXES as IMAGES
from data.tar import TarShards
from mixlaw.errors import DataError

CAPTION = "caption"  # what image-text sets call their text
BLOCK = 1 << 20
REPLACEMENT = "\ufffd"
ZEROS = bytes(16)  # no text holds as many: where a write was lost, file systems give zeros


def text(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[str]:
    """Yield the file as one document."""
    document = _decode(path.read_bytes(), str(path), bad)
    if document is not None:
        yield document


def _decode(raw: bytes, where: str, bad: BadDocuments) -> str | None:
    _refuse_zeros(raw, where)
    return bad.decode(raw, where)


def _refuse_zeros(raw: bytes, where: str) -> None:
    if ZEROS in raw:
        raise DataError(f"{where}: a part of it was overwritten by zeros, or it is no text: write it again")


def table(path: Path, source: SourceConfig, bad: BadDocuments, kind: str) -> Iterator[str]:
    """Yield the text column of a file, one document per record, by streaming with Hugging Face datasets."""
    number = 0
    with _utf8(path, kind) as (readable, damaged), _quiet_datasets():
        for number, row in enumerate(_rows(readable, source, kind), 1):
            document = row.get(source.text_key)
            if not isinstance(document, str):
                raise DataError(_no_text(path, number, row, source.text_key))
            if damaged and REPLACEMENT in document:
                bad.add(f"{path}, record {number}", "in this record")
            else:
                yield document
    if damaged and not number:
        bad.add(str(path), "it holds no record")


def _rows(path: Path, source: SourceConfig, kind: str) -> Iterator[dict[str, Any]]:
    import datasets  # a second of imports that the fast path never needs

    # otherwise it asks the hub about every file, which takes up to 3 s where the network is closed
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
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
    """Say whether a file is UTF-8; refuse one that was overwritten by zeros."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                _refuse_zeros(block, str(path))
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


def webdataset(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[str] | Iterator[Document]:
    """Yield the text of each sample of a tar shard, with its images where these are wanted."""
    shards = TarShards([path])
    for number, key in enumerate(shards.keys):
        sample, where = shards.sample(number), f"{path}: {key}"
        text = sample_text(sample, where, source.text_key, bad, IMAGE if source.images else "")
        if text is not None:
            document = _with_images(sample, text, where, bad) if source.images else text
            if document is not None:
                yield document


def _with_images(sample: dict[str, bytes], text: str, where: str, bad: BadDocuments) -> Document | None:
    """Return a sample as a document, or None where it has no images, or not those that its text has places for.

    Images stand before the text; where that is a list with null (as OBELICS has it), there: <key>.0.jpg at the first
    null, <key>.1.jpg at the second, and a null whose image was lost is nothing.
    """
    found = {suffix: raw for suffix, raw in sample.items() if suffix.rpartition(".")[2] in IMAGES}
    numbers = {suffix: int(number) for suffix in found if (number := suffix.partition(".")[0]).isdigit()}
    n_places = text.count(IMAGE)
    images: list[bytes | None] = [found[suffix] for suffix in sorted(found, key=lambda s: (numbers.get(s, -1), s))]
    if len(numbers) == len(found) <= n_places and all(number < n_places for number in numbers.values()):
        by_number = {number: found[suffix] for suffix, number in numbers.items()}
        images = [by_number.get(number) for number in range(n_places)]
    try:
        return placed(text, images, where)
    except ValueError as error:
        bad.add(where, f"{error}, it has .{', .'.join(sample)}", "its images are not there")
        return None


def sample_text(sample: dict[str, bytes], where: str, text_key: str, bad: BadDocuments, place: str = "") -> str | None:
    """Return a sample's `.txt`, or else what its `.json` has under `text_key` or "caption"; None where it is bad.

    Of a list, the texts as paragraphs, with `place` for each null.

    Raises
    ------
    DataError
        Naming the member, if there is no such text, or more are not UTF-8 than allowed.
    """
    if "txt" in sample:
        return _decode(sample["txt"], f"{where}.txt", bad)
    if "json" not in sample:
        raise DataError(f"{where}: no .txt or .json that could hold its text, it has .{', .'.join(sample)}")
    raw = _decode(sample["json"], f"{where}.json", bad)
    if raw is None:
        return None
    try:
        facts = json.loads(raw)
    except (ValueError, RecursionError):
        raise DataError(f"{where}.json: is damaged, it is not JSON: repair or remove the sample") from None
    found = [facts[key] for key in (text_key, CAPTION) if key in facts] if isinstance(facts, dict) else []
    text = as_text(found[0], place) if found else None
    if text is None:
        raise DataError(f"{where}.json: no text under '{text_key}' or '{CAPTION}': set text_key to what holds it")
    return text


OWN_FILE_READERS: dict[str, Reader] = {
    "text": text,
    "jsonl": partial(table, kind="json"),
    "csv": partial(table, kind="csv"),
    "parquet": partial(table, kind="parquet"),
    "webdataset": webdataset,
}
