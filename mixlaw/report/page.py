"""A self-contained HTML page: no network, no other file; its scripts stand inside."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from mixlaw.report.templating import render
from mixlaw.version import __version__


@dataclass(frozen=True)
class Section:
    """A part of a page: a heading that links can target, and HTML."""

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
    """The content of one HTML file.

    Attributes
    ----------
    title : its heading
    sections : its parts; a page of three or more has links to them at the top
    notes : sentences at the top, commands between backticks
    unfinished : a sentence at the top about runs that are not done, with a link to the study section
    answer : the recommendation in a few lines, as `answer_box` returns it
    remark : a sentence at the end
    scripts : script elements, without which the page can be read, too
    """

    title: str
    sections: Sequence[Section]
    notes: Sequence[str] = ()
    unfinished: str = ""
    answer: Markup | str = ""
    remark: str = ""
    scripts: Markup | str = ""

    def write(self, out: Path) -> None:
        """Write the file, with a non-breaking space before every percent sign."""
        text = render("page", page=self, version=__version__).replace(" %", "\N{NO-BREAK SPACE}%")
        out.write_text(f"{text}{self.scripts}\n</body></html>\n", encoding="utf-8")
