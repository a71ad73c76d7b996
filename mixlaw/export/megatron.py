"""Megatron-LM: the file of `--data-args-path`, a list of weights and prefixes of indexed datasets.

Megatron packs every dataset into sequences of equal length and blends sequences, so weights are shares of tokens. It
splits the file at blanks, and asserts that every weight is above 0. A run changes its blend at the iterations of
`--phase-transition-iterations`: it saves a checkpoint and exits there, is started again with the next file, and counts
the samples of that from 0 (Megatron-LM, `megatron/training/training.py`, release 0.18).
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


MEGATRON = Format(
    "megatron",
    "Megatron-LM: --data-args-path FILE",
    False,
    write,
    comments=False,
    next_phase="name the last iteration of every phase but the last in --phase-transition-iterations: Megatron-LM "
    "saves and exits there; start it again with the file of the next phase",
)
