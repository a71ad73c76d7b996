"""Divides the files of all domains into parts of similar size, and reads one part: the first stage of a preparation.

A part's folder is named by a hash of the names, sizes and modification times of its files, so that an interrupted
preparation continues with the parts that were read, and reads those again whose files changed.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.config import DataConfig, SourceConfig, TokenizerConfig
from data.preparation.corpus import COUNTS, cleaned
from data.preparation.inputs import fingerprints, source_files
from data.preparation.sizes import Sizes
from data.preparation.sorted_documents import SortedWriter
from data.preparation.sources import all_sources, documents, has_images
from data.preparation.work_folder import result_key
from data.readers.budget import BadDocuments
from data.staging import publish, staging_folder
from mixlaw.version import __version__

MOST_PARTS = 2048  # more parts make the pieces smaller that each bucket consists of
FACTS = "facts.json"
WORK_VERSION = 1  # of the files between the stages


@dataclass(frozen=True)
class Part:
    """Some files of one domain, which one process reads.

    Attributes
    ----------
    files : in reading order; none for sources without files
    n_bytes : size of the files, for the progress
    least_length : minimum length of a document, in characters or tokens
    budget : unreadable documents to skip in the domain
    batch_bytes : clean documents that are sorted at once
    folder : of the clean documents
    """

    domain: str
    source: SourceConfig
    tokenizer: TokenizerConfig
    files: tuple[Path, ...]
    n_bytes: int
    least_length: int
    image_size: int
    budget: int
    batch_bytes: int
    folder: Path

    @property
    def is_done(self) -> bool:
        """Whether the part was read."""
        return self.folder.exists()

    @property
    def facts(self) -> dict[str, Any]:
        """Documents per batch, bytes and counts of a part that was read."""
        found: dict[str, Any] = json.loads((self.folder / FACTS).read_bytes())
        return found


def divide(config: DataConfig, files: Mapping[str, Sequence[Path]], folder: Path, sizes: Sizes) -> list[Part]:
    """Return the parts of all domains that are not tokenised already: targets first, in reading order.

    Parameters
    ----------
    files : of each domain and target to read; none for sources without files
    folder : of the parts' folders
    """
    total = sum(path.stat().st_size for paths in files.values() for path in paths)
    part_bytes = max(sizes.part, total // MOST_PARTS)
    versions = [WORK_VERSION, __version__, unicodedata.unidata_version]
    parts = []
    for where, name, source in all_sources(config):
        for group in _groups(files.get(name, ()), part_bytes) if name in files else ():
            inputs = fingerprints(group or source_files(source, where))
            part = Part(
                name,
                source,
                config.tokenizer,
                tuple(group),
                sum(facts["n_bytes"] for facts in inputs) or _expected_bytes(source),
                config.least_length(has_images(source)),
                config.image_size,
                config.bad_document_budget,
                sizes.batch,
                folder / result_key(versions, name, inputs),
            )
            parts.append(part)
    return parts


def _groups(files: Sequence[Path], n_bytes: int) -> Iterator[list[Path]]:
    """Yield consecutive files of about this size together; one empty group for a source without files."""
    group: list[Path] = []
    size = 0
    for path in files:
        group.append(path)
        size += path.stat().st_size
        if size >= n_bytes:
            yield group
            group, size = [], 0
    if group or not files:
        yield group


def _expected_bytes(source: SourceConfig) -> int:
    """Return the size of a source that is not a local file."""
    if source.reader == "synthetic":
        return source.markov.n_documents * source.markov.n_chars
    return int(1e6 * source.hub.max_mb)


def read_part(part: Part, n_bad_before: int = 0) -> None:
    """Read, clean and sort the documents of a part into its folder.

    Parameters
    ----------
    n_bad_before : bad documents of the same domain in other parts

    Raises
    ------
    DataError
        If a file cannot be read, or more documents are bad than the budget allows.
    """
    bad, counts = BadDocuments(part.budget, n_bad_before), Counter(dict.fromkeys(COUNTS, 0))
    with staging_folder(part.folder) as staging:
        with SortedWriter(staging, part.batch_bytes) as writer:
            found = documents(part.source, list(part.files), bad, part.tokenizer)
            for document in cleaned(found, part.least_length, bad, counts, part.image_size):
                writer.add(document)
            writer.flush()
        counts["n_bad"] = bad.count - n_bad_before
        counts["n_read"] += counts["n_bad"]
        counts["n_duplicate"] = writer.n_duplicate
        facts = {"batches": writer.batches, "n_bytes": writer.n_bytes, "counts": counts}
        (staging / FACTS).write_text(json.dumps(facts))
        publish(staging, part.folder)
