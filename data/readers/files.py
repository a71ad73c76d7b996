"""Readers of local files: text, JSON lines, CSV, parquet, and webdataset shards."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from data.config import TEXT, SourceConfig
from data.readers.budget import BadDocuments, Reader
from data.readers.documents import IMAGE, Document, as_text, lookup, placed
from data.readers.images import SUFFIXES as IMAGES
from data.readers.records import texts
from data.readers.webdataset import TarShards
from mixlaw.errors import DataError

CAPTION = "caption"  # usual key of the text in image-text data sets
ZEROS = bytes(16)  # a run of zeros shows a lost write; texts contain none


def text(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[str]:
    """Yield the whole file as one document."""
    document = _decode(path.read_bytes(), str(path), bad)
    if document is not None:
        yield document


def _decode(raw: bytes, where: str, bad: BadDocuments) -> str | None:
    _refuse_zeros(raw, where)
    return bad.decode(raw, where)


def _refuse_zeros(raw: bytes, where: str) -> None:
    if ZEROS in raw:
        raise DataError(f"{where}: a part of it was overwritten by zeros, or it is not text: write it again")


def table(path: Path, source: SourceConfig, bad: BadDocuments, kind: str) -> Iterator[str]:
    """Yield the text column of a file, one document per record."""
    yield from texts(path, source.text_column, kind, bad)


def webdataset(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[str] | Iterator[Document]:
    """Yield one document per sample of a tar shard, with its images if `source.images`."""
    shards = TarShards([path])
    for number, key in enumerate(shards.keys):
        sample, where = shards.sample(number), f"{path}: {key}"
        text = sample_text(sample, where, source.text_key, bad, IMAGE if source.images else "")
        if text is not None:
            document = _with_images(sample, text, where, bad) if source.images else text
            if document is not None:
                yield document


def _with_images(sample: dict[str, bytes], text: str, where: str, bad: BadDocuments) -> Document | None:
    """Return a sample as a document; None, counted as bad, if its images are missing or do not match the text.

    Images are before the text, or at the nulls of a list of texts (as in OBELICS): <key>.0.jpg at the first null,
    <key>.1.jpg at the second; a null without its image is dropped.
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
        bad.add(where, f"{error}, it has .{', .'.join(sample)}", "images are missing")
        return None


def sample_text(sample: dict[str, bytes], where: str, text_key: str, bad: BadDocuments, place: str = "") -> str | None:
    """Return the text of a sample; None if it has none and the budget allows to skip it.

    With a `text_key`, the text is the value of that key in a .json member (a.b: b inside a). Without, it is `.txt`,
    else "text" or "caption" of a .json member. A list becomes paragraphs, with `place` for each null.

    Raises
    ------
    DataError
        If the sample is damaged, has no text or is not UTF-8, and the budget is used up; names the member.
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
        has += f", and in .json {', '.join(names) or 'no keys'}: set text_key to the key of the text"
        bad.add(f"{where}.{members[0]}", has, f"no text under {wanted}")
    else:
        bad.add(where, has, f"no .json with '{text_key}'" if text_key else "no .txt or .json with its text")
    return None


def _facts(raw: str, where: str, bad: BadDocuments) -> dict[str, Any] | None:
    """Return the object of a .json member, {} for other JSON values; None, counted as bad, if it is not JSON."""
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
