"""A page of HTML that needs nothing else: no network, no script, no other file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

import mixlaw
from mixlaw.report.templating import render


@dataclass(frozen=True)
class Section:
    """A part of a page with a heading that links can name."""

    title: str
    body: Markup

    @property
    def anchor(self) -> str:
        """What the heading is called in a link.

        >>> Section("What to run next?", Markup()).anchor
        'what-to-run-next'
        """
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Page:
    """What one HTML file shows, from top to bottom.

    Attributes
    ----------
    title : its heading
    sections : its parts; from three on, links to them stand on top
    notes : sentences on top, commands between backticks
    unfinished : a sentence on top about runs that are not done; it links to the study's section
    answer : the recommendation in a few lines, as `answer_box` returns it
    remark : a sentence at the end
    """

    title: str
    sections: Sequence[Section]
    notes: Sequence[str] = ()
    unfinished: str = ""
    answer: Markup | str = ""
    remark: str = ""

    def write(self, out: Path) -> None:
        """Write the file; no line of it breaks between a number and its percent sign."""
        text = render("page", page=self, version=mixlaw.__version__)
        out.write_text(text.replace(" %", "\N{NO-BREAK SPACE}%"), encoding="utf-8")
