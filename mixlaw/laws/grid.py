"""Predictions and their Jacobian on a grid of mixtures by scales; a scale is a pair of N and D.

Most studies evaluate every mixture at the same N and D. A term of N and D alone then has s values and a term of the
mixture alone m values, for n = m s rows. Values keep the broadcastable shape (b, m or 1, s or 1), and derivatives are
products of a small array (`inner`) and such a value (`outer`): the n x p Jacobian is never formed.

Legend of shapes: b parameter vectors, n rows, m mixtures, s scales, p parameters, a is m or s, q parameters of a block.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mixlaw.laws.jacobian import Array

MIXTURE, SCALE = 1, 2  # axes of a grid of predictions (b, m, s)


@dataclass(frozen=True)
class Grid:
    """The cell of the m x s grid of each row: `cell` (n,), in row-major order, every cell at most once."""

    shape: tuple[int, int]
    cell: NDArray[np.int64]

    @cached_property
    def full(self) -> bool:
        """Whether the rows are all cells in order."""
        size = self.shape[0] * self.shape[1]
        return len(self.cell) == size and bool((self.cell == np.arange(size)).all())

    def rows(self, values: Array) -> Array:
        """Return (b, n) values of the rows from values (b, m or 1, s or 1) of the grid."""
        cells = np.broadcast_to(values, (len(values), *self.shape)).reshape(len(values), -1)
        return cells if self.full else cells.take(self.cell, axis=1)

    def cells(self, rows: Array) -> Array:
        """Return (b, m, s) values of the cells from those of the rows (b, n); cells without a row are 0."""
        if self.full:
            return rows.reshape(len(rows), *self.shape)
        cells = np.zeros((len(rows), self.shape[0] * self.shape[1]))
        cells[:, self.cell] = rows
        return cells.reshape(len(rows), *self.shape)


@dataclass
class Block:
    """Derivatives inner (b, q, a) x outer (b, m or 1, s or 1) by the parameters at `at`; inner lies along `axis`."""

    at: slice
    axis: int
    inner: Array
    outer: Array


@dataclass
class GridJacobian:
    """Derivatives of b x n predictions by p parameters, with the methods of `mixlaw.laws.jacobian.Jacobian`."""

    shape: tuple[int, int, int]  # b, p, n
    grid: Grid
    blocks: list[Block] = field(default_factory=list)

    def add(self, block: Block) -> None:
        """Append the derivatives by further parameters."""
        self.blocks.append(block)

    def full(self) -> Array:
        """Return the dense Jacobian (b, p, n)."""
        full = np.zeros(self.shape)
        for f in self.blocks:
            for i in range(f.at.start, f.at.stop):
                full[:, i] = self.grid.rows(_along(f.inner[:, i - f.at.start], f.axis) * f.outer)
        return full

    def scale(self, factor: Array) -> None:
        """Multiply by a factor per row, (b, n)."""
        factor = self.grid.cells(factor)
        for f in self.blocks:
            f.outer = f.outer * factor

    def jvp(self, step: Array) -> Array:
        """Return (b, n) the Jacobian-vector product with changes of the parameters (b, p)."""
        change = np.zeros((1, 1, 1))
        for f in self.blocks:
            change = change + _along(np.matmul(step[:, None, f.at], f.inner)[:, 0], f.axis) * f.outer
        return self.grid.rows(change)

    def vjp(self, by_value: Array) -> Array:
        """Return (b, p) the vector-Jacobian product with by_value (b, n)."""
        cells, product = self.grid.cells(by_value), np.empty(self.shape[:2])
        for f in self.blocks:
            product[:, f.at] = np.matmul(f.inner, _sums(cells, f.outer, f.axis)[..., None])[..., 0]
        return product

    def normal(self, weight: Array) -> Array:
        """Return (b, p, p) the normal matrix J W J' for row weights (b, n)."""
        cells, normal = self.grid.cells(weight), np.empty((*self.shape[:2], self.shape[1]))
        even = [f for f in self.blocks if f.axis == MIXTURE and f.outer.shape[1] == 1]
        rest = [f for f in self.blocks if f.axis == SCALE or f.outer.shape[1] > 1]
        if even:
            _even_products(cells, even, normal)
        for i, g in enumerate(rest):
            if even and g.axis == SCALE:
                _even_products_with(cells, even, g, normal)
            others = rest[: i + 1] if g.axis == SCALE else even + rest[: i + 1]
            for f in others:
                _write(normal, f, g, _product(cells, f, g))
        return normal

    def members(self, at: NDArray[np.bool_]) -> "GridJacobian":
        """Return the Jacobians of some parameter vectors."""
        kept = [replace(f, inner=f.inner[at], outer=f.outer[at]) for f in self.blocks]
        return GridJacobian((int(at.sum()), *self.shape[1:]), self.grid, kept)

    def replace(self, at: NDArray[np.bool_], new: "GridJacobian") -> None:
        """Overwrite the Jacobians of some parameter vectors with those of `new`, which has the same blocks."""
        for f, g in zip(self.blocks, new.blocks, strict=True):
            f.inner[at] = g.inner[at]
            f.outer = np.where(at[:, None, None], g.outer, f.outer)  # blocks may share one array


def _along(values: Array, axis: int) -> Array:
    """Return (b, a) as (b, m, 1) or (b, 1, s)."""
    return values[:, :, None] if axis == MIXTURE else values[:, None, :]


def _sums(cells: Array, outer: Array, axis: int) -> Array:
    """Return (b, a) the sums of cells (b, m, s) x outer over the other axis."""
    if axis == SCALE:
        cells, outer = cells.transpose(0, 2, 1), outer.transpose(0, 2, 1)
    if outer.shape[2] == 1:
        sums: Array = outer[..., 0] * np.matmul(cells, np.ones(cells.shape[2]))
        return sums
    if outer.shape[1] == 1:
        return np.matmul(cells, outer.transpose(0, 2, 1))[..., 0]
    return np.einsum("bij,bij->bi", cells, outer)


def _product(cells: Array, f: Block, g: Block) -> Array:
    """Return (b, q of f, q of g) the sums of the products of two blocks' derivatives and cells (b, m, s)."""
    if f.axis == g.axis:
        sums = _sums(cells, f.outer * g.outer, f.axis)
        return np.matmul(f.inner * sums[:, None, :], g.inner.transpose(0, 2, 1))
    weighted = cells * f.outer * g.outer
    if f.axis == SCALE:
        weighted = weighted.transpose(0, 2, 1)
    return np.matmul(np.matmul(f.inner, weighted), g.inner.transpose(0, 2, 1))


def _even_products(cells: Array, blocks: list[Block], normal: Array) -> None:
    """Write the products with each other of blocks along the mixtures whose seeds (b, 1, s or 1) are even over them."""
    pairs = [(f, g) for i, f in enumerate(blocks) for g in blocks[: i + 1]]
    shape = (len(cells), 1, cells.shape[2])
    seeds = np.concatenate([np.broadcast_to(f.outer * g.outer, shape) for f, g in pairs], 1)
    sums = np.matmul(seeds, cells.transpose(0, 2, 1))
    for number, (f, g) in enumerate(pairs):
        _write(normal, f, g, np.matmul(f.inner * sums[:, number, None], g.inner.transpose(0, 2, 1)))


def _even_products_with(cells: Array, blocks: list[Block], g: Block, normal: Array) -> None:
    """Write the products of such blocks with one along the scales, which has fewer parameters: its sums come first."""
    flat = g.outer.shape[2] == 1
    inner = np.concatenate([f.outer * g.inner for f in blocks], 1)
    sums = np.matmul(cells if flat else cells * g.outer, inner.transpose(0, 2, 1))
    if flat:
        sums *= g.outer
    count = g.inner.shape[1]
    for number, f in enumerate(blocks):
        _write(normal, f, g, np.matmul(f.inner, sums[..., number * count : (number + 1) * count]))


def _write(normal: Array, f: Block, g: Block, product: Array) -> None:
    """Write the product of two blocks on both sides of the diagonal."""
    normal[:, f.at, g.at] = product
    if f is not g:
        normal[:, g.at, f.at] = product.transpose(0, 2, 1)
