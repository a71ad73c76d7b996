"""Names and texts that YAML or Hydra's command line would read as numbers, true, false or null, and refused values."""

import dataclasses
import re
import typing
from collections.abc import Iterator
from typing import Any

from omegaconf import AnyNode, DictConfig, ListConfig, OmegaConf

from mixlaw.errors import ConfigError

_WHOLE = r"(?:0|[1-9](?:_?[0-9])*)"
_NO_NAME = re.compile(rf"null|true|false|-?(?:inf|nan)|-0|-?{_WHOLE}e[-+]?[0-9](?:_?[0-9])*|-?[1-9][0-9]*(?:_[0-9]+)+")
_HOME = re.compile(r"~[^'\"{}\[\],=]*")


def check_weight_name(name: str) -> None:
    """Refuse a domain name that Hydra would not read as text in `mixture.weights={name:0.5}`.

    Hydra reads null, true, nan, 1e3 and 1_000 as values. Integers (2019) are converted back to text.

    Raises
    ------
    ConfigError
        With the domain and what to do.
    """
    if is_no_name(name):
        raise ConfigError(
            f"domain name '{name}' cannot be given a weight: the command line reads {{{name}:0.5}} as a value, not as "
            f"a name: choose another name, for example 'd-{name}'"
        )


def is_no_name(text: str) -> bool:
    """Return whether Hydra's command line reads a word as a value from which the word cannot be recovered."""
    return bool(_NO_NAME.fullmatch(text.lower())) or text in ("~", "")


def yaml_term(value: Any) -> str:
    """Return the YAML term for a value that was meant as text."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"the number {value}"


def quoted_home(override: str) -> str:
    """Quote the value of an override that begins with ~, which Hydra's grammar does not allow unquoted."""
    key, equals, value = override.partition("=")
    return f'{key}="{value}"' if equals and _HOME.fullmatch(value) else override


def with_names_as_text(cfg: DictConfig, where: str = "") -> DictConfig:
    """Return a composed configuration with integer keys, as in {2019: 0.5}, converted to text.

    Raises
    ------
    ConfigError
        For a key that is null, true, false or a float: the written text cannot be recovered.
    """
    misread = list(_misread_names(cfg, where))
    for path, name in misread:
        if isinstance(name, bool) or not isinstance(name, int):
            raise ConfigError(
                f"{path}: a name is read as {yaml_term(name)}, not as text: quote it in a YAML file; choose another "
                "name on the command line"
            )
    if not misread:
        return cfg
    return OmegaConf.create(_renamed(OmegaConf.to_container(cfg, resolve=False)))


def _misread_names(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, DictConfig) and not (node._is_none() or node._is_missing() or node._is_interpolation()):
        for name in node:
            if not isinstance(name, str):
                yield path or "config", name
            yield from _misread_names(node._get_node(name), _below(path, name))
    elif isinstance(node, ListConfig) and not (node._is_none() or node._is_missing() or node._is_interpolation()):
        for i in range(len(node)):
            yield from _misread_names(node._get_node(i), f"{path}[{i}]")


def _below(path: str, name: Any) -> str:
    return f"{path}.{name}" if path else str(name)


def _renamed(node: Any) -> Any:
    if isinstance(node, dict):
        return {str(name): _renamed(value) for name, value in node.items()}
    return [_renamed(part) for part in node] if isinstance(node, list) else node


def refuse_misread_text(cls: type, cfg: Any, where: str) -> None:
    """Refuse a float, true or false as the value of a text setting: YAML reads 1.10 as 1.1 and no as false.

    Raises
    ------
    ConfigError
        For the first such setting.
    """
    if not isinstance(cfg, DictConfig) or cfg._is_none() or cfg._is_missing():
        return
    for f in dataclasses.fields(cls):
        node = cfg._get_node(f.name, validate_access=False)
        path = f"{where}.{f.name}" if where else f.name
        value = node._value() if isinstance(node, AnyNode) else None
        of_entries = typing.get_args(f.type)[1:]
        if dataclasses.is_dataclass(f.type):
            refuse_misread_text(f.type, node, path)  # type: ignore[arg-type]
        elif of_entries and dataclasses.is_dataclass(of_entries[0]) and isinstance(node, DictConfig):
            for name in node:
                refuse_misread_text(of_entries[0], node._get_node(name), _below(path, name))  # type: ignore[arg-type]
        elif f.type is str and isinstance(value, bool | float):
            raise ConfigError(
                f"{path}: must be text, but is read as {yaml_term(value)}: quote it in a YAML file, and twice on the "
                f"command line: '{path}=\"...\"'"
            )


def refused_value(message: str) -> str:
    """Return what is wrong with a setting, and what to write, from the first line of an error of OmegaConf."""
    if found := re.match(r"Interpolation key '(\w+)' not found", message):
        return f"{message}: write an environment variable as ${found[1]} or ${{oc.env:{found[1]}}}"
    if re.search(r"incompatible with type hint 'typing\.Dict", message):
        return "expected names with values, {NAME: VALUE, ...}"
    if message.endswith("is not Optional"):
        return "null is no value of it: give it one, or leave the setting out"
    return message
