"""Checks that the token files of a domain fit together, and to the tokenizer of the configuration."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.config import SourceConfig, TokenizerConfig
from data.demo_corpora.wheels import Echo
from data.readers.token_headers import check_ids
from data.store.formats import FORMATS, FileFacts, FileSettings
from mixlaw.errors import ConfigError, DataError

_FILES, _TOKENS, _DOCUMENTS = 32, 1 << 16, 64  # that are looked at: files, and of each its first tokens and documents
_ENOUGH = 16  # documents that end alike, to say what the end token is
_TYPES = {"uint16", "uint32", "int32", "int64"}


def check_external(source: SourceConfig, tokenizer: TokenizerConfig, where: str) -> None:
    """Check the settings of a domain whose files another trainer wrote.

    Raises
    ------
    ConfigError
        Naming the setting.
    """
    if tokenizer.kind not in ("given", "pretrained"):
        raise ConfigError(
            f"{where}: the reader '{source.reader}' reads files that are tokenised already: set data.tokenizer.kind to "
            "pretrained with its path, or to given with name, vocab_size and end_id"
        )
    if tokenizer.kind == "given" and not tokenizer.name:
        raise ConfigError(
            f"data.tokenizer.name: missing; name the tokenizer of the files of {where}, for example "
            "EleutherAI/gpt-neox-20b"
        )
    if source.dtype and source.dtype not in _TYPES:
        raise ConfigError(f"{where}.dtype is '{source.dtype}'; it must be one of {', '.join(sorted(_TYPES))}")


def check_types(files: Sequence[Path], facts: Sequence[FileFacts]) -> None:
    """Refuse files of different types in one domain."""
    for path, found in zip(files, facts, strict=True):
        if found.dtype != facts[0].dtype:
            raise DataError(
                f"{path} holds {found.dtype} tokens, but {files[0]} holds {facts[0].dtype}: name files of different "
                "types, or of different tokenizers, as different domains"
            )


def check_names(files: Sequence[Path], facts: Sequence[FileFacts], tokenizer: TokenizerConfig) -> None:
    """Refuse files that name another tokenizer than the configuration; the last parts of two paths are compared."""
    stated = tokenizer.name or tokenizer.path
    for path, found in zip(files, facts, strict=True):
        if found.tokenizer and _plain_name(found.tokenizer) != _plain_name(stated):
            raise DataError(
                f"{path} was tokenised with '{found.tokenizer}' according to its metadata, but data.tokenizer is "
                f"'{stated}': use that tokenizer, or set data.tokenizer.name: {found.tokenizer} if they are the same"
            )


def _plain_name(tokenizer: str) -> str:
    return tokenizer.removesuffix("/tokenizer.json").rstrip("/").rpartition("/")[2]


def check_tokens(
    reader: str,
    files: Sequence[Path],
    facts: Sequence[FileFacts],
    settings: FileSettings,
    vocab_size: int,
    echo: Echo,
) -> None:
    """Look at the first tokens and documents of up to 32 files: ids below the vocabulary's size, and end tokens.

    Raises
    ------
    DataError
        If an id is not in the vocabulary, or the documents of a file end with another token than `end_id`.
    """
    n_seen = n_ended = 0
    for path, found in _some(files, facts):
        file = FORMATS[reader](path, settings)
        ids = file.tokens(0, min(found.n_tokens, _TOKENS))
        if reader == "olmo":
            check_ids(path, ids, vocab_size)  # its type is configured, not stated
        _check_range(path, ids, vocab_size)
        bounds = file.bounds(np.arange(min(found.n_documents, _DOCUMENTS) + 1))
        spans = itertools.pairwise(bounds.tolist())
        ends = [int(file.tokens(stop - 1, stop)[0]) for start, stop in spans if stop > start]
        _check_ends(path, ends, settings.end_id)
        n_seen, n_ended = n_seen + len(ends), n_ended + ends.count(settings.end_id)
    if not n_ended:
        echo(
            f"none of {n_seen:,} documents that were looked at ends with data.tokenizer.end_id, {settings.end_id}: the "
            "model sees no boundary between documents"
        )


def _some(files: Sequence[Path], facts: Sequence[FileFacts]) -> Iterator[tuple[Path, FileFacts]]:
    """Yield files with documents, evenly spaced."""
    filled = [pair for pair in zip(files, facts, strict=True) if pair[1].n_tokens]
    yield from (filled[i * len(filled) // _FILES] for i in range(_FILES)) if len(filled) > _FILES else filled


def _check_range(path: Path, ids: NDArray[Any], vocab_size: int) -> None:
    if not 0 <= ids.min() <= ids.max() < vocab_size:
        wrong = ids[(ids < 0) | (ids >= vocab_size)][0]
        raise DataError(
            f"{path} holds the id {wrong}, but the tokenizer has {vocab_size:,}: the file is of another tokenizer, or "
            "data.tokenizer is wrong"
        )


def _check_ends(path: Path, ends: Sequence[int], end_id: int) -> None:
    """Refuse a file whose documents all end with one token that is not the end token."""
    (last, n), *others = Counter(ends).most_common() or [(end_id, 0)]
    if n >= _ENOUGH and not others and last != end_id:
        raise DataError(
            f"{path}: its documents end with the token {last}, but data.tokenizer.end_id is {end_id}: the file is "
            "of another tokenizer, or end_id is wrong"
        )
