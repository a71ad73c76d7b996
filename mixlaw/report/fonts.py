"""Fonts for names in any script: the installed ones, and a sentence about characters that none of them has."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib import font_manager

FIRST = "DejaVu Sans"  # comes with matplotlib
OTHERS = (
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR", "Source Han Sans SC"),
    *("WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Microsoft YaHei", "PingFang SC"),
    *("Arial Unicode MS", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", "Unifont"),
)
MISSING = re.compile(r"Glyph (\d+) .*missing from")
MOST_SHOWN = 10  # characters in the sentence


@contextmanager
def any_script() -> Iterator[list[str]]:
    """Draw with all installed fallback fonts, and report the characters that no font has.

    Yields
    ------
    A list; when the block ends, it holds one sentence if characters were missing.
    """
    have = {font.name for font in font_manager.fontManager.ttflist}
    said: list[str] = []
    with matplotlib.rc_context({"font.family": [FIRST, *(name for name in OTHERS if name in have)]}):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield said
        missing = dict.fromkeys(chr(int(m[1])) for w in caught if (m := MISSING.search(str(w.message))))
    for warning in caught:
        if not MISSING.search(str(warning.message)):
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
    if missing:
        shown = "".join(missing)[:MOST_SHOWN]
        said.append(f"no font on this machine has {shown}: figures show boxes instead; install one such as {OTHERS[0]}")
