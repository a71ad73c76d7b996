"""Measure which near-duplicates data.drop_near_duplicates finds, and what it and data.decontaminate_words cost.

    python -m scripts.bench_near_duplicates

Copies of film reviews (the wheel of the quick start) get changed words until they have a given Jaccard similarity of
5-grams with the original. Each similarity is a domain of its own, so the counts of `data.prepare` are the result.
"""

import json
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.config import DataConfig, SourceConfig
from data.preparation.minhash import BANDS, ROWS, WORDS
from data.preparation.ngrams import ngram_hashes, word_hashes
from data.preparation.sources import documents, locate
from data.prepare import compose_config, prepare
from data.readers.budget import BadDocuments

SIMILARITIES = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
COPIES, ORIGINALS = 500, 6000
LEAST_WORDS = 150  # of an original, so that similarities can be met


def reviews() -> list[str]:
    """Return film reviews of many words, without repetition."""
    config = compose_config([])
    source = config.targets["reviews"]
    files = locate(source, "reviews", config.root_folder / "downloads", print)
    texts = dict.fromkeys(t for t in documents(source, files, BadDocuments(100)) if isinstance(t, str))
    return [text for text in texts if len(text.split()) >= LEAST_WORDS][:ORIGINALS]


def copy_of(text: str, similarity: float, rng: random.Random) -> str:
    """Return a text with words replaced at equal distances, each of which changes `WORDS` of its n-grams."""
    words = text.split()
    n_grams = len(words) - WORDS + 1
    n_edits = round(n_grams * (1 - similarity) / (WORDS * (1 + similarity)))
    for place in np.linspace(WORDS, len(words) - WORDS, n_edits + 2).astype(int)[1:-1]:
        words[place] = f"edit{rng.randrange(1 << 40)}"
    return " ".join(words)


def jaccard(one: str, other: str) -> float:
    """Return the Jaccard similarity of the n-grams of two texts."""
    a, b = (ngram_hashes(word_hashes(text), WORDS) for text in (one, other))
    return len(np.intersect1d(a, b)) / len(np.union1d(a, b))


def write(path: Path, texts: Sequence[str]) -> SourceConfig:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return SourceConfig("jsonl", path=str(path))


def found(folder: Path) -> list[str]:
    """Return a line for each similarity: mean similarity of the copies, share that was dropped, and the theory."""
    rng, texts = random.Random(0), reviews()
    copies = {s: [copy_of(text, s, rng) for text in texts[i::8][:COPIES]] for i, s in enumerate(SIMILARITIES)}
    domains = {"originals": write(folder / "originals.jsonl", texts)}
    for s, of_similarity in copies.items():
        alone = f"A text like no other of the domain {s}, so that one document is left"
        domains[f"s{s * 100:.0f}"] = write(folder / f"{s}.jsonl", [*of_similarity, alone])
    config = DataConfig("near", str(folder), domains, eval_percent=0, test_percent=0, drop_near_duplicates=True)
    entries = prepare(config, lambda _: None).facts["domains"]
    lines = [f"originals: {entries['originals']['counts']['n_near_duplicate']} of {len(texts):,} dropped"]
    for i, s in enumerate(SIMILARITIES):
        share = entries[f"s{s * 100:.0f}"]["counts"]["n_near_duplicate"] / len(copies[s])
        true = np.mean([jaccard(a, b) for a, b in zip(texts[i::8][:COPIES], copies[s], strict=True)])
        theory = 1 - (1 - true**ROWS) ** BANDS
        lines.append(
            f"similarity {true:.3f}: {100 * share:.1f} % of {len(copies[s])} found, theory {100 * theory:.1f} %"
        )
    return lines


def cost(folder: Path) -> list[str]:
    """Return a line for each setting: MB of text per second of CPU that it takes more than without it."""
    texts = reviews()
    halves = {"web": write(folder / "web.jsonl", texts[::2])}, {"wiki": write(folder / "wiki.jsonl", texts[1::2])}
    n_bytes = sum(len(text.encode()) for text in texts)
    seconds = {}
    for setting in ({}, {"drop_near_duplicates": True}, {"decontaminate_words": 13}):
        config = DataConfig("cost", str(folder), *halves, **setting)
        start = time.process_time()
        prepare(config, lambda _: None)
        seconds[next(iter(setting), "")] = time.process_time() - start
    plain = seconds.pop("")
    return [f"{name}: {n_bytes / 1e6 / (more - plain):.1f} MB/s of CPU" for name, more in seconds.items()]


def main() -> None:
    """Print both measurements."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("found", "cost"):
            (Path(folder) / name).mkdir()
        print("\n".join([*found(Path(folder) / "found"), *cost(Path(folder) / "cost")]))


if __name__ == "__main__":
    main()
