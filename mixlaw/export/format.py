"""`Format`: how one trainer reads a blend; and the comments at the top of its file."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from mixlaw.export.blend import Blend
from mixlaw.phased_mixture import PhasedMixture
from mixlaw.text import text_table


@dataclass(frozen=True)
class Format:
    """The file of one trainer.

    Attributes
    ----------
    name : value of `--to`
    reader : what reads the file
    samples : whether the trainer draws samples (documents, examples) instead of sequences of equal length
    write : returns the file, without comments
    digits : of weights
    comments : whether lines of the file may begin with #
    next_phase : how the trainer goes on with the file of the next phase
    write_phases : returns the file of all phases, without comments; None if the trainer takes one mixture at a time
    """

    name: str
    reader: str
    samples: bool
    write: Callable[[Blend], str]
    digits: int = 6
    comments: bool = True
    next_phase: str = "stop at the end of a phase, and resume from its checkpoint with the file of the next one"
    write_phases: Callable[[PhasedMixture], str] | None = None

    def text(self, blend: Blend, about: str, phases: PhasedMixture | None = None) -> str:
        """Return the file of a blend.

        Parameters
        ----------
        about : where the mixture comes from, for the comments at the top
        phases : what the file holds instead of the blend, which is then that of the whole run
        """
        body = self.write_phases(phases) if phases and self.write_phases else self.write(blend)
        return f"{self.head(blend, about)}\n{body}" if self.comments else body

    def head(self, blend: Blend, about: str) -> str:
        """Return comment lines: origin, reader, notes, and per domain its shares of tokens and samples, and epochs."""
        lines = [about, f"For {self.reader}.", *blend.notes, *text_table(_table(blend), decimals=4).splitlines()]
        return "\n".join(f"# {printable(line)}" for line in lines)


def _table(blend: Blend) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "domain": [printable(d.name) for d in blend.domains],
            "tokens": [d.weight for d in blend.domains],
            "samples": [d.share for d in blend.domains],
            "epochs": pd.Series([d.epochs for d in blend.domains], dtype=float),
        }
    )
    same = all(d.share == d.weight for d in blend.domains)
    unknown = all(d.epochs is None for d in blend.domains)
    return frame.drop(columns=["samples"] * same + ["epochs"] * unknown)


def printable(text: str) -> str:
    r"""Return text in one line: control characters, which could end a comment, are escaped.

    >>> printable("a\nb")
    'a\\nb'
    """
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
