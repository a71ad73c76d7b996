"""Which files of configuration a command line composes: the main one, its defaults, the overrides and theirs."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import yaml

from data.yaml_files import check_scalars

_DEFAULTS = re.compile(r"^defaults:[^\n]*\n((?:[ \t]*(?:-|#)[^\n]*\n?|[ \t]+[^\n]*\n?|\s*\n)*)", re.M)
_CHOICE = re.compile(r"[+]?([a-z_/]+)(?:@[^=]*)?=(.+)", re.S)


def check_chosen_files(folders: Sequence[Path], main: str, overrides: Iterable[str]) -> None:
    """Refuse what YAML reads otherwise than written, in the files that are composed, and in no others.

    Parameters
    ----------
    folders : that configurations come from, the first that has a file wins
    main : the name of the main configuration

    Raises
    ------
    ConfigError
        As `check_scalars`.
    """
    for path in chosen_files(folders, main, overrides):
        check_scalars(path.read_bytes(), path)


def chosen_files(folders: Sequence[Path], main: str, overrides: Iterable[str]) -> list[Path]:
    """Return the files that a composition reads; also those of defaults that something else overrides."""
    waiting = [("", main), *(choice for override in overrides for choice in _choices(override))]
    found: dict[Path, None] = {}
    while waiting:
        group, name = waiting.pop()
        paths = (folder / group / f"{name}.yaml" for folder in folders)
        path = next((path for path in paths if path.is_file()), None)
        if path is not None and path not in found:
            found[path] = None
            waiting += _defaults_of(path, group)
    return list(found)


def _choices(override: str) -> Iterator[tuple[str, str]]:
    """Yield (group, file) for what an override chooses, each of them where it sweeps."""
    if match := _CHOICE.fullmatch(override):
        for name in re.findall(r"[\w./-]+", match[2]):
            yield match[1].strip("/"), name.removesuffix(".yaml")


def _defaults_of(path: Path, group: str) -> Iterator[tuple[str, str]]:
    """Yield (group, file) for the defaults of a file; those that begin with / count from the top."""
    match = _DEFAULTS.search(path.read_text(encoding="utf-8", errors="replace"))
    try:
        entries = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:  # said by whoever composes this file
        entries = None
    for entry in entries if isinstance(entries, list) else []:
        pairs = entry.items() if isinstance(entry, dict) else [("", entry)]
        for key, names in pairs:
            where = re.sub(r"@.*", "", str(key).split(" ")[-1])
            place = where.strip("/") if where.startswith("/") or not group else f"{group}/{where}".strip("/")
            for name in names if isinstance(names, list) else [names]:
                yield place, str(name).removesuffix(".yaml").lstrip("/")
