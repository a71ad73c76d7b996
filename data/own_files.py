"""Readers of people's own files: text, JSON lines, CSV and parquet tables, and webdataset shards."""

import glob
import json
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from data.budget import BadDocuments, Reader
from data.config import SourceConfig
from data.documents import IMAGE, Document, as_text, placed
from data.images import SUFFIXES as IMAGES
from data.records import texts
from data.tar import TarShards
from mixlaw.errors import DataError

SUFFIXES = {  # which files of a folder each reader takes
    "text": (".txt", ".md"),
    "jsonl": (".jsonl", ".json", ".jsonl.gz", ".json.gz"),
    "csv": (".csv", ".csv.gz"),
    "parquet": (".parquet",),
    "webdataset": (".tar",),
    "tokens": (".bin",),
}
CAPTION = "caption"  # what image-text sets call their text
ZEROS = bytes(16)  # no text holds as many: where a write was lost, file systems give zeros


def find_files(source: SourceConfig, where: str) -> list[Path]:
    """Return the files that `path` means (a file, a folder or a glob), sorted.

    Raises
    ------
    DataError
        If there is none.
    """
    path, suffixes = Path(source.path).expanduser(), SUFFIXES[source.reader]
    if path.is_file():
        return [path.resolve()]
    if path.is_dir():
        found = _readable((p for p in path.rglob("*") if p.name.endswith(suffixes)), suffixes)
        missing = f"{where}.path: the folder {path} holds no file that ends in {' or '.join(suffixes)}"
    else:
        found = _readable(map(Path, glob.glob(str(path), recursive=True)), suffixes)
        missing = f"{where}.path: {path} is neither a file nor a folder, and matches no file as a pattern"
    if not found:
        raise DataError(f"{missing} (looked from {Path.cwd()})")
    for file in found:
        if not str(file).isprintable():
            raise DataError(f"{str(file)!r} has a name with control characters: rename it")
    return sorted(p.resolve() for p in found)


def _readable(paths: Iterable[Path], suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files; refuse what looks like one, but is a broken link, a device, or a folder without anything."""
    files = []
    for path in paths:
        if path.is_file():
            files.append(path)
        elif not path.is_dir() or (path.name.endswith(suffixes) and not any(path.iterdir())):
            raise DataError(f"{path}: is no file (a broken link, an empty folder or a device): repair or remove it")
    return files


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
    """Yield the text column of a file, one document per record."""
    yield from texts(path, source.text_key, kind, bad)


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
