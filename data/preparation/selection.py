"""The documents that are kept, with their split: what `deduplicate.py` writes and the later stages read.

<folder>/<bucket>.chosen   a CHOSEN of 23 bytes per document, sorted by domain, split and digest
<folder>/facts.json        names, folders of the parts, counts, bytes of each split and of each bucket

Buckets are consecutive ranges of digests, so the documents of a split, bucket by bucket, are in the order of their
hash.
"""

import json
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.preparation.sorted_documents import read_documents
from data.staging import publish, staging_folder
from data.store.tokens import SPLITS

CHOSEN = np.dtype([("domain", "<u2"), ("split", "u1"), ("part", "<u4"), ("offset", "<i8"), ("n_bytes", "<i8")])
FACTS = "facts.json"


class Selection:
    """The chosen documents of all domains and targets.

    Parameters
    ----------
    folder : that `deduplicate` wrote
    parts : folder that holds the folders of the parts
    """

    def __init__(self, folder: Path, parts: Path) -> None:
        self.folder, self.parts = folder, parts

    @cached_property
    def _facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / FACTS).read_bytes())
        return found

    @property
    def names(self) -> list[str]:
        """The domains and targets, by their number in CHOSEN."""
        return list(self._facts["names"])

    @property
    def bucket_bytes(self) -> list[int]:
        """The size of the chosen documents of each bucket."""
        return list(self._facts["bucket_bytes"])

    def counts(self, name: str) -> dict[str, int]:
        """Return how many documents of a domain were read, left out by reason, and kept."""
        return dict(self._facts["counts"][name])

    def n_bytes(self, name: str, split: str) -> int:
        """Return the size of a split: of its UTF-8 texts and pixels, or ids."""
        return int(self._facts["split_bytes"][name][SPLITS.index(split)])

    def bucket(self, number: int) -> NDArray[Any]:
        """Return the chosen documents of a bucket, by domain, split and digest."""
        return np.fromfile(self.folder / f"{number:05d}.chosen", CHOSEN)

    def read(self, chosen: NDArray[Any]) -> list[bytes]:
        """Return the contents of chosen documents."""
        return read_documents([self.parts / name for name in self._facts["parts"]], chosen)

    def write_without(self, folder: Path, dropped: Iterable[NDArray[np.bool_]], reason: str) -> None:
        """Write a selection of the same documents without some.

        Parameters
        ----------
        dropped : for each bucket, which of its documents
        reason : count that they are added to
        """
        facts = json.loads((self.folder / FACTS).read_bytes())
        for counts in facts["counts"].values():
            counts[reason] = 0
        with staging_folder(folder) as staging:
            for number, of_bucket in enumerate(dropped):
                chosen = self.bucket(number)
                chosen[~of_bucket].tofile(staging / f"{number:05d}.chosen")
                _subtract(facts, number, chosen[of_bucket], reason)
            (staging / FACTS).write_text(json.dumps(facts))
            publish(staging, folder)

    def documents(self, name: str, split: str) -> Iterator[bytes]:
        """Yield the contents of a split in the order of their hash, which is random with respect to content."""
        wanted = self.names.index(name), SPLITS.index(split)
        for number in range(len(self.bucket_bytes)):
            chosen = self.bucket(number)
            yield from self.read(chosen[(chosen["domain"] == wanted[0]) & (chosen["split"] == wanted[1])])


def _subtract(facts: dict[str, Any], number: int, dropped: NDArray[Any], reason: str) -> None:
    """Take dropped documents of a bucket out of the counts and sizes of a selection."""
    facts["bucket_bytes"][number] -= int(dropped["n_bytes"].sum())
    for domain, split in {*zip(dropped["domain"].tolist(), dropped["split"].tolist(), strict=True)}:
        name, here = facts["names"][domain], (dropped["domain"] == domain) & (dropped["split"] == split)
        facts["split_bytes"][name][split] -= int(dropped["n_bytes"][here].sum())
        facts["counts"][name][reason] += int(here.sum())
        facts["counts"][name]["n_documents"] -= int(here.sum())
