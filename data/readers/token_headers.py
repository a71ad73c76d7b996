"""Detects token files of another format or id type than configured.

A file of ids has no header: a header would be read as ids, and 32-bit ids read as 16-bit would alternate with zeros.
"""

import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mixlaw.errors import DataError

_HEAD = 4096  # bytes that are checked for a header
_SAMPLE = 1 << 20  # ids that are checked for their type
_ENOUGH, _MORE = 4096, 0.5  # least number of ids, and difference in entropy [bits], to detect the byte order
_HIGH = 16  # upper bound of the high half of an id, for vocabularies below 2^20
_LLM_C = {20240520: "uint16", 20240801: "uint32"}  # magic of llm.c's token files -> their type
_LLM_C_HEADER = 1024  # bytes: 256 numbers of 32 bits
_MEGATRON = b"MMIDIDX\x00\x00"
_MEGATRON_TYPES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float64", 7: "float32", 8: "uint16"}
_SAME = {"int32": "uint32", "int16": "uint16"}  # same bytes, since ids are not negative
_MAGIC = (
    (b"PK\x03\x04", "a zip archive, as .npz and PyTorch's .pt are"),
    (b"PAR1", "a parquet file: use the reader 'parquet' for texts"),
    (b"ARROW1", "an Arrow file"),
    (b"\x89HDF\r\n", "an HDF5 file"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"\xfd7zXZ\x00", "compressed with xz"),
    (b"BZh", "compressed with bzip2"),
    (_MEGATRON, "the index of Megatron's data: name its .bin"),
)
_TEXT = bytes([9, 10, 13, *range(32, 127)])


def check_token_file(path: Path, dtype: np.dtype[Any], vocab_size: int, end_id: int) -> None:
    """Refuse a file with a known header, or with ids that are clearly of another type.

    Parameters
    ----------
    dtype : the configured type: little-endian, 2 or 4 bytes

    Raises
    ------
    DataError
        With the file, its probable format, and the right setting or the command that extracts the ids.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for check in (_refuse_archives, _refuse_numpy, _refuse_llm_c, _refuse_safetensors, _refuse_text):
        check(path, head)
    size = path.stat().st_size
    if size == 0 or size % dtype.itemsize:
        raise DataError(
            f"{path} has {size:,} bytes, which is not a whole number of {dtype.name} tokens: the file is truncated, "
            "has a header, or has another dtype"
        )
    ids: NDArray[Any] = np.memmap(path, dtype, "r")
    _check_index(path, dtype, ids, end_id)
    check_ids(path, ids, vocab_size)


def check_ids(path: Path, ids: NDArray[Any], vocab_size: int) -> None:
    """Refuse ids that are clearly of another width or byte order, or beyond the vocabulary.

    Raises
    ------
    DataError
        With the file, and the right setting or the command that converts it.
    """
    _refuse_other_order(path, ids)
    _refuse_other_widths(path, ids)
    _refuse_ids_beyond(path, ids, vocab_size)


def _refuse_archives(path: Path, head: bytes) -> None:
    for magic, what in _MAGIC:
        if head.startswith(magic) and (magic != b"BZh" or head[4:10] == b"1AY&SY"):
            raise DataError(f"{path} is {what}; the reader 'tokens' reads plain ids: unpack or convert it")
    if head.startswith(b"\x1f\x8b\x08"):
        try:
            zlib.decompressobj(wbits=31).decompress(head)
        except zlib.error:  # ids that begin like a gzip file by chance
            return
        raise DataError(f"{path} is compressed with gzip; the reader 'tokens' reads plain ids: gunzip it")


def _refuse_numpy(path: Path, head: bytes) -> None:
    if not head.startswith(b"\x93NUMPY"):
        return
    try:
        kind = np.load(path, mmap_mode="r", allow_pickle=False).dtype.name
    except (ValueError, OSError, EOFError):
        kind = "an unknown type"
    right = "uint16" if kind in ("uint8", "uint16") else "uint32"
    raise DataError(
        f"{path} is a NumPy file (.npy) of {kind}, whose header would be read as ids: write the ids without it, "
        f"np.load({path.name!r}).astype('{right}').tofile('{path.stem}.bin'), and set dtype: {right}"
    )


def _refuse_llm_c(path: Path, head: bytes) -> None:
    if len(head) < _LLM_C_HEADER or (magic := struct.unpack_from("<i", head)[0]) not in _LLM_C:
        return
    n_ids, dtype = struct.unpack_from("<i", head, 8)[0], _LLM_C[magic]
    raise DataError(
        f"{path} is a token file of llm.c: a header of {_LLM_C_HEADER:,} bytes before {n_ids:,} ids of {dtype}: remove "
        f"it, tail -c +{_LLM_C_HEADER + 1} {path.name} > ids.bin, and set dtype: {dtype}"
    )


def _refuse_safetensors(path: Path, head: bytes) -> None:
    length = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{" or not 2 <= length < path.stat().st_size:
        return
    with path.open("rb") as file:
        file.seek(8)
        try:
            json.loads(file.read(min(length, 1 << 26)))
        except ValueError:
            return
    raise DataError(f"{path} is a safetensors file: write the ids of its tensor with numpy's .tofile")


def _refuse_text(path: Path, head: bytes) -> None:
    if len(head) >= 16 and not head.translate(None, _TEXT):
        raise DataError(f"{path} holds text, not token ids: use the reader 'text' or 'jsonl', or tokenise it first")


def _check_index(path: Path, dtype: np.dtype[Any], ids: NDArray[Any], end_id: int) -> None:
    """Compare a Megatron .bin file with the .idx file beside it, which has the type and number of documents."""
    index = path.with_suffix(".idx")
    if not index.is_file() or index == path:
        return
    with index.open("rb") as file:
        head = file.read(34)
    if not head.startswith(_MEGATRON) or len(head) < 34:
        return
    kind, n_documents = _MEGATRON_TYPES.get(head[17], "unknown"), struct.unpack_from("<Q", head, 26)[0] - 1
    if _SAME.get(kind, kind) != dtype.name:
        right = _SAME.get(kind, kind)
        advice = f"set dtype: {right}" if right in ("uint16", "uint32") else "write its ids again as uint32"
        raise DataError(f"{path}: its ids are {kind} according to Megatron's index beside it, {index.name}: {advice}")
    if (n_ends := int(np.count_nonzero(ids == end_id))) < n_documents:
        raise DataError(
            f"{path}: Megatron's index beside it, {index.name}, has {n_documents:,} documents, but the end token "
            f"{end_id} occurs {n_ends:,} times: preprocess with --append-eod, or correct data.tokenizer.end_id"
        )


def _refuse_other_order(path: Path, ids: NDArray[Any]) -> None:
    """Refuse big-endian 16-bit ids: for any vocabulary, the high byte of an id varies less than the low one."""
    sample = np.asarray(ids[:_SAMPLE])
    if ids.dtype.itemsize != 2 or len(sample) < _ENOUGH:
        return
    low, high = (_entropy(np.bincount(part, minlength=256)) for part in (sample & 255, sample >> 8))
    if high > low + _MORE:
        raise DataError(
            f"{path}: the high bytes of its ids vary more ({high:.1f} bits) than the low ones ({low:.1f} bits), so the "
            f"file is big-endian: convert it, np.fromfile({path.name!r}, '>u2').astype('<u2').tofile('ids.bin')"
        )


def _entropy(counts: NDArray[np.int64]) -> float:
    """Return the entropy of a distribution of counts [bits]."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log2(shares)).sum())


def _refuse_other_widths(path: Path, ids: NDArray[Any]) -> None:
    """Refuse 32- or 64-bit ids read as 16-bit, and 64-bit ids read as 32-bit: every second value is then tiny."""
    sample = np.asarray(ids[: min(_SAMPLE, len(ids) // 4 * 4)])
    if len(sample) < 16:
        return
    low, high = sample[::2], sample[1::2]
    if high.max() >= _HIGH or low.max() < _HIGH or not (high == 0).mean() > 0.2:
        return
    bits = ids.dtype.itemsize * 8
    fourfold = bits == 16 and not sample[2::4].any() and not sample[3::4].any()
    if bits == 32 or fourfold:
        raise DataError(
            f"{path}: its ids alternate with zeros, so they have 64 bits, not {bits}: convert it, "
            f"np.fromfile({path.name!r}, '<i8').astype('uint32').tofile('ids.bin'), and set dtype: uint32"
        )
    seen = "0" if not high.any() else f"at most {high.max()}"
    raise DataError(f"{path}: every second id is {seen}, so the ids have 32 bits, not 16: set dtype: uint32")


def _refuse_ids_beyond(path: Path, ids: NDArray[Any], vocab_size: int) -> None:
    """Refuse ids beyond the vocabulary; suggest the type for which all ids are inside."""
    if ids.max() < vocab_size:
        return
    at, raw = int(np.argmax(ids >= vocab_size)), np.asarray(ids[:_SAMPLE]).tobytes()
    others: list[tuple[Any, str]] = [
        ("<u2", "as uint16 all are below it: set dtype: uint16"),
        ("<u4", "as uint32 all are below it: set dtype: uint32"),
        (ids.dtype.newbyteorder(">"), "the file is big-endian, read so all are below it: convert it to little-endian"),
    ]
    likely = [advice for dtype, advice in others if _all_inside(raw, np.dtype(dtype), vocab_size)]
    raise DataError(
        f"{path}: token {at:,} is {ids[at]}, but data.tokenizer.vocab_size is {vocab_size}: "
        + (likely[0] if likely else "the file is damaged, has a header, or has another tokenizer or dtype")
    )


def _all_inside(raw: bytes, dtype: np.dtype[Any], vocab_size: int) -> bool:
    """Return whether all ids of a file of this type are inside the vocabulary, and not all are 0."""
    ids = np.frombuffer(raw[: len(raw) // dtype.itemsize * dtype.itemsize], dtype)
    return bool(ids.any() and ids.max() < vocab_size)
