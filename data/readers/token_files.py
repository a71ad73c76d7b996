"""Reader of tokenised binary files: token ids of documents end to end, each closed by an end token."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.config import SourceConfig, TokenizerConfig
from data.readers.token_headers import check_token_file
from mixlaw.errors import ConfigError

TYPES = {"uint16": "<u2", "uint32": "<u4"}
STORED = np.dtype("<u4")  # of the documents that are handed on


def check_token_files(source: SourceConfig, tokenizer: TokenizerConfig, where: str) -> None:
    """Check what cannot be read from a file of numbers.

    Raises
    ------
    ConfigError
        Naming the setting.
    """
    if source.dtype not in TYPES:
        raise ConfigError(f"{where}.dtype is '{source.dtype}'; the reader 'tokens' needs uint16 or uint32")
    if tokenizer.kind != "given":
        raise ConfigError(f"{where}: the reader 'tokens' needs data.tokenizer.kind=given, with vocab_size and end_id")


def token_documents(path: Path, source: SourceConfig, tokenizer: TokenizerConfig) -> Iterator[bytes]:
    """Yield the ids of each document without its end token, as little-endian uint32.

    Raises
    ------
    DataError
        Naming the file, where it is not one of ids of this type alone, or holds an id that the tokenizer does not have.
    """
    dtype = np.dtype(TYPES[source.dtype])
    check_token_file(path, dtype, tokenizer.vocab_size, tokenizer.end_id)
    ids = np.memmap(path, dtype=dtype, mode="r")
    start = 0
    for end in [*np.flatnonzero(ids == tokenizer.end_id), len(ids)]:
        document = np.asarray(ids[start:end])
        if len(document) or end < len(ids):  # an empty one is counted; behind the last end token there is none
            yield document.astype(STORED).tobytes()
        start = int(end) + 1
