"""The k nearest neighbours of every point within its own set, exactly; O(n k) memory, and each pair's product is taken once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scottbench.metrics.checks import BadFeatures, feature_matrix
from scottbench.metrics.distances import BLOCK_ELEMENTS, Distances, where

SLACK = 16
"""Neighbours kept beyond the k + 1 asked for: bounds may order near-ties wrongly."""


@dataclass(frozen=True)
class Neighbours:
    """Every point's k nearest other points, and their distances."""

    k: int
    indices: np.ndarray
    """(n, k) int64, in no particular order; where several points tie for the k-th place, some of them."""
    radii: np.ndarray
    """(n,) float64 squared distance to the k-th nearest other point."""
    following: np.ndarray
    """(n,) float64 squared distance to the (k + 1)-th, the new radius when one of the k is left out; inf if n = k + 1."""


def nearest_neighbours(points: np.ndarray, k: int, what: str = "reference", block: int | None = None) -> Neighbours:
    """Find the k nearest other points of each of (n, d) float points, by Euclidean distance.

    what: the word for these images in a message. block: rows at a time. Raises BadFeatures if k < 1 or k >= n, and for values not finite.
    """
    points = feature_matrix(points, what, least=1)
    n = len(points)
    if k < 1:
        raise BadFeatures(f"k = {k}: the number of neighbours must be at least 1.")
    if k >= n:
        raise BadFeatures(
            f"k = {k} neighbours need at least {k + 1} images; found {n} {what} images. Use --limit {k + 1} or more, or a smaller k."
        )
    distances, count = Distances(points, points), min(k + 1, n - 1)
    shortlist = _Shortlist(n, min(n - 1, count + SLACK))
    for rows in distances.row_blocks(block):
        _offer_block(distances, rows, shortlist)
    return _decide(distances, shortlist, k, count)


class _Shortlist:
    """For every point, the `width` others with the least lower bounds seen so far, in ascending order."""

    def __init__(self, n: int, width: int):
        self.width = width
        self.lower = np.full((n, width), np.inf, np.float32)
        self.other = np.zeros((n, width), np.int64)

    def offer(self, point: np.ndarray, other: np.ndarray, lower: np.ndarray) -> None:
        """Merge (p,) pairs in. The others of one point must differ from each other and from all that were offered before."""
        touched = np.unique(point)
        every = np.concatenate([point, np.repeat(touched, self.width)])
        other = np.concatenate([other, self.other[touched].ravel()])
        lower = np.concatenate([lower, self.lower[touched].ravel()])
        order = np.argsort((every << 32) + _rank_of(lower))
        every = every[order]
        starts = np.searchsorted(every, touched)
        rank = np.arange(len(every)) - np.repeat(starts, np.diff(np.append(starts, len(every))))
        keep = rank < self.width
        place = every[keep], rank[keep]
        self.lower[place], self.other[place] = lower[order[keep]], other[order[keep]]


def _rank_of(values: np.ndarray) -> np.ndarray:
    """Map float32 to int64 in 0..2^32 - 1 in the same order: the bits, with those of negative numbers turned round."""
    bits = values.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -bits, bits + (1 << 31))


def _offer_block(distances: Distances, rows: np.ndarray, shortlist: _Shortlist) -> None:
    """Offer the pairs of a block of rows and the points from its first row on: beyond the block, one product serves both points."""
    bounds = distances.block(rows, first=rows[0]).lower
    bounds[np.arange(len(rows)), np.arange(len(rows))] = np.inf  # a point is not its own neighbour
    local, column = _promising(bounds, shortlist.lower[rows, -1], shortlist.width)
    shortlist.offer(rows[local], column + rows[0], bounds[local, column])
    beyond, start = bounds[:, len(rows) :], rows[0] + len(rows)
    if beyond.shape[1]:
        limit = shortlist.lower[start:, -1]
        if not np.isfinite(limit).all() and len(rows) >= shortlist.width:
            limit = np.nextafter(np.partition(beyond, shortlist.width - 1, axis=0)[shortlist.width - 1], np.float32(np.inf))
        local, column = where(beyond < limit)
        shortlist.offer(column + start, rows[local], beyond[local, column])


def _promising(bounds: np.ndarray, limit: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Find (row, column), (p,) each, of the bounds that may enter the rows' lists, whose last entries are `limit`."""
    if not np.isfinite(limit).all() and bounds.shape[1] > width:
        limit = np.minimum(limit, np.nextafter(np.partition(bounds, width - 1, axis=1)[:, width - 1], np.float32(np.inf)))
    return where(bounds < limit[:, None])


def _decide(distances: Distances, shortlist: _Shortlist, k: int, count: int) -> Neighbours:
    """Turn lists of bounds into exact neighbours: only pairs whose bounds overlap those of the k-th or (k + 1)-th are subtracted."""
    n, lower = len(shortlist.lower), shortlist.lower.astype(np.float64)
    margins = 2 * distances.share * distances.norms
    upper = lower + margins[:, None] + margins[shortlist.other] + 4e-30
    last = np.partition(upper, count - 1, axis=1)[:, count - 1]
    keys = np.where(upper < lower[:, k - 1, None], -np.inf, np.inf)  # surely among the nearest k - 1; surely beyond
    row, place = where((upper >= lower[:, k - 1, None]) & (lower <= last[:, None]))
    keys[row, place] = distances.direct(row, shortlist.other[row, place])
    order = np.argsort(keys, axis=1, kind="stable")[:, :count]
    found = np.take_along_axis(shortlist.other, order, axis=1), np.take_along_axis(keys, order, axis=1)
    if shortlist.width < n - 1:  # where the list may have been too short, unless all that was asked for coincides with the point
        short = np.flatnonzero(lower[:, -1] <= last)
        first = shortlist.other[short, :count]
        same = distances.direct(np.repeat(short, count), first.ravel()).reshape(-1, count).max(axis=1, initial=0) == 0
        found[0][short[same]], found[1][short[same]] = first[same], 0.0
        short, size = short[~same], max(1, BLOCK_ELEMENTS // n)
        for rows in (short[start : start + size] for start in range(0, len(short), size)):
            found[0][rows], found[1][rows] = _search(distances, rows, count)
    following = found[1][:, k] if count > k else np.full(n, np.inf)
    return Neighbours(k, found[0][:, :k], found[1][:, k - 1], following)


def _search(distances: Distances, rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the nearest to (b,) points by a look at all others: (indices, squared distances), (b, count) each, ascending."""
    bounds = distances.block(rows)
    bounds.lower[np.arange(len(rows)), rows] = np.inf
    local, other = bounds.nearest_candidates(count)
    distance = bounds.direct(local, other)
    order = np.lexsort((distance, local))
    _, starts = np.unique(local, return_index=True)  # local is sorted, and so is local[order]
    chosen = order[starts[:, None] + np.arange(count)]
    return other[chosen], distance[chosen]
