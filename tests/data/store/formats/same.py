"""What a library wrote, and what it reads itself, must be what the reader of its format reads."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.store.formats import FORMATS, FileSettings

END = 7


def random_documents(n: int, dtype: str, seed: int = 0) -> list[np.ndarray]:
    """Return documents of 1 to 600 tokens that end with END, with ids up to the largest of the type."""
    rng = np.random.default_rng(seed)
    top = min(int(np.iinfo(dtype).max), 200_000)
    return [np.append(rng.integers(8, top, length), END).astype(dtype) for length in rng.integers(0, 600, n)]


def assert_same(
    reader: str, path: Path, documents: Sequence[Sequence[int]], settings: FileSettings | None = None
) -> str:
    """Assert that a file holds these documents, by counts, boundaries and tokens; return its type."""
    given = settings or FileSettings(end_id=END)
    facts = FORMATS[reader](path, given).facts()
    file = FORMATS[reader](path, FileSettings(facts.dtype, given.end_id, given.column))
    flat = np.concatenate(documents)
    assert (facts.n_documents, facts.n_tokens) == (len(documents), len(flat))
    bounds = file.bounds(np.arange(len(documents) + 1))
    assert np.diff(bounds).tolist() == [len(document) for document in documents]
    assert np.array_equal(file.tokens(0, facts.n_tokens), flat)
    for begin, end, document in zip(bounds[:-1], bounds[1:], documents, strict=True):
        assert np.array_equal(file.tokens(int(begin), int(end)), document)
    return facts.dtype
