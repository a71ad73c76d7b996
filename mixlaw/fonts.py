"""Fonts for names in any script: figures take those of this machine that have the characters, or say that none has."""

import logging
from functools import cache
from typing import Any

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

PLACEHOLDERS = ("last resort", "lastresort", "adobe blank", "adobe notdef")  # fonts that have boxes for everything
MISSING = r"Glyph \d+ .*missing from|Matplotlib currently does not support .* natively"  # matplotlib's own words
Characters = frozenset[int]
_LOG = logging.getLogger(__name__)
_told = False


def choose_fonts(figure: Figure) -> Characters:
    """Give texts the fonts that their characters need, after their own; return the characters that no font has."""
    texts: list[Any] = [text for text in figure.findobj(Text) if not text.get_text().isascii()]  # type: ignore[attr-defined]
    everything = "".join(text.get_text() for text in texts)
    families, missing = fonts_for(frozenset(ord(c) for c in everything if c.isprintable() and not c.isspace()))
    for text in texts:
        own = text.get_fontfamily()
        text.set_fontfamily([*own, *(family for family in families if family not in own)])
    return missing


def fonts_for(characters: Characters) -> tuple[tuple[str, ...], Characters]:
    """Return the families that characters need besides the usual one, and the characters that no font here has."""
    usual = font_manager.findfont(font_manager.FontProperties())
    missing = characters - _has(usual)
    return _search(missing, len(font_manager.fontManager.ttflist)) if missing else ((), frozenset())


@cache
def _search(missing: Characters, known_fonts: int) -> tuple[tuple[str, ...], Characters]:
    """Return the fewest families, greedily, for what is missing, and what is missing still.

    `known_fonts` is their number, so that a font that was added is looked at.
    """
    families: list[str] = []
    upright = [f for f in font_manager.fontManager.ttflist if f.style == "normal" and f.weight in (400, "normal")]
    fonts = [f for f in upright if not f.name.lower().startswith(PLACEHOLDERS)]
    while missing and fonts:
        best = max(fonts, key=lambda font: len(missing & _has(font.fname)))
        if not missing & _has(best.fname):
            break
        families.append(best.name)
        missing -= _has(best.fname)
    return tuple(families), missing


@cache
def _has(path: str) -> Characters:
    """Return which characters a font file has; none where it cannot be read."""
    try:
        return frozenset(FT2Font(path).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


def tell(missing: Characters) -> None:
    """Say once that figures show boxes."""
    global _told
    if not _told:
        some = " ".join(chr(c) for c in sorted(missing)[:5])
        more = ", ..." if len(missing) > 5 else ""
        _LOG.warning(
            "warning: no font on this machine has the characters %s%s of some names: figures show boxes in their place;"
            " install a font that has them, such as Noto Sans CJK",
            some, more,
        )  # fmt: skip
    _told = True
