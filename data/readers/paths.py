"""Finds the files of a path: a file, a folder with everything below it, or a glob pattern.

Symbolic links to folders are followed, and each real folder is read once, so that cycles of links end. Names with a
leading dot (`.ipynb_checkpoints`) are skipped, suffixes match in any case, and skipped files are reported.
"""

import os
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from data.config import SourceConfig
from mixlaw.errors import DataError
from mixlaw.paths import expand_path

JSON_LINES = tuple(f"{kind}{packing}" for kind in (".jsonl", ".json", ".ndjson") for packing in ("", ".gz", ".zst"))
SUFFIXES = {  # of the files that each reader reads in a folder
    "text": (".txt", ".md", ".markdown"),
    "jsonl": JSON_LINES,
    "tasks": JSON_LINES,
    "csv": (".csv", ".csv.gz", ".csv.zst"),
    "parquet": (".parquet",),
    "webdataset": (".tar",),
    "tokens": (".bin",),
    "megatron": (".bin",),
    "datatrove": (".ds",),
    "nanotron": (".ds",),
    "olmo": (".npy",),
    "mds": (".mds",),
}
COMPANIONS = {  # files that are read together with those above, or by their tools only
    "megatron": (".idx",),
    "datatrove": (".ds.index", ".ds.metadata"),
    "nanotron": (".ds.index", ".ds.metadata"),
    "olmo": (".csv.gz",),
    "mds": ("index.json",),
}
PACKINGS = (".gz", ".zst", ".zstd", ".bz2", ".xz", ".zip")  # counted together with the suffix before them
MOST_SUFFIXES = 6  # kinds of skipped files that a note lists
FEW_FILES, BIG_FILE = 20, 1 << 20  # few files of this mean size [bytes] probably hold many documents each
_MAGIC = re.compile(r"[*?[]")
Echo = Callable[[str], None]


@dataclass
class _Found:
    """The files of a path, and counts of skipped ones by kind."""

    suffixes: tuple[str, ...]
    companions: tuple[str, ...] = ()
    files: set[Path] = field(default_factory=set)
    skipped: Counter[str] = field(default_factory=Counter)  # kind -> number
    folders: set[str] = field(default_factory=set)  # real paths of the folders that were read

    def takes(self, name: str) -> bool:
        return name.lower().endswith(self.suffixes)

    def add(self, path: Path) -> None:
        """Add a file; refuse a broken link, a device, or an empty folder with the name of a file."""
        if path.is_file():
            self.files.add(path.resolve())
        elif not path.is_dir() or (self.takes(path.name) and not any(path.iterdir())):
            raise DataError(f"{path}: is not a file (a broken link, an empty folder or a device): repair or remove it")

    def skip(self, kind: str) -> None:
        self.skipped[kind] += 1


def find_files(source: SourceConfig, where: str, echo: Echo | None = None) -> list[Path]:
    """Return the files of `source.path` (a file, a folder or a glob): sorted, with links resolved.

    Parameters
    ----------
    where : the setting, for messages
    echo : receives a note on files in a folder that are not read

    Raises
    ------
    DataError
        If there are none, or one is a broken link or has control characters in its name.
    """
    path = Path(expand_path(source.path, f"{where}.path"))
    if source.reader == "megatron" and not path.exists() and (prefixed := Path(f"{path}.bin")).is_file():
        path = prefixed  # Megatron names corpora without the suffix
    if path.is_file():
        return [path.resolve()]
    found = _Found(SUFFIXES[source.reader], COMPANIONS.get(source.reader, ()))
    try:
        if path.is_dir():
            _walk(path, found)
            missing = f"{where}.path: the folder {path} holds no file that ends in {' or '.join(found.suffixes)}"
        else:
            _match(Path(path.anchor), path.parts[bool(path.anchor) :], found)
            missing = f"{where}.path: {path} is neither a file nor a folder, and matches no file as a pattern"
    except OSError as error:
        raise DataError(f"{where}.path: {error.filename or path}: cannot be read: {error.strerror or error}") from None
    if not found.files:
        raise DataError(f"{missing}{_skipped_counts(found, '; there are ')} (looked from {Path.cwd()})")
    for file in found.files:
        if not str(file).isprintable():
            raise DataError(f"{str(file)!r} has a name with control characters: rename it")
    if echo and found.skipped:
        files = f"{len(found.files):,} files of {path} are" if len(found.files) > 1 else f"1 file of {path} is"
        echo(f"{where}.path: {files} read{_skipped_counts(found, '; not read: ')}")
    return sorted(found.files)


def _skipped_counts(found: _Found, before: str) -> str:
    counts = [f"{n:,} {kind}" for kind, n in found.skipped.most_common(MOST_SUFFIXES)]
    more = sum(found.skipped.values()) - sum(n for _, n in found.skipped.most_common(MOST_SUFFIXES))
    return before + ", ".join([*counts, *([f"{more:,} others"] if more else [])]) if counts else ""


def _walk(folder: Path, found: _Found, above: tuple[str, ...] = ()) -> None:
    """Add all files below a folder that the reader reads; `above` are the real paths of the folders above it."""
    real = os.path.realpath(folder)
    if real in found.folders or _is_above(real, above):
        found.skip("links to folders that were read already or are above")
        return
    found.folders.add(real)
    for entry in _listed(folder):
        path = folder / entry.name
        if entry.name.startswith("."):
            found.skip("hidden folders" if entry.is_dir() else "hidden files")
        elif entry.is_dir() and not (found.takes(entry.name) and not any(path.iterdir())):
            _walk(path, found, (*above, real))
        elif found.takes(entry.name) or (entry.is_symlink() and not path.exists() and not path.suffix):
            found.add(path)
        elif not entry.name.lower().endswith(found.companions):
            found.skip(_kind(entry.name))


def _match(folder: Path, parts: tuple[str, ...], found: _Found, above: tuple[str, ...] = ()) -> None:
    """Add the files below a folder that match a pattern; `**` matches any number of folders, including none."""
    part, rest = parts[0], parts[1:]
    if part == "**":
        real = os.path.realpath(folder)
        if _is_above(real, above):
            return
        if rest:
            _match(folder, rest, found, above)
        for entry in _listed(folder):
            if entry.is_dir() and not entry.name.startswith("."):
                _match(folder / entry.name, parts, found, (*above, real))
            elif not rest and not entry.name.startswith("."):
                found.add(folder / entry.name)
    elif not _MAGIC.search(part):
        if rest and (folder / part).is_dir():
            _match(folder / part, rest, found, above)
        elif not rest and os.path.lexists(folder / part):
            found.add(folder / part)
    else:
        for entry in _listed(folder):
            if not _fits(entry.name, part) or (entry.name.startswith(".") and not part.startswith(".")):
                continue
            if not rest:
                found.add(folder / entry.name)
            elif entry.is_dir():
                _match(folder / entry.name, rest, found, above)


def _is_above(real: str, above: tuple[str, ...]) -> bool:
    return any(folder == real or folder.startswith(real.rstrip("/") + "/") for folder in above)


def _listed(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder or ".") as listed:
        return sorted(listed, key=lambda entry: entry.name)


def _fits(name: str, pattern: str) -> bool:
    """Return whether a name matches a pattern; a suffix at the end of the pattern matches in any case."""
    end = max(pattern.rfind(letter) for letter in "*?]") + 1
    tail = pattern[end:]
    if not tail.startswith("."):
        return fnmatchcase(name, pattern)
    return name.lower().endswith(tail.lower()) and fnmatchcase(name[: -len(tail)], pattern[:end])


def _kind(name: str) -> str:
    """Return the kind under which a skipped file is counted: its suffix in lower case, as in `.json.gz files`."""
    stem, suffix = os.path.splitext(name.lower())
    inner = os.path.splitext(stem)[1] if suffix in PACKINGS else ""
    return f"{inner}{suffix} files" if suffix else "files without a suffix"


def hint_of_big_texts(source: SourceConfig, files: list[Path]) -> str:
    """Return a hint if a corpus is a few large text files, each of which would be one document; else ''."""
    if source.reader != "text" or not files or len(files) > FEW_FILES:
        return ""
    n_bytes = sum(file.stat().st_size for file in files)
    if n_bytes < BIG_FILE * len(files):
        return ""
    split = "awk -v RS= '{f = sprintf(\"part-%06d.txt\", NR); print > f; close(f)}' FILE"
    return (
        f"the reader 'text' reads each file as one document, and there are {len(files)} of {n_bytes / 1e6:.1f} MB: "
        f"if they hold many documents, split them, for example at blank lines: {split}"
    )
