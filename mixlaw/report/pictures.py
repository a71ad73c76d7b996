"""Figures and image files as data URIs, so that a page needs no other file."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mixlaw.errors import ConfigError

WIDE = 7.5  # figures of more inches take a whole row
LIGHT = 60_000  # bytes of an SVG; a heavier figure becomes a PNG where that is smaller


@dataclass(frozen=True)
class Picture:
    """An image of a page.

    Attributes
    ----------
    src : a data URI
    title : the alternative text
    wide : whether it takes a whole row of the page
    """

    src: str
    title: str
    wide: bool


def figure_of(ax: Axes) -> Figure:
    """Return the figure that Axes are in."""
    return cast(Figure, ax.figure)


def drawn(ax: Axes) -> Picture:
    """Return a figure as SVG, or as PNG where that is much smaller."""
    figure, buffer = figure_of(ax), io.BytesIO()
    figure.savefig(buffer, format="svg", dpi=110, metadata={"Date": None})
    raw, kind = buffer.getvalue(), "svg+xml"
    if len(raw) > LIGHT and len(pixels := _few_colours(figure)) < len(raw):
        raw, kind = pixels, "png"
    return Picture(_uri(raw, kind), ax.get_title().strip(), figure.get_size_inches()[0] > WIDE)


def _few_colours(figure: Figure) -> bytes:
    """Return a figure as PNG with a palette of 256 colours, a third of the size of one without."""
    from PIL import Image

    full, small = io.BytesIO(), io.BytesIO()
    figure.savefig(full, format="png", dpi=130)
    Image.open(full).convert("RGB").quantize(256).save(small, "png", optimize=True)
    return small.getvalue()


def png(path: Path) -> Picture:
    """Return a PNG file of model predictions.

    Raises
    ------
    ConfigError
        If it cannot be read.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    return Picture(_uri(raw, "png"), "predictions beside the truth", wide=True)


def _uri(raw: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(raw).decode()}"
