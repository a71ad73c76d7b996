"""Sizes of the pieces that a corpus is divided into; they bound the memory of a process and change no result."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Sizes:
    """Sizes of pieces.

    Attributes
    ----------
    part : of the files that one task reads [bytes]
    batch : of the clean documents that are sorted in memory at once [bytes]
    bucket : of the clean documents that one task tokenises [bytes]
    records : documents whose hashes are compared at once; sorting them takes about 1 GB
    small : a corpus of smaller files is prepared without worker processes [bytes]
    """

    part: int = 64 << 20
    batch: int = 192 << 20
    bucket: int = 192 << 20
    records: int = 1 << 22
    small: int = 64 << 20


SIZES = Sizes()
