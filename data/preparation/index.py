"""Indexes the token files of a domain that another trainer wrote: the tokens stay where they are.

The prepared folder gets `<split>.spans`, the spans of documents of each split, and `inputs.json`, the list of files.
The hash of the domain is of relative names, sizes and spans; with `data.content_hash`, of all bytes of the files too.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data.config import DataConfig, SourceConfig
from data.demo_corpora.wheels import Echo
from data.preparation.corpus import COUNTS
from data.preparation.held_out import Ints, spans_of_splits, whole
from data.preparation.sources import origin
from data.preparation.token_checks import check_names, check_tokens, check_types
from data.store.formats import FORMATS, FileFacts, FileSettings
from data.store.shards import INPUTS
from data.store.tokens import SPLITS, token_dtype
from data.tokenizers import Tokenizer
from mixlaw.errors import DataError
from mixlaw.fileio import canonical_json, file_sha256

_THREADS = 8  # for waiting on the file system
_COLUMN = "tokens"  # of ids, in MDS shards


def refuse_shared_files(files: Mapping[str, Sequence[Path]]) -> None:
    """Refuse token files that two domains, or a domain and a target, name; documents are not compared.

    Parameters
    ----------
    files : name of each indexed domain or target -> its files
    """
    owner: dict[Path, str] = {}
    for name, paths in files.items():
        for path in paths:
            if owner.setdefault(path, name) != name:
                raise DataError(f"{path} is in both '{owner[path]}' and '{name}': name each token file once")


def index_domain(
    config: DataConfig, name: str, files: Sequence[Path], tokenizer: Tokenizer, folder: Path, echo: Echo
) -> dict[str, Any]:
    """Write the index of a domain or target, and return its manifest entry.

    Parameters
    ----------
    files : in reading order
    folder : of the domain in the prepared folder

    Raises
    ------
    DataError
        If a file cannot be used, the files do not fit together or not to the tokenizer, or a split has no document.
    """
    source = config.domains.get(name) or config.targets[name]
    settings = _settings(source, tokenizer)
    inputs = _inputs(files, config.content_hash, name)
    facts = _read_facts(source.reader, files, settings, name)
    check_types(files, facts)
    check_names(files, facts, config.tokenizer)
    settings = FileSettings(facts[0].dtype, settings.end_id, settings.column)
    check_tokens(source.reader, files, facts, settings, tokenizer.vocab_size, lambda line: echo(f"{name}: {line}"))
    folder.mkdir()
    spans = _spans(config, name, np.array([f.n_documents for f in facts]))
    splits = {
        split: _write_spans(folder, split, _with_tokens(spans[split], source.reader, files, facts, settings), settings)
        for split in SPLITS
    }
    sources = {"n_files": len(files), "sha256": _hash_of_files(inputs)}
    written = [_written(folder / INPUTS, json.dumps(inputs).encode())]
    n_documents = sum(f.n_documents for f in facts)
    echo(f"indexed {name}: {len(files):,} files, {n_documents:,} documents, {sum(f.n_tokens for f in facts):,} tokens")
    return {
        "role": "train" if name in config.domains else "target",
        "reader": source.reader,
        "origin": origin(source),
        "licence": source.licence or "not stated",
        "counts": dict.fromkeys(COUNTS, 0) | {"n_read": n_documents, "n_documents": n_documents},
        "external": {"reader": source.reader, "root": _root(files), **vars(settings)},
        "files": written,
        "splits": {split: entry | {"sources": sources} for split, entry in splits.items()},
    }


def _settings(source: SourceConfig, tokenizer: Tokenizer) -> FileSettings:
    """Return the settings of files; OLMo's have the smallest type for the vocabulary unless another is configured."""
    dtype = source.dtype or (token_dtype(tokenizer.vocab_size).name if source.reader == "olmo" else "")
    return FileSettings(dtype, tokenizer.end_id, source.text_key or _COLUMN)


def _root(files: Sequence[Path]) -> str:
    return os.path.commonpath([path.parent for path in files])


def _inputs(files: Sequence[Path], content_hash: bool, name: str) -> dict[str, list[Any]]:
    """Return relative path, size, modification time and, if asked for, sha256 of the files, as columns."""
    root = _root(files)
    with ThreadPoolExecutor(_THREADS) as pool:
        stats = list(pool.map(Path.stat, files))
        inputs: dict[str, list[Any]] = {
            "path": [os.path.relpath(path, root) for path in files],
            "n_bytes": [stat.st_size for stat in stats],
            "mtime_ns": [stat.st_mtime_ns for stat in stats],
        }
        if content_hash:
            hashed = pool.map(file_sha256, files)
            bar = tqdm(hashed, f"sha256 of {name}", len(files), unit=" files", leave=False, disable=None)
            inputs["sha256"] = list(bar)
    return inputs


def _hash_of_files(inputs: Mapping[str, list[Any]]) -> str:
    facts = {key: column for key, column in inputs.items() if key != "mtime_ns"}
    return hashlib.sha256(canonical_json(facts).encode()).hexdigest()


def _read_facts(reader: str, files: Sequence[Path], settings: FileSettings, name: str) -> list[FileFacts]:
    with ThreadPoolExecutor(_THREADS) as pool:
        read = pool.map(lambda path: FORMATS[reader](path, settings).facts(), files)
        return list(tqdm(read, f"index of {name}", len(files), unit=" files", leave=False, disable=None))


def _spans(config: DataConfig, name: str, n_documents: Ints) -> dict[str, Ints]:
    """Return the spans of each split; a target is measured whole unless targets are split."""
    none = np.zeros((0, 3), np.int64)
    if name in config.targets and not config.split_targets:
        spans = dict.fromkeys(SPLITS, none) | {"eval": whole(n_documents)}
    else:
        spans = spans_of_splits(n_documents, config.eval_percent, config.test_percent)
        spans |= {"train": none} if name in config.targets else {}
    needed = ["eval"] * (config.eval_percent > 0 or name in config.targets) + ["train"] * (name in config.domains)
    for split in needed:
        if not len(spans[split]):
            group = "domains" if name in config.domains else "targets"
            raise DataError(
                f"data.{group}.{name}: no document for its {split} split among {n_documents.sum():,} documents: add "
                "documents, or change data.eval_percent and data.test_percent"
            )
    return spans


def _with_tokens(
    spans: Ints, reader: str, files: Sequence[Path], facts: Sequence[FileFacts], settings: FileSettings
) -> Ints:
    """Return the rows of an index (n, 5): file, first token, tokens, first document, documents."""
    number, first, stop = spans.T
    begin, end = np.zeros_like(first), np.array([f.n_tokens for f in facts])[number]
    is_part = stop - first < np.array([f.n_documents for f in facts])[number]  # of a file; others need no index
    for i in np.unique(number[is_part]).tolist():
        here = slice(*np.searchsorted(number, [i, i + 1]))
        file = FORMATS[reader](files[i], settings)
        begin[here], end[here] = file.bounds(np.stack([first[here], stop[here]]).ravel()).reshape(2, -1)
    return np.stack([number, begin, end - begin, first, stop - first], 1)


def _write_spans(folder: Path, split: str, rows: Ints, settings: FileSettings) -> dict[str, Any]:
    """Write the index of a split, and return its manifest entry."""
    n_tokens, n_documents = (int(rows[:, column].sum()) for column in (2, 4))
    files = [_written(folder / f"{split}.spans", rows.astype("<i8").tobytes())] if len(rows) else []
    n_bytes = n_tokens * np.dtype(settings.dtype).itemsize
    return {"n_bytes": n_bytes, "n_documents": n_documents, "n_tokens": n_tokens, "files": files}


def _written(path: Path, raw: bytes) -> dict[str, Any]:
    path.write_bytes(raw)
    return {"name": path.name, "n_bytes": len(raw), "sha256": file_sha256(path)}
