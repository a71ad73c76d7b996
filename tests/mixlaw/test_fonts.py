"""Fonts: a font that has the characters is found and used; where there is none, one sentence says so."""

import logging
import warnings

import pytest
from matplotlib import font_manager
from matplotlib.figure import Figure

from mixlaw import fonts
from mixlaw.figures import NamedFigure
from mixlaw.fonts import choose_fonts, fonts_for

NOWHERE = "\U000f1234"  # of the private planes: no font of a system has it


@pytest.fixture
def font_with(tmp_path):
    """Return a function that installs a font for this process which has some characters and Latin letters."""
    added = []

    def install(family: str, characters: str) -> str:
        from fontTools.fontBuilder import FontBuilder
        from fontTools.pens.ttGlyphPen import TTGlyphPen

        pen = TTGlyphPen(None)
        pen.moveTo((100, 0))
        for corner in ((100, 700), (600, 700), (600, 0)):
            pen.lineTo(corner)
        pen.closePath()
        box, glyphs = pen.glyph(), [".notdef", *(f"u{ord(c):x}" for c in characters)]
        builder = FontBuilder(1000, isTTF=True)
        builder.setupGlyphOrder(glyphs)
        builder.setupCharacterMap({ord(c): f"u{ord(c):x}" for c in characters})
        builder.setupGlyf(dict.fromkeys(glyphs, box))
        builder.setupHorizontalMetrics(dict.fromkeys(glyphs, (700, 100)))
        builder.setupHorizontalHeader(ascent=800, descent=-200)
        builder.setupNameTable({"familyName": family, "styleName": "Regular"})
        builder.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
        builder.setupPost()
        builder.save(tmp_path / f"{family}.ttf")
        font_manager.fontManager.addfont(str(tmp_path / f"{family}.ttf"))
        added.append(family)
        return family

    yield install
    font_manager.fontManager.ttflist = [f for f in font_manager.fontManager.ttflist if f.name not in added]
    font_manager.findfont.cache_clear() if hasattr(font_manager.findfont, "cache_clear") else None
    fonts._search.cache_clear()


@pytest.fixture
def untold(monkeypatch):
    monkeypatch.setattr(fonts, "_told", False)


def drawn(text: str) -> NamedFigure:
    """Return a figure with this text as title, tick label and legend."""
    figure = NamedFigure(layout="constrained")
    ax = figure.subplots()
    ax.plot([0, 1], [0, 1], label=text)
    ax.set_yticks([0, 1], ["plain", text])
    ax.set_title(text)
    ax.legend()
    return figure


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_a_font_that_has_the_characters_is_used_after_the_usual_one(font_with, tmp_path, untold, caplog, kind):
    family = font_with("Test Planes", NOWHERE)
    figure = drawn(f"web {NOWHERE}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(tmp_path / f"f.{kind}")
    for text in (figure.axes[0].title, figure.axes[0].get_yticklabels()[1], figure.axes[0].get_legend().texts[0]):
        assert text.get_fontfamily()[-1] == family
    assert figure.axes[0].get_yticklabels()[0].get_fontfamily() == ["sans-serif"]
    assert not caplog.records


def test_as_few_fonts_are_taken_as_have_all_the_characters(font_with):
    one, two, three = "\U000f1235", "\U000f1236", "\U000f1237"
    font_with("Test Small", one)
    big, last = font_with("Test Big", one + two), font_with("Test Other", three)
    families, missing = fonts_for(frozenset(map(ord, one + two + three + NOWHERE + "aé")))
    assert set(families) == {big, last}
    assert missing == {ord(NOWHERE)}


def test_what_no_font_has_is_one_sentence_for_all_figures_and_no_warning(tmp_path, untold, caplog):
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        for _ in range(3):
            drawn(f"web {NOWHERE}").savefig(tmp_path / "f.png")
    (record,) = caplog.records
    assert f"no font on this machine has the characters {NOWHERE} of some names" in record.getMessage()


def test_latin_names_search_no_font(monkeypatch):
    figure = drawn("plain é")
    assert choose_fonts(figure) == frozenset()
    assert figure.axes[0].title.get_fontfamily() == ["sans-serif"]
    assert isinstance(figure, Figure)
