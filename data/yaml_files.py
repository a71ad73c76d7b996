"""What a configuration file may not hold, whoever wrote it: a few lines that unfold to gigabytes, or names of code."""

import re
from collections.abc import Iterable
from pathlib import Path

from mixlaw.errors import ConfigError

MAX_BYTES = 1 << 20
_ANCHOR = re.compile(
    rb"(?:^|[\s\[{,:-])&[^\s,\[\]{}]+", re.M
)  # YAML repeats what an anchor names wherever it is asked to
_TARGET = re.compile(rb"\b_target_\b")


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
