"""Megatron-LM: the file of `--data-args-path`, a list of weights and prefixes of indexed datasets.

Megatron packs every dataset into sequences of equal length and blends sequences, so weights are shares of tokens. It
splits the file at blanks, and asserts that every weight is above 0.
"""

from mixlaw.errors import ConfigError
from mixlaw.export.blend import Blend
from mixlaw.export.format import Format


def write(blend: Blend) -> str:
    """Return one line per domain: its weight and the prefix of its .bin and .idx files.

    Raises
    ------
    ConfigError
        If a path holds a blank.
    """
    for d in blend.domains:
        if len(d.path.split()) != 1 or d.path != d.path.strip():
            raise ConfigError(
                f"path '{d.path}' of '{d.name}' has a blank, at which Megatron splits: use --to nemo, or --paths"
            )
    return "".join(f"{d.weight:.6f} {d.path}\n" for d in blend.domains)


MEGATRON = Format("megatron", "Megatron-LM: --data-args-path FILE", False, write, comments=False)
