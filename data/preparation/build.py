"""Builds a prepared folder: reads, cleans, splits and tokenises all domains, then renames the folder."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from data.config import FORMAT_VERSION, TASK_READERS, DataConfig
from data.demo_corpora.wheels import Echo
from data.preparation.cluster import SlurmOptions, slurm_jobs
from data.preparation.contamination import contaminated
from data.preparation.index import index_domain, refuse_shared_files
from data.preparation.inputs import fingerprints, source_files, tokenizer_files, unpinned
from data.preparation.parts import Part, divide
from data.preparation.selection import Selection
from data.preparation.sizes import Sizes
from data.preparation.sources import all_sources, has_images, licence, locate, origin
from data.preparation.stages import PARTS, Stages
from data.preparation.tasks import read_task, write_task
from data.preparation.work_folder import work_folder, work_path
from data.preparation.workers import Runner, in_this_process, worker_processes
from data.readers.documents import IMAGE, from_bytes
from data.readers.synthetic import entropy_rate
from data.staging import publish
from data.store.formats import FORMATS
from data.store.tokens import open_manifest, write_manifest
from data.store.verified import note_verified
from data.tokenizers import ByteTokenizer, GivenTokenizer, Tokenizer, load_pretrained, train_bpe
from mixlaw.errors import DataError

BPE_SAMPLE_CHARS = 4_000_000  # per training domain; more text hardly changes the merges


@dataclass(frozen=True)
class Located:
    """The files of a configuration, before any is read.

    Attributes
    ----------
    files : of each domain and target that is read
    indexed : of each domain and target that is tokenised already
    tasks : of each target that is a benchmark task
    inputs, tokenizer_inputs : path, size and modification time, so that later changes show
    """

    files: dict[str, list[Path]]
    indexed: dict[str, list[Path]]
    tasks: dict[str, list[Path]]
    inputs: dict[str, list[dict[str, Any]]]
    tokenizer_inputs: list[dict[str, Any]]


def build(config: DataConfig, echo: Echo, again: bool, workers: int | SlurmOptions, sizes: Sizes) -> None:
    """Prepare the folder of a configuration; continue if the same command was interrupted.

    Parameters
    ----------
    again : replace an existing folder when the new one is complete
    workers : number of processes, of which a small corpus needs none; or resources of jobs on a cluster

    Raises
    ------
    DataError
        If a source cannot be fetched or read, or a domain has no documents. The work on a small corpus is removed.
    """
    final, work = config.folder, work_path(config.folder, again)
    if final.exists() and any(final.iterdir()) and not (again and (final / "manifest.json").is_file()):
        raise DataError(f"{final} exists, but has no manifest.json: delete it and prepare it again")
    pretrained = load_pretrained(config.tokenizer.path) if config.tokenizer.kind == "pretrained" else None
    located = _locate_all(config, echo)
    parts = divide(config, located.files, work / PARTS, sizes)
    is_small = isinstance(workers, int) and sum(part.n_bytes for part in parts) < sizes.small
    with work_folder(work, keep=not is_small, echo=echo), _runner(workers, is_small, work, echo) as run:
        if final.exists() and not again:  # another process prepared it while this one waited for the work folder
            return
        folder = _prepared(config, located, parts, Stages(config, work, sizes, run, echo), pretrained)
        note_verified(open_manifest(folder))  # files are hashed when written, so runs need not do it again
        publish(folder, final, replace=again)


def _runner(workers: int | SlurmOptions, is_small: bool, work: Path, echo: Echo) -> AbstractContextManager[Runner]:
    if isinstance(workers, SlurmOptions):
        return slurm_jobs(workers, work, echo)
    return nullcontext(in_this_process) if is_small else worker_processes(workers)


def _locate_all(config: DataConfig, echo: Echo) -> Located:
    """Download what is missing, and return the files of all domains and targets."""
    sources, downloads = all_sources(config), config.root_folder / "downloads"
    files = {name: locate(source, where, downloads, echo) for where, name, source in sources}
    for line in unpinned(config):
        echo(line)
    indexed = {name: files.pop(name) for _, name, source in sources if source.reader in FORMATS}
    refuse_shared_files(indexed)
    inputs = {name: fingerprints(source_files(source, where)) for where, name, source in sources if name in files}
    tasks = {name: files.pop(name) for _, name, source in sources if source.reader in TASK_READERS}
    return Located(files, indexed, tasks, inputs, fingerprints(tokenizer_files(config)))


def _prepared(
    config: DataConfig, located: Located, parts: Sequence[Part], stages: Stages, pretrained: Tokenizer | None
) -> Path:
    """Return the complete folder inside the work folder."""
    tasks = {name: read_task(config.targets[name], paths) for name, paths in located.tasks.items()}
    stages.read(parts)
    selection = stages.compare(stages.select(parts), [text for task in tasks.values() for text in task.texts])
    _refuse_empty_splits(config, selection)
    tokenizer = pretrained or _make_tokenizer(config, selection, stages.echo)
    facts = _tokenizer_facts(config, tokenizer)
    folder, splits = stages.write(selection, stages.tokenise(selection, tokenizer, facts), tokenizer.vocab_size)
    tokenizer.save(folder)
    entries = {}
    for name in (*config.domains, *config.targets):
        if name in located.indexed:
            entries[name] = index_domain(config, name, located.indexed[name], tokenizer, folder / name, stages.echo)
            continue
        if name in tasks:
            entry = write_task(config, name, tasks[name], located.tasks[name], tokenizer, folder / name)
        else:
            entry = _entry(config, name, located.files[name], selection.counts(name), splits[name])
        entries[name] = entry | {"inputs": located.inputs[name]}
    documents = _training_documents(config, selection) if tasks else ()  # reading all of them takes long
    for name, found in contaminated(tasks, documents).items():
        entries[name]["questions"]["contaminated"] = found
    if tasks and located.indexed:
        stages.echo("note: corpora that are tokenised already were not searched for answers of tasks")
    manifest = _manifest_facts(config, facts, entries) | {"tokenizer_inputs": located.tokenizer_inputs}
    write_manifest(folder, manifest)
    return folder


def _training_documents(config: DataConfig, selection: Selection) -> Iterator[tuple[str, bytes]]:
    """Yield the domain and the text of every training document that is read here."""
    for name in config.domains:
        if name in selection.names:
            yield from ((name, raw) for raw in selection.documents(name, "train"))


def _refuse_empty_splits(config: DataConfig, selection: Selection) -> None:
    for where, name, source in all_sources(config):
        if name not in selection.names:
            continue
        counts = ", ".join(f"{key} {n:,}" for key, n in selection.counts(name).items())
        if not selection.counts(name)["n_documents"]:
            least = "; data.min_chars is the minimum length" * (selection.counts(name)["n_short"] > 0)
            raise DataError(f"{where}: no document is left (counts: {counts}){least}")
        for split in _needed_splits(config, name):
            if not selection.n_bytes(name, split):
                advice = " (the reader 'text' reads each file as one document: split large files)"
                raise DataError(
                    f"{where}: no document for its {split} split; documents are split by the hash of their text, "
                    f"so it needs more of them (counts: {counts}){advice * (source.reader == 'text')}"
                )


def _needed_splits(config: DataConfig, name: str) -> list[str]:
    """Return the splits of a domain or target that must not be empty."""
    is_whole = name in config.targets and not config.split_targets
    return ["eval"] * (config.eval_percent > 0 or is_whole) + ["train"] * (name in config.domains)


def _make_tokenizer(config: DataConfig, selection: Selection, echo: Echo) -> Tokenizer:
    """Return the tokenizer; BPE is learned on training documents only, with equally much text of each domain."""
    if config.tokenizer.kind == "bytes":
        return ByteTokenizer()
    if config.tokenizer.kind == "given":
        return GivenTokenizer(config.tokenizer.vocab_size, config.tokenizer.end_id, config.tokenizer.name)
    echo(f"learning a BPE tokenizer of {config.tokenizer.vocab_size:,} symbols")
    domains = (selection.documents(name, "train") for name in config.domains)
    samples = (_sample(_text(raw, config.image_size) for raw in of_domain) for of_domain in domains)
    return train_bpe(chain.from_iterable(samples), config.tokenizer.vocab_size)


def _text(raw: bytes, image_size: int) -> str:
    """Return the text of a document, without the places of its images."""
    return from_bytes(raw, image_size)[0].replace(IMAGE, "") if image_size else raw.decode("utf-8")


def _sample(texts: Iterable[str]) -> Iterator[str]:
    """Yield the first `BPE_SAMPLE_CHARS` characters of texts; in hash order they are a random sample."""
    left = BPE_SAMPLE_CHARS
    for text in texts:
        yield text[:left]
        left -= len(text)
        if left <= 0:
            return


def _entry(
    config: DataConfig, name: str, files: list[Path], counts: dict[str, int], splits: dict[str, Any]
) -> dict[str, Any]:
    source = config.domains.get(name) or config.targets[name]
    return {
        "role": "train" if name in config.domains else "target",
        "reader": source.reader,
        "origin": origin(source),
        "licence": licence(source, files),
        "counts": counts,
        "least_length": config.least_length(has_images(source)),
        "length_unit": "tokens" if config.tokenizer.kind == "given" else "characters",
        "splits": splits,
        **({"entropy_nats_per_byte": entropy_rate(source.markov)} if source.reader == "synthetic" else {}),
    }


def _tokenizer_facts(config: DataConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    return {
        "kind": tokenizer.kind,
        "vocab_size": tokenizer.vocab_size,
        "end_id": tokenizer.end_id,
        "sha256": tokenizer.sha256,
        **({"name": config.tokenizer.name} if config.tokenizer.name else {}),
    }


def _manifest_facts(config: DataConfig, tokenizer: dict[str, Any], entries: dict[str, Any]) -> dict[str, Any]:
    return {
        "format": FORMAT_VERSION,
        "name": config.name,
        "identity": config.identity,
        "settings": config.settings,
        **({"image": {"size": config.image_size, "id": tokenizer["vocab_size"]}} if config.image_size else {}),
        "tokenizer": tokenizer,
        "domains": entries,
    }
