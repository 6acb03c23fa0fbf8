"""Squared Euclidean distances between two feature sets, decided exactly without holding the matrix.

A float32 matrix product gives a lower bound of every squared distance, with a proven margin up to the upper one. Only pairs that
the bounds leave open are subtracted directly, in float64. No result depends on the block size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BLOCK_ELEMENTS = 1 << 22
"""Entries of the distance matrix held at a time; larger than a cache, so that the matrix product packs y seldom."""
PAIR_ELEMENTS = 1 << 16
"""Numbers held at a time when pairs are subtracted directly; these fit a cache."""
CHUNK_ELEMENTS = 1 << 21
"""Numbers converted to float64 at a time."""
LEAST = 1e-140
"""Points no farther than this from their centre are not scaled up to 1: the square of the scale must not vanish."""
TINY = 1e-30
"""Products below float32's smallest number vanish."""


class Distances:
    """Bounds of |x_i - y_j|^2 for (n, d) x and (m, d) y, block by block; keeps one float32 copy of y.

    The bounds are of centred and scaled features: (1 - e)(|x|^2 + |y|^2) - 2 x'y as one matrix product. e = (d + 16) 2^-23 exceeds
    every rounding error: with u = 2^-24, the product of d + 2 terms errs by at most (d + 2) u 2 (|x|^2 + |y|^2), casting the
    features and their norms by less than 10 u of the same.
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
        """Bounds between x[rows] and y[first:]."""
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
        """All rows against all of y, `size` rows at a time."""
        for rows in self.row_blocks(size):
            yield self.block(rows)

    def row_blocks(self, size: int | None = None) -> Iterator[np.ndarray]:
        size = max(1, BLOCK_ELEMENTS // len(self.y)) if size is None else size
        for start in range(0, len(self.x), size):
            yield np.arange(start, min(start + size, len(self.x)))

    def direct(self, i: np.ndarray, j: np.ndarray) -> np.ndarray:
        """|x_i - y_j|^2 of some pairs, float64, summed in one fixed order: equal points give exactly 0."""
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
    """One row block of squared distances, bounded: lower <= true / scale^2 <= lower + margin."""

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
        """(i into x, j into y) of all pairs whose squared distance is < threshold, which is (b, 1) or (1, c) float64; row by row."""
        local, column = where(self.lower < round_up(threshold / self.of.scale**2))
        limit = np.broadcast_to(threshold, self.lower.shape)[local, column]
        inside = self.upper(local, column) * self.of.scale**2 < limit
        unsure = np.flatnonzero(~inside)
        inside[unsure] = self.direct(local[unsure], column[unsure]) < limit[unsure]
        return self.rows[local[inside]], column[inside] + self.first

    def nearest_candidates(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(row in the block, column) of pairs that are sure to hold each row's k nearest; sorted by row."""
        kth = np.partition(self.lower, k - 1, axis=1)[:, k - 1]
        local, column = where(self.lower <= kth[:, None])
        reach = np.zeros(len(kth))
        np.maximum.at(reach, local, self.upper(local, column))
        return where(self.lower <= round_up(reach)[:, None])

    def upper(self, local: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Upper bounds of the scaled squared distances of some pairs, float64."""
        return self.lower[local, column] + self.margins[0][local] + self.margins[1][column]

    def direct(self, local: np.ndarray, column: np.ndarray) -> np.ndarray:
        return self.of.direct(self.rows[local], column + self.first)


def round_up(values: np.ndarray) -> np.ndarray:
    """The next float32 at or above each float64 value."""
    with np.errstate(over="ignore"):  # beyond float32: infinity, which is above
        return np.nextafter(values.astype(np.float32), np.float32(np.inf))


def where(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """mask.nonzero() of a 2-d mask, by way of the flat one, which NumPy finds several times faster."""
    return np.divmod(np.flatnonzero(mask), mask.shape[1])


def _chunks(points: np.ndarray) -> Iterator[slice]:
    step = max(1, CHUNK_ELEMENTS // points.shape[1])
    for start in range(0, len(points), step):
        yield slice(start, start + step)
