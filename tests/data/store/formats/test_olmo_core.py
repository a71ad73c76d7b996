"""Files of OLMo are split into documents as OLMo-core splits them, with and without its list of documents."""

from pathlib import Path

import numpy as np
import pytest

from data.store.formats import FileSettings
from tests.data.store.formats.same import END, assert_same, random_documents

pytest.importorskip("olmo_core.data", reason="make trainers installs it")
from olmo_core.data.utils import iter_document_indices, load_array_slice, write_document_indices


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
@pytest.mark.parametrize("listed", [True, False])
def test_documents_of_olmo_core(dtype: str, listed: bool, tmp_path: Path) -> None:
    path, kind = tmp_path / "part-0-00000.npy", np.dtype(dtype).type
    written = np.memmap(path, mode="w+", dtype=dtype, shape=(sum(map(len, documents := random_documents(200, dtype))),))
    written[:] = np.concatenate(documents)
    written.flush()
    if listed:
        write_document_indices(path, dtype=kind, eos_token_id=END)
    options = {} if listed else {"eos_token_id": END, "dtype": kind}
    theirs = [load_array_slice(path, a, b, kind) for a, b in iter_document_indices(path, **options)]
    assert all(np.array_equal(a, b) for a, b in zip(theirs, documents, strict=True))
    assert assert_same("olmo", path, theirs, FileSettings(dtype, END)) == dtype
