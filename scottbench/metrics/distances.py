"""Squared Euclidean distances between two feature sets, decided exactly without holding the matrix.

A float32 matrix product gives a lower bound of every squared distance, and a proven margin leads from there to an upper bound. Only
the pairs that these bounds leave open are subtracted directly, in float64. No result depends on the block size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BLOCK_ELEMENTS = 1 << 22
"""Entries of the distance matrix held at a time; larger than a cache, so that the matrix product packs y seldom."""
PACKED_ROWS = 416
"""Rows of a block of a large y, up to four times BLOCK_ELEMENTS: with fewer, packing y costs the product a fifth of its time and more."""
PAIR_ELEMENTS = 1 << 16
"""Numbers held at a time when pairs are subtracted directly; these fit a cache."""
CHUNK_ELEMENTS = 1 << 21
"""Numbers converted to float64 at a time."""
LEAST = 1e-140
"""Points no farther than this from their centre are not scaled up to 1: the square of the scale must not vanish."""
TINY = 1e-30
"""Products below float32's smallest number vanish."""


class Distances:
    """Bounds of |x_i - y_j|^2 for (n, d) x and (m, d) y, block by block. One float32 copy of y is kept.

    The features are centred and scaled first. The lower bound is (1 - e)(|x|^2 + |y|^2) - 2 x'y, made by one matrix product.
    e = (d + 16) 2^-23 exceeds every rounding error. With u = 2^-24, a product of d + 2 terms errs by at most
    (d + 2) u 2 (|x|^2 + |y|^2), and casting the features and their norms adds less than 10 u of the same.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray):
        self.x, self.y, self.d = x, y, x.shape[1]
        self.centre = x.mean(axis=0, dtype=np.float64)
        self.share = (self.d + 16) * 2.0**-23
        reach = max(self._reach(x), 0.0 if y is x else self._reach(y), LEAST)
        self.scale = 2.0 ** np.ceil(np.log2(reach))
        """Features are divided by this power of two."""
        self.right = np.ones((len(y), self.d + 2), np.float32)
        self.norms = np.empty(len(y))
        for part in _chunks(y):
            scaled = self._scaled(y[part])
            self.right[part, : self.d] = scaled
            self.norms[part] = np.einsum("nd,nd->n", scaled, scaled, dtype=np.float64)
        self.right[:, self.d + 1] = (1 - self.share) * self.norms

    def _reach(self, points: np.ndarray) -> float:
        return float(max(np.abs(points[part] - self.centre).max() for part in _chunks(points)))

    def _scaled(self, points: np.ndarray) -> np.ndarray:
        return ((points - self.centre) / self.scale).astype(np.float32)

    def block(self, rows: np.ndarray, first: int = 0) -> Block:
        """Bound the distances between x[rows], (b,) rows, and y[first:], (c, d)."""
        scaled = self._scaled(self.x[rows])
        norms = np.einsum("nd,nd->n", scaled, scaled, dtype=np.float64)
        left = np.ones((len(rows), self.d + 2), np.float32)
        left[:, : self.d] = -2 * scaled
        left[:, self.d] = (1 - self.share) * norms
        lower = left @ self.right[first:].T
        lower -= np.float32(TINY)
        margins = 2 * self.share * norms + 2 * TINY, 2 * self.share * self.norms[first:]
        return Block(self, rows, first, lower, margins)

    def blocks(self, size: int | None = None) -> Iterator[Block]:
        """Bound the distances of all rows to all of y, `size` rows at a time."""
        for rows in self.row_blocks(size):
            yield self.block(rows)

    def row_blocks(self, size: int | None = None) -> Iterator[np.ndarray]:
        """Yield the rows of x as (b,) int64 indices, b = `size` at most; None: as many as BLOCK_ELEMENTS and PACKED_ROWS allow."""
        if size is None:
            size = max(1, BLOCK_ELEMENTS // len(self.y), min(PACKED_ROWS, 4 * BLOCK_ELEMENTS // len(self.y)))
        for start in range(0, len(self.x), size):
            yield np.arange(start, min(start + size, len(self.x)))

    def direct(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Compute |x_i - y_j|^2 of (p,) pairs, (p,) float64, summed in one fixed order: equal points give exactly 0."""
        out = np.empty(len(i))
        step = max(1, PAIR_ELEMENTS // self.d)
        for start in range(0, len(i), step):
            part = slice(start, start + step)
            difference = self.x[i[part]].astype(np.float64)
            difference -= self.y[j[part]]
            np.multiply(difference, difference, out=difference)
            out[part] = difference.sum(axis=1)
        return out


@dataclass(frozen=True)
class Block:
    """Bounds of one row block of squared distances: lower <= true / scale^2 <= lower + margin."""

    of: Distances
    rows: np.ndarray
    """(b,) indices into x."""
    first: int
    """Columns are y[first:]."""
    lower: np.ndarray
    """(b, c) float32."""
    margins: tuple[np.ndarray, np.ndarray]
    """(b,) and (c,) float64; a pair's margin is the sum of its two."""

    def pairs_below(self, threshold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find all pairs whose squared distance is < threshold, (b, 1) or (1, c) float64: (i into x, j into y), (p,) each, row by row."""
        local, column = where(self.lower < round_up(threshold / self.of.scale**2))
        limit = np.broadcast_to(threshold, self.lower.shape)[local, column]
        inside = self.upper(local, column) * self.of.scale**2 < limit
        unsure = np.flatnonzero(~inside)
        inside[unsure] = self.direct(local[unsure], column[unsure]) < limit[unsure]
        return self.rows[local[inside]], column[inside] + self.first

    def nearest_candidates(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find pairs among which each row's k nearest surely are: (row in the block, column), (p,) each, sorted by row."""
        kth = np.partition(self.lower, k - 1, axis=1)[:, k - 1]
        local, column = where(self.lower <= kth[:, None])
        reach = np.zeros(len(kth))
        np.maximum.at(reach, local, self.upper(local, column))
        return where(self.lower <= round_up(reach)[:, None])

    def upper(self, local: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Return the upper bounds of the scaled squared distances of (p,) pairs, (p,) float64."""
        return self.lower[local, column] + self.margins[0][local] + self.margins[1][column]

    def direct(self, local: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Compute the squared distances of (p,) pairs of this block exactly, (p,) float64."""
        return self.of.direct(self.rows[local], column + self.first)


def round_up(values: np.ndarray) -> np.ndarray:
    """Round float64 values of any shape up to float32."""
    with np.errstate(over="ignore"):  # beyond float32: infinity, which is above
        return np.nextafter(values.astype(np.float32), np.float32(np.inf))


def where(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mask.nonzero() of an (a, b) bool mask, by way of the flat mask, where NumPy is several times faster."""
    return np.divmod(np.flatnonzero(mask), mask.shape[1])


def _chunks(points: np.ndarray) -> Iterator[slice]:
    step = max(1, CHUNK_ELEMENTS // points.shape[1])
    for start in range(0, len(points), step):
        yield slice(start, start + step)
