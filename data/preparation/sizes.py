"""Sizes of the pieces that a corpus is divided into; they bound the memory of a process and change no result."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Sizes in bytes.

    Attributes
    ----------
    part : files that one task reads
    batch : clean documents that are sorted in memory at once
    bucket : clean documents that one task tokenises
    small : a corpus of smaller files is prepared without worker processes
    """

    part: int = 64 << 20
    batch: int = 192 << 20
    bucket: int = 192 << 20
    small: int = 64 << 20


SIZES = Sizes()
