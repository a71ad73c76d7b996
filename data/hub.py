"""Reader of Hugging Face datasets: streamed from the hub, or from a local folder in the same layout.

Nothing is downloaded beyond what a slice needs, and no code of a repository is ever run.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from data.budget import BadDocuments
from data.config import SourceConfig
from data.documents import IMAGE, Document, as_text, placed
from mixlaw.errors import ConfigError, DataError


def check_hub(source: SourceConfig, where: str) -> None:
    """Check that a source of the hub asks for a slice: whole corpora of the hub have terabytes.

    Raises
    ------
    ConfigError
        Naming the setting.
    """
    if min(source.hub.max_documents, source.hub.max_mb) < 0:
        raise ConfigError(f"{where}.hub: max_documents and max_mb are at least 0; 0 is no limit")
    if not (source.hub.max_documents or source.hub.max_mb or is_local(source)):
        raise ConfigError(f"{where}.hub: set max_documents or max_mb, so that not all of {source.path} is read")


def is_local(source: SourceConfig) -> bool:
    """Return whether a source lies on this machine."""
    return Path(source.path).expanduser().exists()


def hub_origin(source: SourceConfig) -> str:
    """Return what was read: the repository, its revision and subset, the filter and the slice."""
    hub = source.hub
    parts = [source.path + (f"@{hub.revision}" if hub.revision else ""), hub.subset, hub.split]
    parts += [f"{key}={value}" for key, value in hub.where.items()]
    limits = ((hub.max_documents, f"first {hub.max_documents:,} documents"), (hub.max_mb, f"first {hub.max_mb:g} MB"))
    return ", ".join(filter(None, [*parts, *(words for limit, words in limits if limit)]))


def hub(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[str] | Iterator[Document]:
    """Yield the text of each record that matches, up to the limits, one document per record, with its images."""
    n_documents, n_bytes = 0, 0
    for number, row in enumerate(_records(source), 1):
        if any(str(lookup(row, key)) != value for key, value in source.hub.where.items()):
            continue
        text = as_text(lookup(row, source.text_key), IMAGE if source.images else "")
        if text is None:
            columns = ", ".join(sorted(row))
            raise DataError(
                f"{source.path}, record {number}: '{source.text_key}' is no text; it has the columns {columns}: set "
                "text_key to the one that holds the text (a.b for b inside a)"
            )
        where = f"{source.path}, record {number}"
        document = _with_images(row, text, where, source.image_key, bad) if source.images else text
        if document is None:
            continue
        yield document
        n_documents, n_bytes = n_documents + 1, n_bytes + len(text.encode("utf-8", "replace"))
        if n_documents == source.hub.max_documents or (source.hub.max_mb and n_bytes >= 1e6 * source.hub.max_mb):
            return
    if not n_documents:
        raise DataError(f"{hub_origin(source)}: no record matches")


def _with_images(row: Mapping[str, Any], text: str, where: str, image_key: str, bad: BadDocuments) -> Document | None:
    """Return a record as a document: its images where the text has null, or else before it; None where they lack."""
    if image_key.split(".")[0] not in row:
        raise DataError(f"{where}: no column '{image_key}', it has {', '.join(sorted(row))}: set image_key")
    value = lookup(row, image_key)
    parts = value if isinstance(value, list) else [value]
    if len(parts) > text.count(IMAGE):  # a list as long as that of the texts, null where these have words
        parts = [part for part in parts if part is not None]
    try:
        return placed(text, [_image(part, where, image_key) for part in parts], where)
    except ValueError as error:
        bad.add(where, str(error), "its images are not there")
        return None


def _image(value: Any, where: str, image_key: str) -> bytes | None:
    """Return an image as datasets gives it undecoded: bytes, or bytes or a path in a record."""
    if isinstance(value, Mapping):
        path = value.get("path")
        value = value.get("bytes") or (Path(path).read_bytes() if path and Path(path).is_file() else None)
    if value is not None and not isinstance(value, bytes):
        raise DataError(
            f"{where}: '{image_key}' holds {type(value).__name__}, not images; of addresses, download the images first "
            "(img2dataset writes tar shards, for the reader webdataset)"
        )
    return value


def _records(source: SourceConfig) -> Iterator[dict[str, Any]]:
    import datasets  # a second of imports that other readers never need
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    logging.getLogger("datasets").setLevel(logging.ERROR)
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    path = str(Path(source.path).expanduser()) if is_local(source) else source.path
    options = {"name": source.hub.subset or None, "revision": source.hub.revision or None}
    try:
        found = datasets.load_dataset(path, split=source.hub.split, streaming=True, **options)
        yield from _undecoded(found, source.image_key) if source.images else found
    except (
        datasets.exceptions.DatasetsError,
        HfHubHTTPError,
        HFValidationError,
        RuntimeError,
        NotImplementedError,
    ) as error:
        raise DataError(f"{source.path}: datasets cannot stream it: {_first_line(error)}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{source.path}: it cannot be read: {_first_line(error)}") from None


def _undecoded(found: Any, image_key: str) -> Any:
    """Let a column of images come as bytes, so that a damaged one is a bad document, and not the end of all."""
    import datasets

    kind = (found.features or {}).get(image_key)
    plain = datasets.Image(decode=False)
    if isinstance(kind, datasets.Image):
        return found.cast_column(image_key, plain)
    if isinstance(kind, datasets.List | datasets.Sequence) and isinstance(kind.feature, datasets.Image):
        return found.cast_column(image_key, datasets.List(plain))
    return found


def _first_line(error: Exception) -> str:
    return (str(error).strip().split("\n")[0] or type(error).__name__)[:300]


def lookup(row: Mapping[str, Any], key: str) -> Any:
    """Return a column of a record, or what lies inside of it: `meta.url` is `url` inside `meta`."""
    value: Any = row
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value
