"""Divides a corpus: labels every document, chooses the domains, and writes each document to its domain."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import tee, zip_longest
from pathlib import Path

from tqdm import tqdm

from data.splitting.documents import Corpus, Document
from data.splitting.domains import OTHER, LabelSizes, choose_domains
from data.splitting.labels import Labeller
from data.splitting.sampling import Reservoir
from data.splitting.shards import DomainWriter
from data.staging import publish, staging_folder
from mixlaw.errors import DataError

N_TEXTS, TEXT_CHARS = 300, 2_000  # sample of a domain's texts for its typical words


@dataclass
class Division:
    """The domains of a divided corpus, the largest first; `other` is last.

    Attributes
    ----------
    n_documents, n_bytes : domain -> number of documents, and of bytes of their UTF-8 texts
    texts : domain -> random sample of its texts
    """

    n_documents: Counter[str] = field(default_factory=Counter)
    n_bytes: Counter[str] = field(default_factory=Counter)
    texts: dict[str, list[str]] = field(default_factory=dict)

    @property
    def domains(self) -> list[str]:
        """Names of the domains that have documents."""
        return sorted(self.n_documents, key=lambda name: (name == OTHER, -self.n_bytes[name], name))


def divide(
    corpus: Corpus,
    label: Labeller,
    folder: Path,
    max_domains: int,
    min_share: float,
    seed: int,
    echo: Callable[[str], None],
) -> Division:
    """Write the documents of a corpus to one folder per domain; return the domains.

    The corpus is read twice: to label it and to write it. `folder` appears when it is complete.

    Raises
    ------
    DataError
        If the corpus cannot be read, changes in between, or would be one domain.
    """
    with staging_folder(folder) as staging:
        labels = staging / ".labels"
        sizes = _write_labels(corpus, label, labels)
        domains = choose_domains(sizes, max_domains, min_share)
        echo(f"read {sizes.total / 1e6:,.1f} MB: {len(sizes.n_bytes):,} labels, {len(domains)} of them become domains")
        division = _write_domains(_with_labels(corpus, labels), domains, staging, seed)
        labels.unlink()
        publish(staging, folder)
    return division


def _write_labels(corpus: Corpus, label: Labeller, path: Path) -> LabelSizes:
    """Write the label of each document on a line of a file; return the bytes of each label."""
    sizes = LabelSizes()
    to_label, to_measure = tee(progress(corpus, "label"))
    with path.open("w", encoding="utf-8") as file:
        for document, found in zip(to_measure, label(to_label), strict=True):
            sizes.add(found, n_bytes(document.text))
            file.write(json.dumps(found) + "\n")
    return sizes


def _with_labels(corpus: Corpus, path: Path) -> Iterator[tuple[Document, str | None]]:
    with path.open(encoding="utf-8") as file:
        for document, line in zip_longest(progress(corpus, "write"), file):
            if document is None or line is None:
                raise DataError(f"{corpus.source.path}: its files changed while they were read: start again")
            yield document, json.loads(line)


def _write_domains(
    documents: Iterable[tuple[Document, str | None]], domains: dict[str, str], folder: Path, seed: int
) -> Division:
    division = Division()
    samples: dict[str, Reservoir[str]] = {}
    writers: dict[str, DomainWriter] = {}
    with ExitStack() as stack:
        for document, label in documents:
            name = OTHER if label is None else domains.get(label, OTHER)
            if name not in writers:
                writers[name] = stack.enter_context(closing(DomainWriter(folder / name)))
                samples[name] = Reservoir(N_TEXTS, seed)
            writers[name].write(document.text, label)
            samples[name].add(document.text[:TEXT_CHARS])
            division.n_documents[name] += 1
            division.n_bytes[name] += n_bytes(document.text)
    division.texts = {name: sample.kept for name, sample in samples.items()}
    return division


def n_bytes(text: str) -> int:
    """Return the length of a text in UTF-8."""
    return len(text.encode("utf-8", "replace"))


def progress(documents: Iterable[Document], what: str) -> Iterable[Document]:
    """Return the documents with a progress bar on a terminal."""
    return tqdm(documents, what, unit=" documents", leave=False, disable=None)
