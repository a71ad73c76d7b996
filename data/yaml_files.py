"""Checks of YAML files before they are composed: harmful content, and text that YAML reads as something else.

Hydra reads YAML 1.1, in which `no` is false, 2019 a number, 24:00:00 the number 86400 (base 60) and 010 the number 8.
A value that is meant as text must be quoted. Only the file shows what was written, so the check reads the file.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf._utils import get_yaml_loader

from data.misread import is_no_name, yaml_term
from mixlaw.errors import ConfigError

MAX_BYTES = 1 << 20
# A file without any of these has no anchor, no tag and no _target_, not even escaped, and need not be parsed.
_SIGNS = (b"&", b"!", b"\\", b"_target_")
_TARGET = re.compile(r"\b_target_\b")
_CORE_TAG = re.compile(r"!|tag:yaml\.org,2002:(?:str|int|float|bool|null|seq|map)")
_COMMENT = re.compile(rb"(?:^|\s)#.*$", re.M)
_SUSPECT = re.compile(  # lines that may contain a misread key or number; the parser decides
    rb"(?:^|[\s{,-])(?:no|yes|on|off|true|false|null|~|[-+.]?\d[\w.+-]*|[-+]?\.(?:inf|nan))\s*:(?:\s|$)"
    rb"|(?:^|[\s\[{,])[-+]?(?:\d[\d_]*:[0-5]?\d|0\d)",
    re.M | re.I,
)
_PARSER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # of libyaml, ten times as fast
_TEXT, _NUMBERS = "tag:yaml.org,2002:str", ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_OCTAL = re.compile(r"[-+]?0[0-7_]*[0-7]")


def check_yaml_files(folders: Iterable[Path]) -> None:
    """Refuse configuration files that could exhaust the memory or run code when they are composed.

    Raises
    ------
    ConfigError
        Naming the first file and line with an anchor, a tag or `_target_`, or a file of more than MAX_BYTES.
    """
    for folder in folders:
        for path in sorted(folder.rglob("*.yaml")):
            if path.stat().st_size > MAX_BYTES:
                raise ConfigError(f"{path} is larger than {MAX_BYTES:,} bytes; no configuration is")
            raw = path.read_bytes()
            if any(sign in raw for sign in _SIGNS):
                _check_events(raw, path)


def _check_events(raw: bytes, path: Path) -> None:
    """Check what the YAML parser reads, before anchors are expanded and tags are applied."""
    try:
        for event in yaml.parse(raw, Loader=get_yaml_loader()):
            _check_event(event, f"{path}, line {event.start_mark.line + 1},")
    except yaml.YAMLError:  # `check_syntax` reports it if the file is composed
        return


def _check_event(event: yaml.Event, place: str) -> None:
    if getattr(event, "anchor", None):  # an AliasEvent has one too
        raise ConfigError(f"{place} uses a YAML anchor (&name): write the value out where it is needed")
    tag = getattr(event, "tag", None)
    if tag and not _CORE_TAG.fullmatch(tag):
        raise ConfigError(f"{place} uses the YAML tag {tag}: only plain values are allowed")
    if isinstance(event, yaml.ScalarEvent) and _TARGET.search(event.value):
        raise ConfigError(f"{place} holds _target_, which names code to run: no configuration here does")


def check_syntax(raw: bytes, path: Path) -> None:
    """Refuse a file that is not YAML.

    Raises
    ------
    ConfigError
        With the line and what the parser says.
    """
    try:
        for _ in yaml.parse(raw, Loader=_PARSER):
            pass
    except yaml.YAMLError as error:
        raise _not_yaml(path, error) from None


def _not_yaml(path: Path, error: yaml.YAMLError) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    line = f", line {mark.line + 1}" if mark else ""
    return ConfigError(f"{path}{line}: it is not YAML: {getattr(error, 'problem', None) or error}")


def check_scalars(raw: bytes, path: Path) -> None:
    """Refuse keys that YAML does not read as text, and numbers that it reads in base 60 or 8.

    Raises
    ------
    ConfigError
        With the line, the written text, how YAML reads it, and what to do.
    """
    if not _SUSPECT.search(_COMMENT.sub(b"", raw)):
        return
    try:
        document = yaml.compose(raw, Loader=get_yaml_loader())
    except yaml.YAMLError as error:  # the parser of `check_syntax` differs in details
        raise _not_yaml(path, error) from None
    for node, is_name in _scalars(document):
        value, place = node.value, f"{path}, line {node.start_mark.line + 1}"
        if is_name and node.tag != _TEXT:
            remedy = "" if is_no_name(value) else f"put it in quotes, '{value}':, or "
            read = f"reads the name {value} as {yaml_term(_constructed(node))}, not as text"
            raise ConfigError(f"{place}: YAML {read}: {remedy}choose another name")
        if node.tag in _NUMBERS and not is_name and (":" in value or _OCTAL.fullmatch(value)):
            base = 60 if ":" in value else 8
            raise ConfigError(
                f"{place}: YAML reads {value} as the number {_constructed(node)} (base {base}): put it in quotes, "
                f'"{value}", or write the number in base 10'
            )


def _constructed(node: yaml.ScalarNode) -> Any:
    return yaml.load(node.value, Loader=get_yaml_loader())  # a subclass of yaml.SafeLoader


def _scalars(node: yaml.Node | None) -> Iterator[tuple[yaml.ScalarNode, bool]]:
    """Yield every scalar of a document, and whether it is a key."""
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
