"""The Jacobian of many predictions by many parameters, in a factored form.

A table has far fewer mixtures than rows, because every run is evaluated at many D. Derivatives of terms of the mixture
alone are stored for the m distinct mixtures (`inner`), with one factor per row (`outer`): the n x p Jacobian is never
formed, and its products cost O(n + m p^2). Other derivatives are stored row by row (`dense`).

Legend of shapes: b parameter vectors, n rows, m distinct mixtures, p parameters, s of one block.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Groups:
    """Rows sorted by mixture: `place` (n,) is each row's mixture, `starts` (m,) each mixture's first row."""

    place: NDArray[np.int64]
    starts: NDArray[np.int64]

    def spread(self, values: Array) -> Array:
        """Return (..., n) from values of the mixtures (..., m)."""
        spread: Array = values.take(self.place, axis=-1)
        return spread

    def sums(self, values: Array) -> Array:
        """Return (..., m) sums over each mixture's rows of values (..., n)."""
        sums: Array = np.add.reduceat(values, self.starts, axis=-1)
        return sums


@dataclass
class Factored:
    """Derivatives outer (b, n) x inner (b, s, m) of the parameters at `at`."""

    at: slice
    inner: Array
    outer: Array


@dataclass
class Jacobian:
    """Derivatives of b x n predictions by p parameters."""

    shape: tuple[int, int, int]  # b, p, n
    groups: Groups | None
    dense: list[tuple[slice, Array]] = field(default_factory=list)
    factored: list[Factored] = field(default_factory=list)

    def add(self, at: slice, rows: Array) -> None:
        """Append derivatives (b, s, n) by the parameters at `at`."""
        self.dense.append((at, rows))

    def add_factored(self, at: slice, inner: Array, outer: Array) -> None:
        """Append derivatives in factored form; the mixtures are those of `groups`, or one per row without groups."""
        b, _, n = self.shape
        self.factored.append(Factored(at, inner, np.array(np.broadcast_to(outer, (b, n)))))

    def full(self) -> Array:
        """Return the dense Jacobian (b, p, n)."""
        full = np.zeros(self.shape)
        for at, rows in self.dense:
            full[:, at] += rows
        for f in self.factored:
            full[:, f.at] += self._spread(f.inner) * f.outer[:, None, :]
        return full

    def scale(self, factor: Array) -> None:
        """Multiply by a factor per row, (b, n)."""
        self.dense = [(at, rows * factor[:, None, :]) for at, rows in self.dense]
        for f in self.factored:
            f.outer = f.outer * factor

    def jvp(self, step: Array) -> Array:
        """Return (b, n) the Jacobian-vector product with changes of the parameters (b, p)."""
        b, _, n = self.shape
        change = np.zeros((b, n))
        for at, rows in self.dense:
            change += np.matmul(step[:, None, at], rows)[:, 0]
        for f in self.factored:
            change += f.outer * self._spread(np.matmul(step[:, None, f.at], f.inner)[:, 0])
        return change

    def vjp(self, by_value: Array) -> Array:
        """Return (b, p) the vector-Jacobian product with by_value (b, n)."""
        product = np.zeros(self.shape[:2])
        for at, rows in self.dense:
            product[:, at] += np.matmul(rows, by_value[..., None])[..., 0]
        for f in self.factored:
            product[:, f.at] += np.matmul(f.inner, self._sums(by_value * f.outer)[..., None])[..., 0]
        return product

    def normal(self, weight: Array) -> Array:
        """Return (b, p, p) the normal matrix J W J' for row weights (b, n)."""
        b, p, _ = self.shape
        normal = np.zeros((b, p, p))
        rows = np.concatenate([rows for _, rows in self.dense], 1) if self.dense else np.zeros((b, 0, self.shape[2]))
        where = np.array([i for at, _ in self.dense for i in range(at.start, at.stop)], int)
        weighted = rows * weight[:, None, :]
        normal[:, where[:, None], where] = np.matmul(weighted, rows.transpose(0, 2, 1))
        for i, f in enumerate(self.factored):
            weighted_outer = weight * f.outer
            cross = np.matmul(f.inner, self._sums(rows * weighted_outer[:, None, :]).transpose(0, 2, 1))
            normal[:, f.at, where] = cross
            normal[:, where, f.at] = cross.transpose(0, 2, 1)
            for g in self.factored[: i + 1]:
                sums = self._sums(weighted_outer * g.outer)
                block = np.matmul(f.inner * sums[:, None, :], g.inner.transpose(0, 2, 1))
                normal[:, f.at, g.at] = block
                normal[:, g.at, f.at] = block.transpose(0, 2, 1)
        return normal

    def members(self, at: NDArray[np.bool_]) -> "Jacobian":
        """Return the Jacobians of some parameter vectors."""
        kept = Jacobian((int(at.sum()), *self.shape[1:]), self.groups)
        kept.dense = [(place, rows[at]) for place, rows in self.dense]
        kept.factored = [Factored(f.at, f.inner[at], f.outer[at]) for f in self.factored]
        return kept

    def replace(self, at: NDArray[np.bool_], new: "Jacobian") -> None:
        """Overwrite the Jacobians of some parameter vectors with those of `new`, which has the same form."""
        for (_, old_rows), (_, new_rows) in zip(self.dense, new.dense, strict=True):
            old_rows[at] = new_rows[at]
        for f, g in zip(self.factored, new.factored, strict=True):
            f.inner[at], f.outer[at] = g.inner[at], g.outer[at]

    def _spread(self, values: Array) -> Array:
        return self.groups.spread(values) if self.groups else values

    def _sums(self, values: Array) -> Array:
        return self.groups.sums(values) if self.groups else values
