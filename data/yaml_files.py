"""What a configuration file may not hold: lines that unfold to gigabytes, names of code, and text that YAML misreads.

YAML 1.1, which Hydra reads, takes `no` for false, 2019 for a number, 24:00:00 for 86400 (base 60) and 010 for 8. Where
text is meant such a value must stand in quotes; the file's own words are known here only, so it is refused here.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

from data.misread import is_no_name, yaml_words
from mixlaw.errors import ConfigError

MAX_BYTES = 1 << 20
_ANCHOR = re.compile(
    rb"(?:^|[\s\[{,:-])&[^\s,\[\]{}]+", re.M
)  # YAML repeats what an anchor names wherever it is asked to
_TARGET = re.compile(rb"\b_target_\b")
_COMMENT = re.compile(rb"(?:^|\s)#.*$", re.M)
_SUSPECT = re.compile(  # lines that may hold a misread name or number; the parser decides
    rb"(?:^|[\s{,-])(?:no|yes|on|off|true|false|null|~|[-+.]?\d[\w.+-]*|[-+]?\.(?:inf|nan))\s*:(?:\s|$)"
    rb"|(?:^|[\s\[{,])[-+]?(?:\d[\d_]*:[0-5]?\d|0\d)",
    re.M | re.I,
)
_TEXT, _NUMBERS = "tag:yaml.org,2002:str", ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_OCTAL = re.compile(r"[-+]?0[0-7_]*[0-7]")


def check_yaml_files(folders: Iterable[Path]) -> None:
    """Refuse files of configuration that could harm whoever composes them.

    Raises
    ------
    ConfigError
        Naming the first file with an anchor, a `_target_`, or more than a megabyte.
    """
    for folder in folders:
        for path in sorted(folder.rglob("*.yaml")):
            raw = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
            if raw is None:
                raise ConfigError(f"{path} is larger than {MAX_BYTES:,} bytes; no configuration is")
            lines = b"\n".join(line for line in raw.split(b"\n") if not line.lstrip().startswith(b"#"))
            if _ANCHOR.search(lines):
                raise ConfigError(f"{path} uses a YAML anchor (&name): write the value out where it is needed")
            if _TARGET.search(lines):
                raise ConfigError(f"{path} holds _target_, which names code to run: no configuration here does")


def check_scalars(raw: bytes, path: Path) -> None:
    """Refuse names that YAML does not read as text, and numbers that it reads in base 60 or 8.

    Raises
    ------
    ConfigError
        Naming the line, what is written there, what YAML makes of it, and the remedy.
    """
    if not _SUSPECT.search(_COMMENT.sub(b"", raw)):
        return
    try:
        document = yaml.compose(raw, Loader=get_yaml_loader())
    except yaml.YAMLError:  # said by whoever composes this file
        return
    for node, is_name in _scalars(document):
        value, place = node.value, f"{path}, line {node.start_mark.line + 1}"
        if is_name and node.tag != _TEXT:
            remedy = "" if is_no_name(value) else f"put it in quotes, '{value}':, or "
            read = f"reads the name {value} as {yaml_words(_constructed(node))}, not as text"
            raise ConfigError(f"{place}: YAML {read}: {remedy}choose another name")
        if node.tag in _NUMBERS and not is_name and (":" in value or _OCTAL.fullmatch(value)):
            base = 60 if ":" in value else 8
            raise ConfigError(
                f"{place}: YAML reads {value} as the number {_constructed(node)} (base {base}): put it in quotes, "
                f'"{value}", or write the number that is meant'
            )


def _constructed(node: yaml.ScalarNode) -> Any:
    return yaml.load(node.value, Loader=get_yaml_loader())  # OmegaConf's loader makes plain values only


def _scalars(node: yaml.Node | None) -> Iterator[tuple[yaml.ScalarNode, bool]]:
    """Yield every scalar of a document, and whether it is the name of an entry."""
    if isinstance(node, yaml.ScalarNode):
        yield node, False
    elif isinstance(node, yaml.SequenceNode):
        for part in node.value:
            yield from _scalars(part)
    elif isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if isinstance(name, yaml.ScalarNode):
                yield name, True
            yield from _scalars(value)
