"""Figures that stay readable whatever names and numbers they show: fonts that have the characters, ticks with room."""

import warnings
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter

from mixlaw.fonts import MISSING, choose_fonts, tell

SMALLER, SMALLEST = 0.85, 4.0  # by how much names shrink at a time, and their least size [points]
GAP = 0.2  # between two labels, in heights of a letter
ROUNDS = 12


class NamedFigure(Figure):
    """A figure with fonts for its texts, and without tick labels that overlap."""

    _arranged: tuple[float, ...] = ()

    def draw(self, renderer: Any) -> None:
        """Choose fonts, give tick labels room, and draw; what no font has is told in a sentence, once."""
        missing = choose_fonts(self)
        if missing:
            tell(missing)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", MISSING, UserWarning)
            size = tuple(self.get_size_inches())
            if self._arranged != size:
                give_room(self, renderer)
                self._arranged = size
            super().draw(renderer)


def give_room(figure: Figure, renderer: Any) -> None:
    """Make tick labels that overlap smaller where they are names; of numbers keep every second."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            for _ in range(ROUNDS):
                if not (ax.axison and ax.get_visible() and crowded(axis, renderer) and _thinned(axis)):
                    break


def crowded(axis: Axis, renderer: Any) -> bool:
    """Return whether any two labels of an axis that follow each other overlap, or nearly do."""
    along = 0 if axis.axis_name == "x" else 1
    labels = [text for text in axis.get_majorticklabels() if text.get_visible() and text.get_text()]
    if len(labels) < 2:
        return False
    height = labels[0].get_fontsize() * renderer.points_to_pixels(1.0)
    angle = np.radians(labels[0].get_rotation())
    if along == 0 and np.sin(angle) > 0.1:  # slanting lines of text, which have room between them
        places = np.sort([axis.axes.transData.transform((text.get_position()[0], 0))[0] for text in labels])
        return bool((np.diff(places) * np.sin(angle) < height).any())
    boxes = [text.get_window_extent(renderer) for text in labels]
    ends = sorted((box.min[along], box.max[along]) for box in boxes)
    gap = GAP * height if along == 0 else -GAP * height  # a line's box has some air already
    return any(after[0] < before[1] + gap for before, after in pairwise(ends))


def _thinned(axis: Axis) -> bool:
    """Give the labels of an axis more room; return whether that was possible."""
    names = isinstance(axis.get_major_formatter(), FixedFormatter | FuncFormatter)
    if names and isinstance(axis.get_major_locator(), FixedLocator):
        size = axis.get_majorticklabels()[0].get_fontsize()
        axis.set_tick_params(labelsize=max(SMALLER * size, SMALLEST))
        return bool(size > SMALLEST)
    kept = every_second(axis.get_majorticklocs(), axis.get_view_interval())
    axis.set_major_locator(FixedLocator(kept))
    return len(kept) > 1


def every_second(ticks: Sequence[float], view: Sequence[float]) -> list[float]:
    """Return every second of the ticks that can be seen, 0 among them where it was.

    >>> every_second([-2, -1, 0, 1, 2, 3], (-1.5, 3))
    [0.0, 2.0]
    """
    low, high = sorted(view)
    seen = [float(tick) for tick in ticks if low <= tick <= high]
    first = seen.index(0.0) % 2 if 0.0 in seen else 0
    return seen[first::2]
