"""Reader of tokenised binary files: ids of concatenated documents, each followed by an end token."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from data.config import SourceConfig, TokenizerConfig
from data.readers.token_headers import check_token_file
from mixlaw.errors import ConfigError

TYPES = {"uint16": "<u2", "uint32": "<u4"}
STORED = np.dtype("<u4")  # of the ids that the reader yields


def check_token_files(source: SourceConfig, tokenizer: TokenizerConfig, where: str) -> None:
    """Check the settings that a file of ids does not contain itself.

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
    """Yield the ids of each document without its end token, as bytes of little-endian uint32.

    Raises
    ------
    DataError
        If the file has a header or another type, or an id is beyond the vocabulary; names the file.
    """
    dtype = np.dtype(TYPES[source.dtype])
    check_token_file(path, dtype, tokenizer.vocab_size, tokenizer.end_id)
    ids = np.memmap(path, dtype=dtype, mode="r")
    start = 0
    for end in [*np.flatnonzero(ids == tokenizer.end_id), len(ids)]:
        document = np.asarray(ids[start:end])
        if len(document) or end < len(ids):  # count empty documents, but not the end of the file
            yield document.astype(STORED).tobytes()
        start = int(end) + 1
