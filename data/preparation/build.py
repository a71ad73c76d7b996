"""Builds a prepared folder: read, clean, split, tokenise and write all domains, then rename the folder."""

import shutil
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from data.config import FORMAT_VERSION, DataConfig, SourceConfig
from data.demo_corpora.wheels import Echo
from data.preparation.corpus import Corpus, collect, drop_shared_concepts, drop_shared_documents
from data.preparation.index import index_domain, refuse_shared_files
from data.preparation.inputs import fingerprints, source_files, tokenizer_files, unpinned
from data.preparation.sources import documents, has_images, licence, locate, origin
from data.readers.budget import BadDocuments
from data.readers.documents import IMAGE, from_bytes
from data.readers.synthetic import entropy_rate
from data.readers.token_files import STORED
from data.staging import publish, staging_folder
from data.store.formats import FORMATS
from data.store.images import write_images
from data.store.tokens import SPLITS, open_manifest, token_dtype, write_manifest, write_split
from data.store.verified import note_verified
from data.tokenizers import ByteTokenizer, GivenTokenizer, Tokenizer, batches, load_pretrained, train_bpe
from mixlaw.errors import DataError

BPE_SAMPLE_CHARS = 4_000_000  # per training domain; more text hardly changes the merges


def sources(config: DataConfig) -> list[tuple[str, str, SourceConfig]]:
    """List (setting, domain, source), targets first: a document in a target and a domain is kept in the target."""
    targets = [(f"data.targets.{name}", name, source) for name, source in config.targets.items()]
    return targets + [(f"data.domains.{name}", name, source) for name, source in config.domains.items()]


def build(config: DataConfig, echo: Echo, again: bool = False) -> None:
    """Prepare the folder of a configuration.

    Parameters
    ----------
    again : replace an existing folder when the new one is complete

    Raises
    ------
    DataError
        If a source cannot be fetched or read, or a domain has no documents; incomplete folders are removed.
    """
    final = config.folder
    if final.exists() and any(final.iterdir()) and not (again and (final / "manifest.json").is_file()):
        raise DataError(f"{final} exists, but has no manifest.json: delete it and prepare it again")
    downloads = config.root_folder / "downloads"
    pretrained = load_pretrained(config.tokenizer.path) if config.tokenizer.kind == "pretrained" else None
    files = {name: locate(source, where, downloads, echo) for where, name, source in sources(config)}
    for line in unpinned(config):
        echo(line)
    indexed = {name: files[name] for _, name, source in sources(config) if source.reader in FORMATS}
    refuse_shared_files(indexed)
    read = [(where, name, source) for where, name, source in sources(config) if name not in indexed]
    inputs = {name: fingerprints(source_files(source, where)) for where, name, source in read}
    tokenizer_inputs = fingerprints(tokenizer_files(config))  # before any file is read, so that later changes show
    with staging_folder(final) as staging:
        texts = staging / ".texts"
        corpora = _collect_all(config, files, texts, echo)
        tokenizer = pretrained or _make_tokenizer(config, corpora, echo)
        tokenizer.save(staging)
        entries = {}
        for name in (*config.domains, *config.targets):
            if name in indexed:
                entries[name] = index_domain(config, name, indexed[name], tokenizer, staging / name, echo)
                continue
            splits = _write_splits(config, name, corpora[name], tokenizer, staging / name)
            entry = _entry(config, name, files[name], corpora[name], splits)
            entries[name] = entry | {"inputs": inputs[name]}
        shutil.rmtree(texts)
        facts = _manifest_facts(config, tokenizer, entries)
        write_manifest(staging, facts | {"tokenizer_inputs": tokenizer_inputs})
        note_verified(open_manifest(staging))  # files are hashed when written, so runs need not do it again
        publish(staging, final, replace=again)


def _collect_all(config: DataConfig, files: dict[str, list[Path]], folder: Path, echo: Echo) -> dict[str, Corpus]:
    folder.mkdir()
    corpora = {}
    for _, name, source in sources(config):
        if source.reader in FORMATS:
            continue
        bad = BadDocuments(config.bad_document_budget)
        read = tqdm(
            documents(source, files[name], bad, config.tokenizer), name, unit=" documents", leave=False, disable=None
        )
        least = config.least_length(has_images(source))
        corpora[name] = collect(read, folder / name, least, bad, config.image_size)
        n_bytes = corpora[name].path.stat().st_size
        echo(f"read {name}: {len(corpora[name].spans):,} documents, {n_bytes / 1e6:.1f} MB")
    drop_shared_documents(corpora.values())
    if not config.split_targets:
        targets, domains = ([corpora[n] for n in names if n in corpora] for names in (config.targets, config.domains))
        drop_shared_concepts(targets, domains)
    for where, name, _ in sources(config):
        if name in corpora:
            _refuse_empty_splits(config, where, name, corpora[name])
    return corpora


def _chosen(config: DataConfig, name: str, corpus: Corpus, split: str) -> list[bytes]:
    """Return the digests of a split's documents. A target has no train split: it is all eval, or eval and test."""
    if name in config.targets and not config.split_targets:
        return sorted(corpus.spans) if split == "eval" else []
    if name in config.targets and split == "train":
        return []
    return corpus.digests(split, config.eval_percent, config.test_percent)


def _refuse_empty_splits(config: DataConfig, where: str, name: str, corpus: Corpus) -> None:
    counts = ", ".join(f"{key} {n:,}" for key, n in corpus.counts.items())
    if not corpus.spans:
        raise DataError(f"{where}: no document is left (counts: {counts}); data.min_chars is the minimum length")
    whole = name in config.targets and not config.split_targets
    needed = ["eval"] * (config.eval_percent > 0 or whole) + ["train"] * (name in config.domains)
    for split in needed:
        if not _chosen(config, name, corpus, split):
            raise DataError(
                f"{where}: no document for its {split} split; documents are split by the hash of their text, "
                f"so it needs more of them (counts: {counts})"
                + " (the reader 'text' reads each file as one document: split large files)"
                * _reads_whole_files(config, name)
            )


def _reads_whole_files(config: DataConfig, name: str) -> bool:
    source = config.domains.get(name) or config.targets[name]
    return source.reader == "text"


def _make_tokenizer(config: DataConfig, corpora: dict[str, Corpus], echo: Echo) -> Tokenizer:
    """Return the tokenizer; BPE is learned on training documents only, with equally much text of each domain."""
    if config.tokenizer.kind == "bytes":
        return ByteTokenizer()
    if config.tokenizer.kind == "given":
        return GivenTokenizer(config.tokenizer.vocab_size, config.tokenizer.end_id, config.tokenizer.name)
    echo(f"learning a BPE tokenizer of {config.tokenizer.vocab_size:,} symbols")
    domains = ((corpora[name], _chosen(config, name, corpora[name], "train")) for name in config.domains)
    texts = (_texts(corpus, chosen, config.image_size) for corpus, chosen in domains)
    samples = (_sample(text.replace(IMAGE, "") for text in of_domain) for of_domain in texts)
    return train_bpe(chain.from_iterable(samples), config.tokenizer.vocab_size)


def _texts(corpus: Corpus, chosen: list[bytes], image_size: int) -> Iterator[str]:
    """Yield the texts of documents, with IMAGE in place of images."""
    if image_size:
        return (from_bytes(raw, image_size)[0] for raw in corpus.raw(chosen))
    return corpus.texts(chosen)


def _sample(texts: Iterable[str]) -> Iterator[str]:
    """Yield the first `BPE_SAMPLE_CHARS` characters of texts; in hash order they are a random sample."""
    left = BPE_SAMPLE_CHARS
    for text in texts:
        yield text[:left]
        left -= len(text)
        if left <= 0:
            return


def _write_splits(config: DataConfig, name: str, corpus: Corpus, tokenizer: Tokenizer, folder: Path) -> dict[str, Any]:
    splits, size = {}, config.image_size
    dtype = token_dtype(tokenizer.vocab_size + bool(size))
    for split in SPLITS:
        chosen = _chosen(config, name, corpus, split)
        if tokenizer.kind == "given":
            tokens = _given(corpus.raw(chosen), tokenizer)
        elif size:
            tokens = _tokens_and_places(_texts(corpus, chosen, size), tokenizer)
        else:
            tokens = _tokens(corpus.texts(chosen), tokenizer)
        entry = write_split(folder, split, tokens, dtype)
        if size:
            images = (from_bytes(raw, size)[1] for raw in corpus.raw(chosen))
            write_images(folder, split, entry, images, image_id=tokenizer.vocab_size, dtype=dtype)
        splits[split] = {"n_bytes": corpus.n_bytes(chosen)} | entry
    return splits


def _tokens(texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[NDArray[Any]]:
    """Yield the ids of each document and the end token, in the stored type."""
    dtype = token_dtype(tokenizer.vocab_size)
    for batch in batches(texts):
        for ids in tokenizer.encode_batch(batch):
            yield np.append(ids, tokenizer.end_id).astype(dtype)


def _tokens_and_places(texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[NDArray[Any]]:
    """Yield the ids of each document and the end token; the id `vocab_size` stands for an image."""
    place, end = np.array([tokenizer.vocab_size]), np.array([tokenizer.end_id])
    dtype = token_dtype(tokenizer.vocab_size + 1)
    for batch in batches(texts):
        parts = [text.split(IMAGE) for text in batch]
        encoded = iter(tokenizer.encode_batch(list(chain.from_iterable(parts))))
        for of_document in parts:
            between = [ids for _ in of_document for ids in (place, next(encoded))][1:]
            yield np.concatenate([*between, end]).astype(dtype)


def _given(documents: Iterable[bytes], tokenizer: Tokenizer) -> Iterator[NDArray[Any]]:
    """Yield the ids of documents that were tokenised elsewhere, and the end token."""
    dtype = token_dtype(tokenizer.vocab_size)
    for raw in documents:
        yield np.append(np.frombuffer(raw, STORED), tokenizer.end_id).astype(dtype)


def _entry(config: DataConfig, name: str, files: list[Path], corpus: Corpus, splits: dict[str, Any]) -> dict[str, Any]:
    source = config.domains.get(name) or config.targets[name]
    return {
        "role": "train" if name in config.domains else "target",
        "reader": source.reader,
        "origin": origin(source),
        "licence": licence(source, files),
        "counts": dict(corpus.counts),
        "least_length": config.least_length(has_images(source)),
        "length_unit": "tokens" if config.tokenizer.kind == "given" else "characters",
        "splits": splits,
        **({"entropy_nats_per_byte": entropy_rate(source.markov)} if source.reader == "synthetic" else {}),
    }


def _manifest_facts(config: DataConfig, tokenizer: Tokenizer, entries: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT_VERSION,
        "name": config.name,
        "identity": config.identity,
        "settings": config.settings,
        **({"image": {"size": config.image_size, "id": tokenizer.vocab_size}} if config.image_size else {}),
        "tokenizer": {
            "kind": tokenizer.kind,
            "vocab_size": tokenizer.vocab_size,
            "end_id": tokenizer.end_id,
            "sha256": tokenizer.sha256,
            **({"name": config.tokenizer.name} if config.tokenizer.name else {}),
        },
        "domains": entries,
    }
