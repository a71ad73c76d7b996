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
    """Return a figure as SVG."""
    buffer, figure = io.BytesIO(), figure_of(ax)
    figure.savefig(buffer, format="svg", dpi=110, metadata={"Date": None})
    return Picture(_uri(buffer.getvalue(), "svg+xml"), ax.get_title().strip(), figure.get_size_inches()[0] > WIDE)


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
