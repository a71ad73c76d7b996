"""Records the source files of a prepared folder, and reports how the files of its sources differ now.

Files are compared by resolved path, size and modification time; contents are not read again. Differences are reported
only: copies have other times, and a running study must keep its data.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from data.config import DataConfig, SourceConfig
from data.readers.hub import is_local
from data.readers.paths import SUFFIXES, find_files
from data.store.formats import FORMATS
from data.store.shards import read_inputs
from data.store.tokens import Manifest
from mixlaw.errors import DataError

COMMIT = re.compile("[0-9a-f]{40}")
MOST_NAMES = 3  # of files in a message
Fingerprint = tuple[int, int]  # bytes, modification time [ns]


def fingerprints(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Return resolved path, size and modification time of files, for the manifest."""
    found = ((path.resolve(), path.stat()) for path in files)
    return [{"path": str(path), "n_bytes": s.st_size, "mtime_ns": s.st_mtime_ns} for path, s in found]


def source_files(source: SourceConfig, where: str) -> list[Path]:
    """Return the files that a source reads now; [] for pinned packages and sources without local files.

    Raises
    ------
    DataError
        If there are none, or one is not a regular file.
    """
    if source.reader in SUFFIXES:
        return find_files(source, where)
    return _below(Path(source.path)) if source.reader == "hub" and is_local(source) else []


def tokenizer_files(config: DataConfig) -> list[Path]:
    """Return the files of a pretrained tokenizer in a local folder."""
    return _below(Path(config.tokenizer.path)) if config.tokenizer.kind == "pretrained" else []


def _below(folder: Path) -> list[Path]:
    """Return a file itself, or the files below a folder, except hidden ones, which are caches."""
    if folder.is_file():
        return [folder]
    found = (path for path in folder.rglob("*") if path.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def unpinned(config: DataConfig) -> list[str]:
    """Return a note for every dataset of the hub whose revision is not pinned to a commit."""
    groups = (("domains", config.domains), ("targets", config.targets))
    return [
        f"note: data.{group}.{name}.hub.revision is {source.hub.revision or 'not set'}, so {source.path} may "
        "change: set it to a commit (40 hex digits) to prepare the same documents again"
        for group, sources in groups
        for name, source in sources.items()
        if source.reader == "hub" and not is_local(source) and not COMMIT.fullmatch(source.hub.revision)
    ]


def differences(config: DataConfig, manifest: Manifest) -> list[str]:
    """Return a warning for every source, and for the tokenizer, whose files changed since they were prepared."""
    found: list[str] = []
    for group, sources in (("domains", config.domains), ("targets", config.targets)):
        for name, source in sources.items():
            known = _recorded(manifest, name)
            find = partial(source_files, source, f"data.{group}.{name}")
            found += _compared(f"'{name}'", known, find, in_place=source.reader in FORMATS)
    known = manifest.facts.get("tokenizer_inputs", [])
    return found + _compared("the tokenizer", known, partial(tokenizer_files, config))


def _recorded(manifest: Manifest, name: str) -> Sequence[Mapping[str, Any]]:
    """Return the files that a domain was prepared from, with their size and modification time."""
    entry = manifest.facts["domains"].get(name, {})
    if "external" not in entry:
        found: list[dict[str, Any]] = entry.get("inputs", [])
        return found
    inputs, root = read_inputs(manifest.folder / name), Path(entry["external"]["root"])
    columns = zip(inputs["path"], inputs["n_bytes"], inputs["mtime_ns"], strict=True)
    return [{"path": root / path, "n_bytes": n_bytes, "mtime_ns": time} for path, n_bytes, time in columns]


def _compared(
    what: str, inputs: Sequence[Mapping[str, Any]], find: Callable[[], list[Path]], in_place: bool = False
) -> list[str]:
    if not inputs:  # packages and synthetic domains, and manifests of earlier versions
        return []
    before = {str(e["path"]): (int(e["n_bytes"]), int(e["mtime_ns"])) for e in inputs}
    try:
        now = {e["path"]: (e["n_bytes"], e["mtime_ns"]) for e in fingerprints(find())}
    except (DataError, OSError) as error:
        if any(Path(path).exists() for path in before):
            return [f"warning: the files of {what} changed since they were prepared: {error}"]
        now = {}
    if not now:
        return [f"note: the files of {what} are not on this machine, so they were not compared with the prepared ones"]
    changes = file_changes(before, now)
    if not changes:
        return []
    state = "Runs read these files in place" if in_place else "The prepared data are unchanged"
    return [
        f"warning: the files of {what} changed since they were prepared: {'; '.join(changes)}. {state}; the same "
        "command with --again reads the files anew"
    ]


def file_changes(before: Mapping[str, Fingerprint], now: Mapping[str, Fingerprint]) -> list[str]:
    """Return a phrase for each kind of change: files that are new, gone, or changed in size or time.

    Parameters
    ----------
    before, now : path -> (size [bytes], modification time [ns])
    """
    both = [path for path in now if path in before]
    groups = {
        "new": [path for path in now if path not in before],
        "gone": [path for path in before if path not in now],
        "of another size": [path for path in both if now[path][0] != before[path][0]],
        "of the same size with another modification time (edited, or copied)": [
            path for path in both if now[path][0] == before[path][0] and now[path][1] != before[path][1]
        ],
    }
    return [f"{_counted(paths)} {what} ({_named(paths)})" for what, paths in groups.items() if paths]


def _counted(paths: Sequence[str]) -> str:
    return "1 file is" if len(paths) == 1 else f"{len(paths):,} files are"


def _named(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - MOST_NAMES:,} more" if len(paths) > MOST_NAMES else ""
    return ", ".join(sorted(paths)[:MOST_NAMES]) + more


def how_to_prepare(config: DataConfig) -> str:
    """Return the command that prepares a configuration, and a prepared folder that could be used instead.

    Folders that were moved, or prepared by a version that split targets, are found by their settings.
    """
    advice = f"run `python -m data.prepare data={config.name}`"
    if config.folder.exists():
        return advice
    split = replace(config, split_targets=True)
    if split.folder != config.folder and split.folder.exists():
        return f"{advice}, or set data.split_targets=true to continue with {split.folder}, where targets are split"
    for path in sorted(config.folder.parent.glob(f"{config.name}-*/manifest.json")):
        with suppress(OSError, ValueError, AttributeError):
            if json.loads(path.read_bytes()).get("settings") == config.settings:
                return (
                    f"{advice}; {path.parent} has the same settings with other paths: if the files are the same, "
                    f"rename it to {config.folder.name}"
                )
    return advice
