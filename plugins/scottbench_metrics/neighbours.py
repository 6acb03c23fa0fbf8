"""k-nearest-neighbour balls of two feature sets: what precision, recall, density and coverage count.

Exact in O(n k + block n) memory, and independent of the block size. A float32 matrix product gives a lower bound of every
squared distance; the few pairs that the bound cannot decide are subtracted directly in float64.

Tie rule (that of the prdc package, Naeem et al. 2020): a ball is open. A point is inside where its distance is < the radius,
and the radius is the distance to the k-th nearest other point of the same set. k + 1 coinciding points therefore have
radius 0 and empty balls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scottbench.nouns import Cell
from scottbench.stats import BadFeatures, feature_matrix

BLOCK_ELEMENTS = 1 << 20
"""Entries of the distance matrix held at a time."""
PAIR_ELEMENTS = 1 << 20
"""Numbers held at a time when pairs are subtracted directly."""


@dataclass(frozen=True)
class Balls:
    """Which of the m reference and n generated images lie in whose balls."""

    k: int
    real_covered: np.ndarray
    """(m,) bool: the ball of reference image i holds a generated image."""
    real_inside: np.ndarray
    """(m,) bool: reference image i lies in the ball of a generated image."""
    generated_inside: np.ndarray
    """(n,) int64: the number of reference balls that hold generated image j."""


def of_cell(cell: Cell, k: int) -> Balls:
    """The balls of a cell's image features, searched once for all metrics (and the reference once for all cells)."""
    key = ("scottbench_metrics.neighbours", "image", k)
    if key not in cell.memo:
        real, generated = cell.real["image"], cell.features["image"]
        if key not in cell.real_memo:
            cell.real_memo[key] = squared_radii(real, k, "reference")
        cell.memo[key] = balls(real, generated, k, real_radii=cell.real_memo[key])
    return cell.memo[key]


def balls(real: np.ndarray, generated: np.ndarray, k: int, real_radii: np.ndarray | None = None, block: int | None = None) -> Balls:
    """(m, d) and (n, d) features -> Balls. real_radii: (m,) from `squared_radii`; block: rows at a time.

    Raises BadFeatures where k >= m or n, for unequal d, and for values that are not finite.
    """
    real, generated = feature_matrix(real, "reference", least=1), feature_matrix(generated, "generated", least=1)
    if real.shape[1] != generated.shape[1]:
        raise BadFeatures(
            f"reference features have {real.shape[1]} dimensions, generated ones {generated.shape[1]}. Both must be of one extractor."
        )
    r2 = squared_radii(real, k, "reference", block) if real_radii is None else real_radii
    g2 = squared_radii(generated, k, "generated", block)
    covered, real_inside, counts = np.zeros(len(real), bool), np.zeros(len(real), bool), np.zeros(len(generated), np.int64)
    for bounds in _lower_bounds(real, generated, block):
        i, j = bounds.pairs_below(r2[bounds.rows, None])
        covered[i] = True
        counts += np.bincount(j, minlength=len(generated))
        real_inside[bounds.pairs_below(g2[None, :])[0]] = True
    return Balls(k, covered, real_inside, counts)


def squared_radii(points: np.ndarray, k: int, what: str, block: int | None = None) -> np.ndarray:
    """(n, d) -> (n,) float64 squared distances to the k-th nearest other point. Raises BadFeatures where k >= n."""
    points = feature_matrix(points, what, least=1)
    n = len(points)
    if k >= n:
        raise BadFeatures(
            f"k = {k} neighbours need at least {k + 1} images; found {n} {what} images. Use --limit {k + 1} or more, or a smaller k."
        )
    radii = np.empty(n)
    for bounds in _lower_bounds(points, points, block):
        here = np.arange(bounds.rows.start, bounds.rows.stop)
        bounds.lower[here - bounds.rows.start, here] = np.inf  # a point is not its own neighbour
        radii[bounds.rows] = _kth_smallest(bounds, k)
    return radii


def _kth_smallest(bounds: _Bounds, k: int) -> np.ndarray:
    """(b,) exact k-th smallest squared distance of each row."""
    local, j = bounds.nearest_candidates(k)
    # Where many coincide (mode collapse) and k of them lie at distance 0, the rest need no look.
    crowded = np.flatnonzero(np.bincount(local) > 4 * k + 16)
    nearest = np.argpartition(bounds.lower[crowded], k - 1, axis=1)[:, :k]
    zero = crowded[~bounds.direct(np.repeat(crowded, k), nearest.ravel()).reshape(-1, k).any(axis=1)]
    keep = ~np.isin(local, zero)
    local, j = local[keep], j[keep]
    distance = bounds.direct(local, j)
    order = np.lexsort([distance, local])
    radii = np.zeros(len(bounds.lower))
    rows, first = np.unique(local, return_index=True)  # local is sorted, so is local[order]
    radii[rows] = distance[order[first + k - 1]]
    return radii


@dataclass(frozen=True)
class _Bounds:
    """One row block of squared distances between x and y, bounded: lower <= true <= lower + margin."""

    x: np.ndarray
    y: np.ndarray
    rows: slice
    lower: np.ndarray
    """(b, len(y)) float32."""
    margins: tuple[np.ndarray, np.ndarray]
    """(b,) and (len(y),) float64; a pair's margin is the sum of its two."""
    scale: float
    """x and y were divided by this power of two."""

    def pairs_below(self, threshold: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(i in x, j in y) of all pairs whose squared distance is < threshold, which is (b, 1) or (1, len(y)) float64."""
        local, j = _where(self.lower < _round_up(threshold / self.scale**2))
        limit = np.broadcast_to(threshold, self.lower.shape)[local, j]
        inside = self.upper(local, j) * self.scale**2 < limit
        unsure = np.flatnonzero(~inside)
        inside[unsure] = self.direct(local[unsure], j[unsure]) < limit[unsure]
        return local[inside] + self.rows.start, j[inside]

    def nearest_candidates(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(row in the block, j in y) of pairs that are sure to hold each row's k nearest; sorted by row."""
        kth = np.partition(self.lower, k - 1, axis=1)[:, k - 1]
        local, j = _where(self.lower <= kth[:, None])
        reach = np.zeros(len(kth))
        np.maximum.at(reach, local, self.upper(local, j))
        return _where(self.lower <= _round_up(reach)[:, None])

    def upper(self, local: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Upper bounds of the scaled squared distances of some pairs, float64."""
        return self.lower[local, j] + self.margins[0][local] + self.margins[1][j]

    def direct(self, local: np.ndarray, j: np.ndarray) -> np.ndarray:
        """Squared distances of some pairs, unscaled, float64, summed in one fixed order: equal points give exactly 0."""
        out = np.empty(len(local))
        step = max(1, PAIR_ELEMENTS // self.x.shape[1])
        for start in range(0, len(local), step):
            part = slice(start, start + step)
            difference = self.x[local[part] + self.rows.start].astype(np.float64) - self.y[j[part]]
            out[part] = (difference * difference).sum(axis=1)
        return out


def _lower_bounds(x: np.ndarray, y: np.ndarray, block: int | None) -> Iterator[_Bounds]:
    """Row blocks of lower bounds, (1 - e)(|x|^2 + |y|^2) - 2 x'y, on centred and scaled features, as one matrix product.

    e = (d + 16) 2^-23 exceeds every rounding error: with u = 2^-24, the product of d + 2 terms errs by at most
    (d + 2) u 2 (|x|^2 + |y|^2), casting the features and their norms by less than 10 u of the same.
    """
    centre = x.mean(axis=0, dtype=np.float64)
    a, b = x - centre, y - centre
    scale = 2.0 ** np.ceil(np.log2(max(np.abs(a).max(), np.abs(b).max(), 1e-300)))
    a, b = (a / scale).astype(np.float32), (b / scale).astype(np.float32)
    aa, bb = (np.einsum("nd,nd->n", v, v, dtype=np.float64)[:, None] for v in (a, b))
    share = (x.shape[1] + 16) * 2.0**-23
    left = np.hstack([-2 * a, (1 - share) * aa, np.ones_like(aa)], dtype=np.float32, casting="same_kind")
    right = np.hstack([b, np.ones_like(bb), (1 - share) * bb], dtype=np.float32, casting="same_kind").T
    block = max(1, BLOCK_ELEMENTS // len(y)) if block is None else block
    tiny = 1e-30  # products below float32's smallest number vanish
    for start in range(0, len(x), block):
        rows = slice(start, min(start + block, len(x)))
        yield _Bounds(x, y, rows, left[rows] @ right - np.float32(tiny), (2 * share * aa[rows, 0] + 2 * tiny, 2 * share * bb[:, 0]), scale)


def _round_up(values: np.ndarray) -> np.ndarray:
    """The next float32 at or above each float64 value."""
    return np.nextafter(values.astype(np.float32), np.float32(np.inf))


def _where(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """mask.nonzero() of a 2-d mask, by way of the flat one, which NumPy finds several times faster."""
    return np.divmod(np.flatnonzero(mask), mask.shape[1])
