"""The four stages of a preparation. Each leaves its results in the work folder, and does only what is missing there.

<work>/parts/<hash>/            clean, sorted documents of a part (`parts.py`)
<work>/chosen-<hash>/           documents that are kept, with their split (`deduplicate.py`)
<work>/contaminated-<hash>/     as chosen, without documents that overlap with a target (`overlap.py`; optional)
<work>/near_duplicate-<hash>/   as chosen, without near-duplicates (optional)
<work>/tokens-<hash>/<bucket>/  their tokens (`encode.py`)
<work>/shards-<hash>/<domain>/  what the prepared folder will hold (`assemble.py`)

A hash is of all that a result depends on, so results of files that changed meanwhile, or of an earlier version, are not
used and removed.
"""

import json
import shutil
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from data.config import DataConfig
from data.demo_corpora.wheels import Echo
from data.preparation.assemble import SplitTask, write_shards
from data.preparation.deduplicate import deduplicate
from data.preparation.encode import BucketTask, encode_bucket, save_tokenizer
from data.preparation.overlap import Mask, Overlap
from data.preparation.parts import Part, read_part
from data.preparation.selection import Selection
from data.preparation.sizes import Sizes
from data.preparation.work_folder import keep_only, result_key
from data.preparation.workers import Runner, do_all
from data.store.tokens import SPLITS
from data.tokenizers import Tokenizer

PARTS, ENTRIES = "parts", ".entries"


@dataclass(frozen=True)
class Stages:
    """The stages of one configuration.

    Attributes
    ----------
    work : the work folder
    run : calls a function with each task, in this process or in others
    """

    config: DataConfig
    work: Path
    sizes: Sizes
    run: Runner
    echo: Echo

    def read(self, parts: Sequence[Part]) -> None:
        """Read, clean and sort the documents of all parts.

        Raises
        ------
        DataError
            If a file cannot be read, or a domain has more bad documents than the budget allows.
        """
        keep_only(self.work / PARTS, "", [part.folder.name for part in parts])
        done = [part for part in parts if part.is_done]
        if done:
            self.echo(f"continues: {len(done):,} of {len(parts):,} parts were read before")
        n_bad, left = Counter[str](), Counter(part.domain for part in parts)
        left.subtract(part.domain for part in done)
        for part in done:
            _check_budget(part, n_bad)
        for part in do_all(read_part, parts, self.run, "reading", self.echo):
            _check_budget(part, n_bad)
            left[part.domain] -= 1
            if not left[part.domain]:
                self._report([p for p in parts if p.domain == part.domain])

    def _report(self, parts: Sequence[Part]) -> None:
        facts = [part.facts for part in parts]
        n_read, n_bytes = sum(f["counts"]["n_read"] for f in facts), sum(f["n_bytes"] for f in facts)
        self.echo(f"read {parts[0].domain}: {n_read:,} documents, {n_bytes / 1e6:.1f} MB")

    def select(self, parts: Sequence[Part]) -> Selection:
        """Drop duplicates and assign the other documents to splits."""
        key = result_key([part.folder.name for part in parts], self.sizes.bucket)
        folder = self.work / f"chosen-{key}"
        keep_only(self.work, "chosen-", [folder.name])
        if not folder.exists():
            deduplicate(self.config, parts, folder, self.sizes)
        return Selection(folder, self.work / PARTS)

    def compare(self, selection: Selection, questions: Sequence[str]) -> Selection:
        """Drop documents that overlap with a target, and near-duplicates, if the configuration says so.

        Parameters
        ----------
        questions : texts of benchmark tasks, which documents are compared with too
        """
        if self.config.decontaminate_words:
            find = partial(Overlap.contaminated, questions=questions)
            selection = self._without(selection, "contaminated", questions, find)
        if self.config.drop_near_duplicates:
            selection = self._without(selection, "near_duplicate", (), Overlap.near_duplicates)
        return selection

    def _without(
        self, selection: Selection, kind: str, inputs: Sequence[str], find: Callable[[Overlap], Iterator[Mask]]
    ) -> Selection:
        folder = self.work / f"{kind}-{result_key(selection.folder.name, inputs)}"
        hashes = folder.with_suffix(".hashes")
        keep_only(self.work, f"{kind}-", [folder.name, hashes.name])
        if not folder.exists():
            overlap = Overlap(self.config, selection, hashes, self.run, self.echo)
            selection.write_without(folder, find(overlap), f"n_{kind}")
            shutil.rmtree(hashes)
        found = Selection(folder, self.work / PARTS)
        n_dropped = sum(found.counts(name)[f"n_{kind}"] for name in found.names)
        self.echo(f"dropped {n_dropped:,} {kind.replace('_', '-')} documents")
        return found

    def tokenise(self, selection: Selection, tokenizer: Tokenizer, facts: dict[str, Any]) -> list[Path]:
        """Tokenise the chosen documents; return the folders of all buckets in the order of their hashes.

        Parameters
        ----------
        facts : of the tokenizer, for the manifest
        """
        folder = self.work / f"tokens-{result_key(selection.folder.name, facts)}"
        keep_only(self.work, "tokens-", [folder.name])
        save_tokenizer(folder, tokenizer, facts)
        tasks = [
            BucketTask(i, selection.folder, selection.parts, self.config.image_size, n_bytes, folder / f"{i:05d}")
            for i, n_bytes in enumerate(selection.bucket_bytes)
        ]
        deque(do_all(encode_bucket, tasks, self.run, "tokenising", self.echo), 0)
        return [task.folder for task in tasks]

    def write(self, selection: Selection, buckets: Sequence[Path], vocab_size: int) -> tuple[Path, dict[str, Any]]:
        """Write the shards; return their folder, and the manifest entry of every split of every domain."""
        folder = self.work / buckets[0].parent.name.replace("tokens", "shards")
        keep_only(self.work, "shards-", [folder.name])
        (folder / ENTRIES).mkdir(parents=True, exist_ok=True)
        tasks = [
            SplitTask(
                name,
                split,
                tuple(buckets),
                vocab_size,
                self.config.image_size,
                selection.n_bytes(name, split),
                folder / name,
                folder / ENTRIES / f"{name}.{split}.json",
            )
            for name in selection.names
            for split in SPLITS
        ]
        deque(do_all(write_shards, tasks, self.run, "writing shards", self.echo), 0)
        entries: dict[str, Any] = {name: {} for name in selection.names}
        for task in tasks:
            entries[task.domain][task.split] = json.loads(task.entry.read_bytes())
        shutil.rmtree(folder / ENTRIES)
        return folder, entries


def _check_budget(part: Part, n_bad: Counter[str]) -> None:
    """Add the bad documents of a part to those of its domain; raise the error of one too many."""
    n_before = n_bad[part.domain]
    n_bad[part.domain] += part.facts["counts"]["n_bad"]
    if n_bad[part.domain] > part.budget:
        read_part(part, n_before)  # raises an error that names the document
