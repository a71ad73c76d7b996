"""Shards that MosaicML Streaming writes are read as it reads them, in every encoding of token ids."""

import json
from pathlib import Path

import numpy as np
import pytest

from data.store.formats import FileSettings
from tests.data.store.formats.same import END, assert_same, random_documents

pytest.importorskip("streaming", reason="make trainers installs it")
from streaming import MDSWriter
from streaming.base.format import reader_from_json


@pytest.mark.parametrize("encoding", ["ndarray", "ndarray:int32", "ndarray:int32:33", "bytes"])
@pytest.mark.parametrize("text", [False, True])
def test_samples_of_streaming(encoding: str, text: bool, tmp_path: Path) -> None:
    dtype = "int64" if encoding == "bytes" else "int32"
    documents = random_documents(100, dtype)
    if encoding.endswith("33"):
        documents = list(np.concatenate(documents)[: 100 * 33].reshape(100, 33))
    columns = {"tokens": encoding} | ({"a": "str", "b": "int", "z": "str"} if text else {})
    with MDSWriter(out=str(tmp_path), columns=columns, size_limit=1 << 13) as out:
        for number, document in enumerate(documents):
            more = {"a": "x" * (number % 9), "b": number, "z": "é" * (number % 4)} if text else {}
            out.write({"tokens": document.tobytes() if encoding == "bytes" else document} | more)
    shards = json.loads((tmp_path / "index.json").read_bytes())["shards"]
    assert len(shards) > 1
    read = []
    for facts in shards:
        shard = reader_from_json(str(tmp_path), None, facts)
        raw = [shard[i]["tokens"] for i in range(len(shard))]
        theirs = [np.frombuffer(ids, np.int64) if encoding == "bytes" else ids for ids in raw]
        path = tmp_path / facts["raw_data"]["basename"]
        assert assert_same("mds", path, theirs, FileSettings(end_id=END)) == dtype
        read += theirs
    assert all(np.array_equal(a, b) for a, b in zip(read, documents, strict=True))
