"""Files that megatron-core writes are read as megatron-core reads them."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from tests.data.store.formats.same import assert_same, random_documents

pytest.importorskip("megatron.core", reason="make trainers installs it")
from megatron.core.datasets.indexed_dataset import IndexedDataset, IndexedDatasetBuilder


@pytest.mark.parametrize("dtype", ["uint16", "int32", "int64"])
@pytest.mark.parametrize("sequences", [1, 3])
def test_documents_of_megatron_core(dtype: str, sequences: int, tmp_path: Path) -> None:
    prefix, documents = str(tmp_path / "web_text_document"), random_documents(200, dtype)
    builder = IndexedDatasetBuilder(f"{prefix}.bin", dtype=np.dtype(dtype).type)
    for document in documents:
        builder.add_document(document, [len(part) for part in np.array_split(document, sequences) if len(part)])
    builder.finalize(f"{prefix}.idx")
    theirs = IndexedDataset(prefix)
    marks = theirs.document_indices
    read = [np.concatenate(theirs[int(a) : int(b)]) for a, b in itertools.pairwise(marks)]
    assert all(np.array_equal(a, b) for a, b in zip(read, documents, strict=True))
    assert assert_same("megatron", Path(f"{prefix}.bin"), read) == dtype
