"""Writes token files byte by byte, as the documentation of each format describes them."""

import csv
import gzip
import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

Documents = Sequence[Sequence[int]]
END = 7  # ends every document that a test writes
MEGATRON_CODES = {"uint8": 1, "int16": 3, "int32": 4, "int64": 5, "uint16": 8, "float32": 7}
MDS_CODES = {"uint16": 16, "uint32": 32, "int32": 33, "int64": 65}


def _flat(documents: Documents, dtype: str) -> np.ndarray:
    return np.array([i for document in documents for i in document], np.dtype(dtype).newbyteorder("<"))


def _ends(documents: Documents) -> list[int]:
    return np.cumsum([len(document) for document in documents]).tolist()


def write_megatron(path: Path, documents: Documents, dtype: str = "int32", sequences: int = 1) -> Path:
    """Write .bin and .idx; each document is cut into at most this number of sequences."""
    path = path.with_suffix(".bin")
    path.write_bytes(_flat(documents, dtype).tobytes())
    parts = [[len(part) for part in np.array_split(document, sequences) if len(part)] for document in documents]
    lengths = [length for of_document in parts for length in of_document]
    marks = np.cumsum([0] + [len(of_document) for of_document in parts])
    pointers = np.cumsum([0, *lengths])[:-1] * np.dtype(dtype).itemsize
    head = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, MEGATRON_CODES[dtype], len(lengths), len(marks))
    arrays = (np.array(lengths, "<i4"), pointers.astype("<i8"), marks.astype("<i8"))
    path.with_suffix(".idx").write_bytes(head + b"".join(array.tobytes() for array in arrays))
    return path


def write_datatrove(path: Path, documents: Documents, dtype: str = "uint16", tokenizer: str = "org/neox") -> Path:
    """Write .ds, .ds.index and, if a tokenizer is named, .ds.metadata."""
    path = path.with_suffix(".ds")
    path.write_bytes(_flat(documents, dtype).tobytes())
    Path(f"{path}.index").write_bytes(np.array(_ends(documents), "<u8").tobytes())
    if tokenizer:
        n_tokens = sum(map(len, documents))
        Path(f"{path}.metadata").write_text(f"{tokenizer}|{np.dtype(dtype).itemsize}\n{n_tokens}\n{n_tokens} T")
    return path


def write_olmo(path: Path, documents: Documents, dtype: str = "uint16", listed: bool = True) -> Path:
    """Write .npy and, if documents are listed, .csv.gz with start, end, id, source and place of each."""
    path = path.with_suffix(".npy")
    path.write_bytes(_flat(documents, dtype).tobytes())
    if listed:
        with gzip.open(path.with_suffix(".csv.gz"), "wt") as file:
            begin = 0
            for number, end in enumerate(_ends(documents)):
                csv.writer(file).writerow((begin, end, f"doc, {number}", "s3://bucket/a.json.gz", number))
                begin = end
    return path


def write_mds(
    path: Path,
    documents: Documents,
    dtype: str = "int32",
    encoding: str = "ndarray:{dtype}",
    text: bool = False,
) -> Path:
    """Write a shard with the columns `id` (8 bytes), `tokens`, and perhaps `a_text` and `text` of variable size.

    Parameters
    ----------
    encoding : of the column `tokens`: ndarray, ndarray:<dtype>, ndarray:<dtype>:<length> or bytes
    """
    path = path.with_suffix(".mds")
    encoding = encoding.format(dtype=dtype, length=len(documents[0]) if documents else 1)
    n_fixed = len(documents[0]) * np.dtype(dtype).itemsize if encoding.count(":") == 2 else None
    columns = {"a_text": ("str", None), "id": ("int", 8), "tokens": (encoding, n_fixed), "text": ("str", None)}
    if not text:
        columns = {name: columns[name] for name in ("id", "tokens")}
    columns = dict(sorted(columns.items()))
    samples = []
    for number, document in enumerate(documents):
        values = {"id": struct.pack("<q", number), "tokens": _mds_tokens(document, dtype, encoding)}
        values |= {"a_text": b"x" * (number % 5), "text": "é".encode() * (number % 3)}
        varying = [len(values[name]) for name, (_, size) in columns.items() if size is None]
        samples.append(np.array(varying, "<u4").tobytes() + b"".join(values[name] for name in columns))
    facts = {
        "column_names": list(columns),
        "column_encodings": [kind for kind, _ in columns.values()],
        "column_sizes": [size for _, size in columns.values()],
        "compression": None,
        "format": "mds",
        "hashes": [],
        "size_limit": 1 << 26,
        "version": 2,
    }
    described = json.dumps(facts, sort_keys=True).encode()
    offsets = np.cumsum([4 + 4 * (len(samples) + 1) + len(described), *map(len, samples)]).astype("<u4")
    path.write_bytes(struct.pack("<I", len(samples)) + offsets.tobytes() + described + b"".join(samples))
    return path


def _mds_tokens(document: Sequence[int], dtype: str, encoding: str) -> bytes:
    values = np.array(document, np.dtype(dtype).newbyteorder("<")).tobytes()
    kind, *stated = encoding.split(":")
    if kind == "bytes" or len(stated) == 2:
        return values
    width = 0 if len(document) < 256 else 1
    shape = bytes([1 << 2 | width]) + len(document).to_bytes(1 << width, "little")
    return (b"" if stated else bytes([MDS_CODES[dtype]])) + shape + values


WRITERS: dict[str, Callable[..., Path]] = {
    "megatron": write_megatron,
    "datatrove": write_datatrove,
    "nanotron": write_datatrove,
    "olmo": write_olmo,
    "mds": write_mds,
}
TYPES = {
    "megatron": ["uint8", "int16", "int32", "int64", "uint16"],
    "datatrove": ["uint16", "uint32"],
    "nanotron": ["uint16", "uint32"],
    "olmo": ["uint16", "uint32"],
    "mds": ["uint16", "uint32", "int32", "int64"],
}
