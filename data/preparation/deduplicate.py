"""Drops exact duplicates in all domains and assigns documents to splits: the second stage of a preparation.

It reads the records of all parts, 48 bytes per document, one range of digests after the other. All copies of a document
are in one range, and memory is bounded by the size of a range, which consists of whole buckets.

The result is read by `selection.py`.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.config import DataConfig
from data.preparation.corpus import COUNTS, EVAL, TRAIN, splits_of
from data.preparation.parts import Part
from data.preparation.selection import CHOSEN, FACTS
from data.preparation.sizes import Sizes
from data.preparation.sorted_documents import RECORD, is_first, read_records
from data.staging import publish, staging_folder
from data.store.tokens import SPLITS

Digests = set[tuple[int, int]]


@dataclass(frozen=True)
class Batch:
    """A sorted batch of the records of one domain; bucket b has its records bounds[b] to bounds[b + 1]."""

    domain: int
    part: int
    folder: Path
    start: int
    bounds: NDArray[np.int32]


@dataclass(frozen=True)
class Range:
    """The records of a range of digests (n,), sorted by digest; equal ones are in the order of their domains."""

    records: NDArray[Any]
    domain: NDArray[np.int64]
    part: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_] | slice) -> "Range":
        """Return some of the records."""
        return Range(self.records[chosen], self.domain[chosen], self.part[chosen])


def deduplicate(config: DataConfig, parts: Sequence[Part], folder: Path, sizes: Sizes) -> None:
    """Choose the documents of every split of every domain, and count those that are left out.

    A document that occurs several times is kept in the first domain that has it, and targets come first. Unless targets
    are split, domains also lose documents that share a concept or an image with a target.

    Parameters
    ----------
    parts : that were read, in the order of `all_sources`
    folder : to create
    """
    names, facts = list(dict.fromkeys(part.domain for part in parts)), [part.facts for part in parts]
    edges = _edges(sum(f["n_bytes"] for f in facts), sizes.bucket)
    batches = [
        Batch(names.index(part.domain), number, part.folder, start, bounds)
        for number, part in enumerate(parts)
        for start, bounds in _bounds(part.folder, facts[number]["batches"], edges)
    ]
    counts = _counts(names, parts, facts)
    bucket_sizes, n_bytes = [], np.zeros((len(names), len(SPLITS)), np.int64)
    with staging_folder(folder) as staging:
        for number, chosen in enumerate(_chosen(config, batches, edges, names, counts, sizes.records)):
            chosen.tofile(staging / f"{number:05d}.chosen")
            np.add.at(n_bytes, (chosen["domain"], chosen["split"]), chosen["n_bytes"])
            bucket_sizes.append(int(chosen["n_bytes"].sum()))
        found = {
            "names": names,
            "parts": [part.folder.name for part in parts],
            "bucket_bytes": bucket_sizes,
            "counts": counts,
            "split_bytes": dict(zip(names, n_bytes.tolist(), strict=True)),
        }
        (staging / FACTS).write_text(json.dumps(found))
        publish(staging, folder)


def _chosen(
    config: DataConfig,
    batches: Sequence[Batch],
    edges: NDArray[np.uint64],
    names: Sequence[str],
    counts: dict[str, Counter[str]],
    most_records: int,
) -> Iterator[NDArray[Any]]:
    """Yield the chosen documents of each bucket, and count all documents."""
    n_targets = sum(name in config.targets for name in names)
    ranges = _ranges(batches, len(edges) + 1, most_records)
    measured = _measured(config, [batch for batch in batches if batch.domain < n_targets], ranges)
    for buckets in ranges:
        kept = _without_duplicates(_read(batches, buckets), names, counts)
        kept = _without_shared_concepts(kept, n_targets, measured, names, counts)
        inner = np.searchsorted(kept.records["high"], edges[buckets.start : buckets.stop - 1]).tolist()
        for start, end in zip([0, *inner], [*inner, len(kept.part)], strict=True):
            yield _assigned(config, kept.where(slice(start, end)), n_targets)


def _edges(n_bytes: int, bucket_bytes: int) -> NDArray[np.uint64]:
    """Return where buckets end that divide the digests evenly: the first 64 bits of the first digest beyond."""
    n_buckets = max(-(-n_bytes // bucket_bytes), 1)
    return np.array([(bucket << 64) // n_buckets for bucket in range(1, n_buckets)], np.uint64)


def _bounds(folder: Path, sizes: Sequence[int], edges: NDArray[np.uint64]) -> Iterator[tuple[int, NDArray[np.int32]]]:
    """Yield the first record of each batch of a part, and where its buckets begin and end, counted from there."""
    start = 0
    for n in sizes:
        inner = np.searchsorted(read_records(folder, start, n)["high"], edges)
        yield start, np.concatenate([[0], inner, [n]]).astype(np.int32)
        start += n


def _ranges(batches: Sequence[Batch], n_buckets: int, most_records: int) -> list[range]:
    """Return ranges of consecutive buckets with at most this number of records, or one bucket."""
    found, first, n_before = [], 0, 0
    sizes = sum((np.diff(batch.bounds).astype(np.int64) for batch in batches), np.zeros(n_buckets, np.int64))
    for bucket, n in enumerate(sizes.tolist()):
        if n_before and n_before + n > most_records:
            found.append(range(first, bucket))
            first, n_before = bucket, 0
        n_before += n
    return [*found, range(first, n_buckets)]


def _read(batches: Sequence[Batch], buckets: range) -> Range:
    """Return the records of these buckets."""
    spans = [(int(batch.bounds[buckets.start]), int(batch.bounds[buckets.stop])) for batch in batches]
    sizes = [end - start for start, end in spans]
    pieces = [
        read_records(b.folder, b.start + start, n) for b, (start, _), n in zip(batches, spans, sizes, strict=True)
    ]
    records = np.concatenate([np.zeros(0, RECORD), *pieces])
    domain = np.repeat(np.array([batch.domain for batch in batches], np.int64), sizes)
    part = np.repeat(np.array([batch.part for batch in batches], np.int64), sizes)
    order = np.lexsort((records["low"], records["high"]))  # stable
    return Range(records[order], domain[order], part[order])


def _measured(config: DataConfig, of_targets: Sequence[Batch], ranges: Sequence[range]) -> Digests:
    """Return the keys of the documents of targets that domains must not share.

    Texts have none: equal ones are duplicates. Not needed if targets are split like domains, because a concept is then
    in the same split everywhere.
    """
    found: Digests = set()
    if not config.image_size or config.split_targets:
        return found
    for buckets in ranges:
        records = _read(of_targets, buckets).records
        found.update(_keys(records[is_first(records)]))
    return found


def _keys(records: NDArray[Any]) -> Iterator[tuple[int, int]]:
    return zip(records["key_high"].tolist(), records["key_low"].tolist(), strict=True)


def _counts(names: Sequence[str], parts: Sequence[Part], facts: Sequence[dict[str, Any]]) -> dict[str, Counter[str]]:
    """Return the counts of each domain so far: the sums over its parts."""
    counts = {name: Counter(dict.fromkeys(COUNTS, 0)) for name in names}
    for part, found in zip(parts, facts, strict=True):
        counts[part.domain].update(found["counts"])
    return counts


def _without_duplicates(found: Range, names: Sequence[str], counts: dict[str, Counter[str]]) -> Range:
    """Return the first document with each digest, and count the others."""
    first = is_first(found.records)
    same_domain = np.zeros_like(first)
    same_domain[1:] = found.domain[1:] == found.domain[:-1]
    _count("n_duplicate", found.domain[~first & same_domain], names, counts)
    _count("n_in_other_domain", found.domain[~first & ~same_domain], names, counts)
    return found.where(first)


def _without_shared_concepts(
    found: Range, n_targets: int, measured: Digests, names: Sequence[str], counts: dict[str, Counter[str]]
) -> Range:
    """Return the documents without those of domains that share a key with a target, and count both."""
    is_measured = [key in measured for key in _keys(found.records)] if measured else False
    shared = (found.domain >= n_targets) & np.array(is_measured, bool)
    _count("n_in_other_domain", found.domain[shared], names, counts)
    _count("n_documents", found.domain[~shared], names, counts)
    return found.where(~shared)


def _count(what: str, domains: NDArray[np.int64], names: Sequence[str], counts: dict[str, Counter[str]]) -> None:
    for name, n in zip(names, np.bincount(domains, minlength=len(names)).tolist(), strict=True):
        counts[name][what] += n


def _assigned(config: DataConfig, found: Range, n_targets: int) -> NDArray[Any]:
    """Return the documents of all splits. A target has no train split: it is all eval, or eval and test."""
    records, is_target = found.records, found.domain < n_targets
    split = splits_of(records["key_high"], records["key_low"], config.eval_percent, config.test_percent)
    if not config.split_targets:
        split[is_target] = EVAL
    chosen = np.zeros(len(records), CHOSEN)
    chosen["domain"], chosen["split"], chosen["part"] = found.domain, split, found.part
    chosen["offset"], chosen["n_bytes"] = records["offset"], records["n_bytes"]
    chosen = chosen[~(is_target & (split == TRAIN))]
    return chosen[np.lexsort((chosen["split"], chosen["domain"]))]
