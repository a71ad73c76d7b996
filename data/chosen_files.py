"""Finds the configuration files that a command line composes: the main file, its defaults, and the overrides."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import yaml

from data.yaml_files import check_scalars, check_syntax

_DEFAULTS = re.compile(r"^defaults:[^\n]*\n((?:[ \t]*(?:-|#)[^\n]*\n?|[ \t]+[^\n]*\n?|\s*\n)*)", re.M)
_CHOICE = re.compile(r"[+]?([a-z_/]+)(?:@[^=]*)?=(.+)", re.S)


def check_chosen_files(folders: Sequence[Path], main: str, overrides: Iterable[str]) -> None:
    """Check syntax and scalars of the files that are composed, and of no others.

    Parameters
    ----------
    folders : search path of configurations; the first folder that has a file wins
    main : name of the main configuration

    Raises
    ------
    ConfigError
        See `check_syntax` and `check_scalars`.
    """
    for path in chosen_files(folders, main, overrides):
        raw = path.read_bytes()
        check_syntax(raw, path)
        check_scalars(raw, path)


def chosen_files(folders: Sequence[Path], main: str, overrides: Iterable[str]) -> list[Path]:
    """Return the files of a composition, including defaults that an override replaces."""
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
    """Yield (group, file) of an override of a group, once per value of a sweep."""
    if match := _CHOICE.fullmatch(override):
        for name in re.findall(r"[\w./-]+", match[2]):
            yield match[1].strip("/"), name.removesuffix(".yaml")


def _defaults_of(path: Path, group: str) -> Iterator[tuple[str, str]]:
    """Yield (group, file) of the defaults list of a file; entries with a leading / are absolute."""
    match = _DEFAULTS.search(path.read_text(encoding="utf-8", errors="replace"))
    try:
        entries = yaml.safe_load(match[1]) if match else None
    except yaml.YAMLError:  # `check_syntax` reports it
        entries = None
    for entry in entries if isinstance(entries, list) else []:
        pairs = entry.items() if isinstance(entry, dict) else [("", entry)]
        for key, names in pairs:
            where = re.sub(r"@.*", "", str(key).split(" ")[-1])
            place = where.strip("/") if where.startswith("/") or not group else f"{group}/{where}".strip("/")
            for name in names if isinstance(names, list) else [names]:
                yield place, str(name).removesuffix(".yaml").lstrip("/")
