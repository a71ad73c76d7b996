"""The ternary plot: predicted loss over the simplex of three domains."""

from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.tri import Triangulation

from mixlaw.advice.recommendation import Recommendation
from mixlaw.errors import ConfigError
from mixlaw.fitting.saved import FittedLaws
from mixlaw.laws.jacobian import Array
from mixlaw.report.plots_laws import COLOURS, axes, short
from mixlaw.report.plots_mixture import GOOD, beside_best, big_run_label, of_means, predicted_loss, trained

CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, 3**0.5 / 2]])
STEPS = 120  # of the grid on every side
SHOWN = 0.9  # quantile of the losses at which the colour scale ends
SEEN = 0.005  # smaller intervals are hidden by the star of h*
ROUNDING = 1e-12  # tolerance, in weight, for a corner that lies on a line


def ternary(ax: Axes | None, answer: Recommendation, laws: FittedLaws) -> Axes:
    """Draw the predicted loss over all mixtures of three domains, the trained mixtures, and h*.

    Around h* are its 90 % interval, a polygon because each weight has an interval of its own, and the flat frontier:
    inside it the loss is within the noise of one run of that of h*.

    Raises
    ------
    ConfigError
        If there are not three domains, or the answer is not from these laws.
    """
    domains = answer.table
    if len(domains) != 3:
        raise ConfigError(f"a ternary plot needs 3 domains, here are {len(domains)}: use optimum or parallel")
    loss = predicted_loss(answer, laws)
    ax = axes(ax, (6.6, 5.2))
    best = domains["weight"].to_numpy(float)
    grid = lattice(STEPS)
    values = loss(grid)
    triangles = Triangulation(*flat(grid).T)
    levels = np.linspace(values.min(), np.quantile(values, SHOWN), 13)
    if levels[-1] > levels[0]:
        drawn = ax.tricontourf(triangles, values, levels, cmap=GOOD, extend="max")
        ax.figure.colorbar(drawn, ax=ax, label=big_run_label(answer), shrink=0.75, pad=0.03, format="%.3g")
    _frame(ax, [short(name) for name in domains["domain"]])
    noise = answer.noise
    level = float(loss(best[None])[0]) + noise
    if noise and values.min() < level < values.max():
        ax.tricontour(triangles, values, [level], colors=[COLOURS[1]], linewidths=1.4)
        ax.plot([], [], color=COLOURS[1], lw=1.4, label="equally good within the noise")
    corners = inside(domains["low"].to_numpy(float), domains["high"].to_numpy(float))
    if len(corners) and np.ptp(corners, axis=0).max() > SEEN:
        ax.plot(
            *flat(np.vstack([corners, corners[:1]])).T,
            color="black",
            lw=1.1,
            ls="--",
            label=f"{answer.interval_name} of h*",
        )
    mixtures = trained(laws, 3)
    ax.plot(*flat(mixtures).T, "o", ms=4, color="black", mec="white", mew=0.6, label=f"trained{of_means(laws)}")
    for other in beside_best(answer, domains):
        marker = {"|": "s", "s": "o", "x": "X"}.get(other.marker, other.marker)  # a mark with a face
        ax.plot(*flat(other.shares[None]).T, marker, ms=7, color="white", mec="black", label=other.label)
    ax.plot(*flat(best[None]).T, "*", ms=17, color=COLOURS[1], mec="white", mew=1, label="recommended", zorder=5)
    ax.legend(loc="upper left", bbox_to_anchor=(-0.14, 1.02), fontsize=8, frameon=False)
    ax.set_title("Predicted loss of every mixture")
    return ax


def flat(h: Array) -> Array:
    """Return the plane coordinates (n, 2) of mixtures (n, 3)."""
    return h @ CORNERS


def lattice(steps: int) -> Array:
    """Return (n, 3) mixtures on a regular grid that includes corners and edges.

    >>> lattice(1).tolist()
    [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    """
    i, j = (a.ravel() for a in np.mgrid[: steps + 1, : steps + 1])
    i, j = i[i + j <= steps], j[i + j <= steps]
    return np.column_stack([i, j, steps - i - j]) / steps


def inside(low: Array, high: Array) -> Array:
    """Return (m, 3) the corners, in order, of the polygon of mixtures with low <= h <= high; m = 0 if it is empty.

    Polygon clipping, one bound after the other (Sutherland and Hodgman 1974, Communications of the ACM 17).
    """
    corners = list(np.eye(3))
    for i in range(3):
        for sign, limit in ((1.0, low[i]), (-1.0, high[i])):
            kept: list[Array] = []
            for a, b in pairwise([*corners[-1:], *corners]):
                over_a, over_b = sign * (a[i] - limit), sign * (b[i] - limit)
                if min(over_a, over_b) < -ROUNDING and max(over_a, over_b) > ROUNDING:
                    kept.append(a + (b - a) * over_a / (over_a - over_b))
                if over_b >= -ROUNDING:  # where a weight is pinned, low is high, and corners lie on both lines
                    kept.append(b)
            corners = kept
    return np.array(corners).reshape(-1, 3)


def _frame(ax: Axes, names: list[str]) -> None:
    """Draw the triangle, its corner names, and grid lines with numbers every 20 % of each weight."""
    ax.plot(*flat(np.vstack([np.eye(3), np.eye(3)[:1]])).T, color="black", lw=1)
    for i, (name, slant) in enumerate(zip(names, (60, 0, -60), strict=True)):
        following, last = (i + 1) % 3, (i + 2) % 3  # a weight is read along the edge from its corner to the last
        out = (CORNERS[last] + CORNERS[i]) / 2 - CORNERS.mean(0)
        for share in (0.2, 0.4, 0.6, 0.8):
            ends = np.zeros((2, 3))
            ends[:, i], ends[0, last], ends[1, following] = share, 1 - share, 1 - share
            ax.plot(*flat(ends).T, color="black", lw=0.4, alpha=0.25)
            _write(ax, f"{100 * share:.0f}", flat(ends)[0], out, 9, fontsize=7, color="#444444")
        _write(
            ax, f"{name} [%]", (CORNERS[last] + CORNERS[i]) / 2, out, 22, fontsize=8, color="#444444", rotation=slant
        )
        _write(ax, name, CORNERS[i], CORNERS[i] - CORNERS.mean(0), 20, fontsize=10, weight="bold")
    ax.set(xlim=(-0.12, 1.12), ylim=(-0.12, 0.98), aspect="equal")
    ax.set_axis_off()


def _write(ax: Axes, text: str, at: Array, towards: Array, distance: float, **look: Any) -> None:
    """Write a text at a distance [points] from a place, in a direction."""
    x, y = distance * towards / np.linalg.norm(towards)
    ax.annotate(text, (at[0], at[1]), (x, y), "data", "offset points", ha="center", va="center", **look)
