"""Drops exact duplicates in all domains and assigns documents to splits: the second stage of a preparation.

It reads the records of all parts, 48 bytes per document, bucket by bucket. A bucket is a range of digests, so all
copies of a document are in one bucket, and memory is bounded by the size of a bucket.

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
from data.preparation.sorted_documents import RECORD, is_first, read_records
from data.staging import publish, staging_folder
from data.store.tokens import SPLITS

Digests = set[tuple[int, int]]


@dataclass(frozen=True)
class Batch:
    """A sorted batch of records (n,) of one domain; bucket b has the records bounds[b] to bounds[b + 1]."""

    domain: int
    part: int
    records: NDArray[Any]
    bounds: NDArray[np.int64]


@dataclass(frozen=True)
class Bucket:
    """The records of a range of digests (n,), sorted by digest; equal ones are in the order of their domains."""

    records: NDArray[Any]
    domain: NDArray[np.int64]
    part: NDArray[np.int64]

    def where(self, chosen: NDArray[np.bool_]) -> "Bucket":
        """Return some of the records."""
        return Bucket(self.records[chosen], self.domain[chosen], self.part[chosen])


def deduplicate(config: DataConfig, parts: Sequence[Part], folder: Path, bucket_bytes: int) -> None:
    """Choose the documents of every split of every domain, and count those that are left out.

    A document that occurs several times is kept in the first domain that has it, and targets come first. Unless targets
    are split, domains also lose documents that share a concept or an image with a target.

    Parameters
    ----------
    parts : that were read, in the order of `all_sources`
    folder : to create
    bucket_bytes : approximate size of the documents in a bucket
    """
    names, facts = list(dict.fromkeys(part.domain for part in parts)), [part.facts for part in parts]
    n_targets = sum(name in config.targets for name in names)
    n_buckets = max(-(-sum(f["n_bytes"] for f in facts) // bucket_bytes), 1)
    batches = [batch for number in range(len(parts)) for batch in _batches(parts, facts, names, number, n_buckets)]
    measured = _measured(config, [b for b in batches if b.domain < n_targets], n_buckets)
    counts = _counts(names, parts, facts)
    bucket_sizes, n_bytes = [], np.zeros((len(names), len(SPLITS)), np.int64)
    with staging_folder(folder) as staging:
        for number in range(n_buckets):
            kept = _without_duplicates(_bucket(batches, number), names, counts)
            kept = _without_shared_concepts(kept, n_targets, measured, names, counts)
            chosen = _assigned(config, kept, n_targets)
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


def _batches(
    parts: Sequence[Part], facts: Sequence[dict[str, Any]], names: Sequence[str], number: int, n_buckets: int
) -> Iterator[Batch]:
    """Yield the batches of a part."""
    records, start = read_records(parts[number].folder), 0
    edges = np.array([(bucket << 64) // n_buckets for bucket in range(1, n_buckets)], np.uint64)
    for n in facts[number]["batches"]:
        batch = records[start : start + n]
        bounds = np.concatenate([[0], np.searchsorted(batch["high"], edges), [n]]).astype(np.int64)
        yield Batch(names.index(parts[number].domain), number, batch, bounds)
        start += n


def _bucket(batches: Sequence[Batch], number: int) -> Bucket:
    spans = [batch.bounds[number : number + 2].tolist() for batch in batches]
    sizes = [end - start for start, end in spans]
    pieces = [batch.records[start:end] for batch, (start, end) in zip(batches, spans, strict=True)]
    records = np.concatenate([np.zeros(0, RECORD), *pieces])
    domain = np.repeat(np.array([batch.domain for batch in batches], np.int64), sizes)
    part = np.repeat(np.array([batch.part for batch in batches], np.int64), sizes)
    order = np.lexsort((records["low"], records["high"]))  # stable
    return Bucket(records[order], domain[order], part[order])


def _measured(config: DataConfig, of_targets: Sequence[Batch], n_buckets: int) -> Digests:
    """Return the keys of the documents of targets that domains must not share.

    Texts have none: equal ones are duplicates. Not needed if targets are split like domains, because a concept is then
    in the same split everywhere.
    """
    found: Digests = set()
    if not config.image_size or config.split_targets:
        return found
    for number in range(n_buckets):
        records = _bucket(of_targets, number).records
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


def _without_duplicates(bucket: Bucket, names: Sequence[str], counts: dict[str, Counter[str]]) -> Bucket:
    """Return the first document with each digest, and count the others."""
    first = is_first(bucket.records)
    same_domain = np.zeros_like(first)
    same_domain[1:] = bucket.domain[1:] == bucket.domain[:-1]
    _count("n_duplicate", bucket.domain[~first & same_domain], names, counts)
    _count("n_in_other_domain", bucket.domain[~first & ~same_domain], names, counts)
    return bucket.where(first)


def _without_shared_concepts(
    bucket: Bucket, n_targets: int, measured: Digests, names: Sequence[str], counts: dict[str, Counter[str]]
) -> Bucket:
    """Return the documents without those of domains that share a key with a target, and count both."""
    is_measured = [key in measured for key in _keys(bucket.records)] if measured else False
    shared = (bucket.domain >= n_targets) & np.array(is_measured, bool)
    _count("n_in_other_domain", bucket.domain[shared], names, counts)
    _count("n_documents", bucket.domain[~shared], names, counts)
    return bucket.where(~shared)


def _count(what: str, domains: NDArray[np.int64], names: Sequence[str], counts: dict[str, Counter[str]]) -> None:
    for name, n in zip(names, np.bincount(domains, minlength=len(names)).tolist(), strict=True):
        counts[name][what] += n


def _assigned(config: DataConfig, bucket: Bucket, n_targets: int) -> NDArray[Any]:
    """Return the documents of all splits. A target has no train split: it is all eval, or eval and test."""
    records, is_target = bucket.records, bucket.domain < n_targets
    split = splits_of(records["key_high"], records["key_low"], config.eval_percent, config.test_percent)
    if not config.split_targets:
        split[is_target] = EVAL
    chosen = np.zeros(len(records), CHOSEN)
    chosen["domain"], chosen["split"], chosen["part"] = bucket.domain, split, bucket.part
    chosen["offset"], chosen["n_bytes"] = records["offset"], records["n_bytes"]
    chosen = chosen[~(is_target & (split == TRAIN))]
    return chosen[np.lexsort((chosen["split"], chosen["domain"]))]
