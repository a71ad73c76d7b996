"""Readers of people's own files: text, JSON lines, CSV and parquet tables, and webdataset shards."""

import codecs
import glob
import io
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
from data.compressed import is_packed, open_plain, plain_name
from data.config import TEXT, SourceConfig
from data.documents import IMAGE, Document, as_text, lookup, placed
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
    key, number, has_column = source.text_column, 0, False
    with _utf8(path, kind) as (readable, damaged), _quiet_datasets():
        for number, row in enumerate(_rows(readable, source, kind), 1):
            document, where = row.get(key), f"{path}, record {number}"
            has_column = has_column or key in row
            if not isinstance(document, str):
                if key not in row and not (bad.budget or has_column):
                    raise DataError(_no_column(path, row, key))
                bad.add(where, "text is expected", f"'{key}' {_instead_of_text(row, key)}")
            elif damaged and REPLACEMENT in document:
                bad.add(where, "in this record")
            else:
                yield document
    if number and not has_column:
        raise DataError(_no_column(path, row, key))
    if damaged and not number:
        bad.add(str(path), "it holds no record")


def _rows(path: Path, source: SourceConfig, kind: str) -> Iterator[dict[str, Any]]:
    import datasets  # a second of imports that the fast path never needs

    # otherwise it asks the hub about every file, which takes up to 3 s where the network is closed
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    key = source.text_column
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


def _no_column(path: Path, row: dict[str, Any], key: str) -> str:
    columns = ", ".join(sorted(row))
    return f"{path}: no column '{key}', it has {columns}: set text_key to the one that holds the text"


def _instead_of_text(row: dict[str, Any], key: str) -> str:
    """Say what a record has where its text should be."""
    if key not in row:
        return "is missing"
    return "is empty" if row[key] is None else f"is of type {type(row[key]).__name__}"


@contextmanager
def _utf8(path: Path, kind: str) -> Iterator[tuple[Path, bool]]:
    """Give the file itself, or an unpacked copy with replacement characters where it is not UTF-8; say which."""
    is_utf8 = kind == "parquet" or _is_utf8(path)
    if is_utf8 and (path.suffix == ".gz" or not is_packed(path)):  # datasets unpacks gzip by itself
        yield path, False
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / plain_name(path)
        with open_plain(path) as packed, copy.open("w", newline="", encoding="utf-8") as new:
            old = io.TextIOWrapper(packed, encoding="utf-8", errors="replace", newline="")
            while block := old.read(BLOCK):
                new.write(block)
        yield copy, not is_utf8


def _is_utf8(path: Path) -> bool:
    """Say whether a file, unpacked, is UTF-8; refuse one that was overwritten by zeros."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with open_plain(path) as file:
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
    """Return the text of a sample; None where it has none and the budget allows that.

    With a `text_key` it is what a .json member has under that key (a.b: b inside a), whatever .txt says; without one it
    is `.txt`, or else what a .json member has under "text" or "caption". Of a list, the texts as paragraphs, with
    `place` for each null.

    Raises
    ------
    DataError
        Naming the member, if more samples are damaged, have no text, or none in UTF-8, than allowed.
    """
    if "txt" in sample and not text_key:
        return _decode(sample["txt"], f"{where}.txt", bad)
    members = [suffix for suffix in sample if suffix == "json" or suffix.endswith(".json")]
    keys = [text_key] if text_key else [TEXT, CAPTION]
    found: list[Any] = []
    names: dict[str, None] = {}
    for suffix in members:
        if (raw := _decode(sample[suffix], f"{where}.{suffix}", bad)) is None:
            return None
        if (facts := _facts(raw, f"{where}.{suffix}", bad)) is None:
            return None
        names |= dict.fromkeys(facts)
        found += [facts[key] if key in facts else lookup(facts, key) for key in keys]
    for value in found:
        if (text := as_text(value, place)) is not None:
            return text
    has = f"it has .{', .'.join(sample)}"
    if members:
        wanted = " or ".join(f"'{key}'" for key in keys)
        has += f", and in .json {', '.join(names) or 'no names'}: set text_key to what holds it"
        bad.add(f"{where}.{members[0]}", has, f"no text under {wanted}")
    else:
        bad.add(where, has, f"no .json with '{text_key}'" if text_key else "no .txt or .json that could hold its text")
    return None


def _facts(raw: str, where: str, bad: BadDocuments) -> dict[str, Any] | None:
    """Return the names and values of a .json member, none of one that holds something else; None where it is bad."""
    try:
        facts = json.loads(raw)
    except (ValueError, RecursionError):
        bad.add(where, "it is not JSON", "is damaged")
        return None
    return facts if isinstance(facts, dict) else {}


OWN_FILE_READERS: dict[str, Reader] = {
    "text": text,
    "jsonl": partial(table, kind="json"),
    "csv": partial(table, kind="csv"),
    "parquet": partial(table, kind="parquet"),
    "webdataset": webdataset,
}
