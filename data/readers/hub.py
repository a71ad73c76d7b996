"""Reader of Hugging Face datasets: streamed from the hub, or from a local folder in the same layout.

Only the requested slice is downloaded, and no code of a repository is run.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data.config import SourceConfig
from data.network import unreachable
from data.readers.budget import BadDocuments
from data.readers.documents import IMAGE, Document, as_text, lookup, placed
from mixlaw.errors import ConfigError, DataError
from mixlaw.paths import expand_path

MOST_VALUES = 100  # distinct values of a column that are counted for the error message
_WORDS = {"True": ("true", "yes", "on"), "False": ("false", "no", "off")}  # YAML 1.1 reads all of them as booleans


def check_hub(source: SourceConfig, where: str) -> None:
    """Check that a source on the hub is limited: whole corpora have terabytes.

    Raises
    ------
    ConfigError
        Naming the setting.
    """
    if min(source.hub.max_documents, source.hub.max_mb) < 0:
        raise ConfigError(f"{where}.hub: max_documents and max_mb must be 0 (no limit) or more")
    if not (source.hub.max_documents or source.hub.max_mb or is_local(source)):
        raise ConfigError(f"{where}.hub: set max_documents or max_mb, so that not all of {source.path} is read")


def is_local(source: SourceConfig) -> bool:
    """Return whether the path of a source exists on this machine."""
    return Path(expand_path(source.path, "path")).exists()


def require_hub(name: str) -> None:
    """Check that the hub can be reached; `datasets` would retry for half a minute.

    Raises
    ------
    DataError
        If it cannot be reached.
    """
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE and (why := unreachable([constants.ENDPOINT])):
        raise DataError(f"{name}: there is no such local folder, and {why}: check the network or the path")


def hub_origin(source: SourceConfig) -> str:
    """Return a description of the source: repository, revision, subset, filter and slice."""
    hub = source.hub
    parts = [source.path + (f"@{hub.revision}" if hub.revision else ""), hub.subset, hub.split]
    parts += [f"{key}={value}" for key, value in hub.where.items()]
    limits = ((hub.max_documents, f"first {hub.max_documents:,} documents"), (hub.max_mb, f"first {hub.max_mb:g} MB"))
    return ", ".join(filter(None, [*parts, *(words for limit, words in limits if limit)]))


def hub(path: Path, source: SourceConfig, bad: BadDocuments) -> Iterator[str] | Iterator[Document]:
    """Yield one document per record that matches `hub.where`, up to the limits, with its images if `source.images`."""
    n_documents, n_bytes, n_bad = 0, 0, bad.count
    key, others = source.text_column, Others(source.hub.where)
    for number, row in enumerate(_records(source), 1):
        if not others.all_match(row):
            continue
        text = as_text(lookup(row, key), IMAGE if source.images else "")
        where = f"{source.path}, record {number}"
        if text is None:
            if key.split(".")[0] not in row or not bad.budget:
                raise DataError(_no_text(where, key, row))
            bad.add(where, f"it is of type {type(lookup(row, key)).__name__}", f"'{key}' is not text")
            continue
        document = _with_images(row, text, where, source.image_key, bad) if source.images else text
        if document is None:
            continue
        yield document
        n_documents, n_bytes = n_documents + 1, n_bytes + len(text.encode("utf-8", "replace"))
        if n_documents == source.hub.max_documents or (source.hub.max_mb and n_bytes >= 1e6 * source.hub.max_mb):
            return
    if not n_documents:
        why = "no record has a text" if bad.count > n_bad else f"no record matches{others.advice()}"
        raise DataError(f"{hub_origin(source)}: {why}")


def _no_text(where: str, key: str, row: Mapping[str, Any]) -> str:
    return (
        f"{where}: '{key}' is not text; it has the columns {', '.join(sorted(row))}: set text_key to the column of "
        "the text (a.b for b inside a), or raise data.bad_document_budget if only some records have none"
    )


@dataclass
class Others:
    """Counts the values of records that `hub.where` excludes, for the error if no record matches."""

    where: Mapping[str, str]
    seen: dict[str, Counter[str]] = field(default_factory=dict)

    def all_match(self, row: Mapping[str, Any]) -> bool:
        """Return whether a record has all required values."""
        for key, wanted in self.where.items():
            value = lookup(row, key)
            if not matches(value, wanted):
                counts, shown = self.seen.setdefault(key, Counter()), f"{value!r:.40}"
                if len(counts) < MOST_VALUES or shown in counts:
                    counts[shown] += 1
                return False
        return True

    def advice(self) -> str:
        """Return the values that were found instead, most frequent first."""
        found = [f"{key} is {', '.join(v for v, _ in counts.most_common(5))}" for key, counts in self.seen.items()]
        return f"; {'; '.join(found)}: write one of these values, in quotes" if found else ""


def matches(value: Any, wanted: str) -> bool:
    """Return whether a value equals the required one, which YAML may have read as a boolean or a number.

    YAML reads `lang: no` as false, and the written word is lost, so all YAML words for false match.
    """
    if str(value) == wanted:
        return True
    if isinstance(value, bool):
        return str(value).lower() == wanted
    if isinstance(value, str):
        return value.lower() in _WORDS.get(wanted, ())
    try:
        return isinstance(value, int | float) and float(wanted) == value
    except ValueError:
        return False


def _with_images(row: Mapping[str, Any], text: str, where: str, image_key: str, bad: BadDocuments) -> Document | None:
    """Return a record as a document, with images at the nulls of a list of texts, else before the text.

    Returns None, counted as bad, if the images are missing or do not match the text.
    """
    if image_key.split(".")[0] not in row:
        raise DataError(f"{where}: no column '{image_key}', it has {', '.join(sorted(row))}: set image_key")
    value = lookup(row, image_key)
    parts = value if isinstance(value, list) else [value]
    if len(parts) > text.count(IMAGE):  # a list parallel to the texts, with null at texts
        parts = [part for part in parts if part is not None]
    try:
        return placed(text, [_image(part, where, image_key) for part in parts], where)
    except ValueError as error:
        bad.add(where, str(error), "images are missing")
        return None


def _image(value: Any, where: str, image_key: str) -> bytes | None:
    """Return the bytes of an undecoded image of `datasets`: bytes, or a record with bytes or a path."""
    if isinstance(value, Mapping):
        path = value.get("path")
        value = value.get("bytes") or (Path(path).read_bytes() if path and Path(path).is_file() else None)
    if value is not None and not isinstance(value, bytes):
        raise DataError(
            f"{where}: '{image_key}' holds {type(value).__name__}, not images; for URLs, download the images first "
            "(img2dataset writes tar shards for the reader 'webdataset')"
        )
    return value


def _records(source: SourceConfig) -> Iterator[dict[str, Any]]:
    if not is_local(source):
        require_hub(source.path)
    import datasets  # takes a second to import; other readers do not need it
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    logging.getLogger("datasets").setLevel(logging.ERROR)
    datasets.config.HF_UPDATE_DOWNLOAD_COUNTS = False
    path = expand_path(source.path) if is_local(source) else source.path
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
    """Keep a column of images undecoded, so that a damaged image is a bad document and does not end the stream."""
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
