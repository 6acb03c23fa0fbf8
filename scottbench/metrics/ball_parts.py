"""k-NN balls of parts of the generated images beside a whole reference, such as random halves of them: all from one search of the whole.

A part's numbers are those that `balls` would count of it, exactly: which generated images lie in a reference ball does not change with the
part, and the k-th nearest image of a part is among the `reach` nearest of the whole, but for a few images that are searched anew.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scottbench.metrics.ball_counts import Balls, check_pair
from scottbench.metrics.distances import Distances
from scottbench.metrics.nearest import Neighbours, nearest_neighbours

MOST_PAIRS = 1 << 25
"""Pairs that are kept at most: 0.8 GB. Sets that coincide have more, and their parts are counted one by one."""


@dataclass(frozen=True)
class BallParts:
    """All that is needed to count the balls of any part of n generated images, beside m reference images."""

    distances: Distances
    """From the reference to the generated images."""
    own: Distances
    """Among the generated images."""
    k: int
    held: tuple[np.ndarray, np.ndarray]
    """(reference i, generated j), (p,) each: j lies in the ball of i."""
    near: tuple[np.ndarray, np.ndarray]
    """Each generated image's nearest others, by distance: (index, squared distance), (n, reach) each."""
    around: tuple[np.ndarray, np.ndarray, np.ndarray]
    """(reference i, generated j, squared distance), (q,) each, of all pairs nearer than j's farthest in `near`."""

    def of(self, kept: np.ndarray) -> Balls:
        """Count the balls of the generated images `kept`, (c,) indices, and of all reference images."""
        m, n = len(self.distances.x), len(self.own.x)
        inside = np.zeros(n, bool)
        inside[kept] = True
        i, j = (pairs[inside[self.held[1]]] for pairs in self.held)
        covered = np.zeros(m, bool)
        covered[i] = True
        radii, far = self._radii(kept, inside)
        real_inside = np.zeros(m, bool)
        i_near, j_near, squares = self.around
        real_inside[i_near[inside[j_near] & (squares < radii[j_near])]] = True
        for image in far:  # its ball reaches beyond what is kept of its surroundings
            rows = np.flatnonzero(~real_inside)
            squares = self.distances.direct(rows, np.full(len(rows), image))
            real_inside[rows[squares < radii[image]]] = True
        return Balls(self.k, covered, real_inside, np.bincount(j, minlength=n)[kept])

    def _radii(self, kept: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The squared radius of each kept image's ball within the part, (n,), and the images for which it was searched anew."""
        index, squares = self.near
        there = inside[index[kept]]
        rank = there.cumsum(axis=1)
        enough = rank[:, -1] >= self.k
        place = (rank >= self.k).argmax(axis=1)
        radii = np.zeros(len(inside))
        radii[kept] = squares[kept, place]
        far = kept[~enough]
        for image in far:
            others = kept[kept != image]
            found = self.own.direct(np.full(len(others), image), others)
            radii[image] = np.partition(found, self.k - 1)[self.k - 1]
        return radii, far


def balls_of_parts(real: np.ndarray, generated: np.ndarray, k: int, near_real: Neighbours) -> BallParts | None:
    """Search (m, d) real and (n, d) generated features once for all parts of the generated ones; None where too many pairs would be kept.

    near_real: the neighbours of the reference. Raises BadFeatures as `prdc`.
    """
    real, generated = check_pair(real, generated)
    reach = min(len(generated) - 1, 6 * k + 2)  # of a half: k of them are in it, but for one image in ten thousand
    index = nearest_neighbours(generated, reach, "generated").indices
    own, distances = Distances(generated, generated), Distances(real, generated)
    rows = np.repeat(np.arange(len(generated)), reach)
    squares = own.direct(rows, index.ravel()).reshape(index.shape)
    order = np.argsort(squares, axis=1, kind="stable")
    index, squares = np.take_along_axis(index, order, axis=1), np.take_along_axis(squares, order, axis=1)
    held: list[tuple[np.ndarray, np.ndarray]] = []
    around: list[tuple[np.ndarray, np.ndarray]] = []
    total = 0
    for bounds in distances.blocks():
        held.append(bounds.pairs_below(near_real.radii[bounds.rows, None]))
        around.append(bounds.pairs_below(squares[None, :, -1]))
        total += len(held[-1][0]) + len(around[-1][0])
        if total > MOST_PAIRS:
            return None
    i, j = (np.concatenate(parts) for parts in zip(*around, strict=True))
    i_held, j_held = (np.concatenate(parts) for parts in zip(*held, strict=True))
    return BallParts(distances, own, k, (i_held, j_held), (index, squares), (i, j, distances.direct(i, j)))
