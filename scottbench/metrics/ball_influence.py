"""Influences of every image on precision, recall, density and coverage, by exact leave-one-out; O((m + n) k) memory.

Some images are centres of balls, others are points that may lie in them. A point that is left out takes its own indicator with it.
A centre that is left out takes its ball away, and each ball that had it among the k nearest grows to the (k + 1)-th. The influence of
an image is (rows - 1)(value - value without it), the jackknife pseudo-value about the value, centred.

The mean square of these influences / rows is an upper estimate of the value's variance (Efron & Stein 1981). It is far too large where
single images decide single balls: make intervals of coverage, precision and recall by half-sampling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scottbench.metrics.ball_counts import check_pair
from scottbench.metrics.checks import BadFeatures
from scottbench.metrics.distances import Block, Distances
from scottbench.metrics.nearest import Neighbours, nearest_neighbours
from scottbench.registry.nouns import Influence


@dataclass(frozen=True)
class BallLoss:
    """Balls around m centres that hold n points, and what changes in them when one centre is left out."""

    k: int
    indices: np.ndarray
    """(m, k) int64: each centre's k nearest other centres."""
    held: np.ndarray
    """(m,) int64: points in the ball of centre c."""
    only: np.ndarray
    """(m,) int64: the one point in the ball of centre c, if it holds one; else -1."""
    shell: np.ndarray
    """(m,) int64: points that the ball of centre c gains when one of its k nearest is left out."""
    around: np.ndarray
    """(n,) int64: balls around point j."""
    lost: np.ndarray
    """(m,) int64: points inside some ball that are in none without centre i."""
    gained: np.ndarray
    """(m,) int64: points outside all balls that are in one without centre i."""

    def of_neighbours(self, values: np.ndarray) -> np.ndarray:
        """Sum (m,) values of centres, for every centre i over those that have i among their k nearest; (m,) int64."""
        return np.bincount(self.indices.ravel(), np.repeat(values, self.k), len(self.held)).astype(np.int64)


def ball_loss(centres: np.ndarray, points: np.ndarray, near: Neighbours, block: int | None = None) -> BallLoss:
    """Count what changes in the balls around (m, d) centres for (n, d) points when one centre is left out.

    near: the neighbours of the centres among themselves. block: points at a time. Raises BadFeatures as `prdc`, and for fewer than k + 2
    centres.
    """
    centres, points = check_pair(centres, points)
    m, n = len(centres), len(points)
    if not np.isfinite(near.following).all():
        raise BadFeatures(f"leaving one image out at k = {near.k} needs at least {near.k + 2} images; found {m}. Use a smaller k.")
    held, shell, places, around = np.zeros(m, np.int64), np.zeros(m, np.int64), np.zeros(m), np.zeros(n, np.int64)
    lost, gained = np.zeros(m, np.int64), np.zeros(m, np.int64)
    for bounds in Distances(points, centres).blocks(block):
        j, c = bounds.pairs_below(near.radii[None, :])
        held += np.bincount(c, minlength=m)
        places += np.bincount(c, j, m)
        around += np.bincount(j, minlength=n)
        j_new, c_new = _shells(bounds, near, j * m + c)
        shell += np.bincount(c_new, minlength=m)
        outside = around[j_new] == 0
        pairs = np.unique(np.repeat(j_new[outside], near.k) * m + near.indices[c_new[outside]].ravel())
        gained += np.bincount(pairs % m, minlength=m)
        alone = around[j] == 1
        saved = np.unique(np.repeat(j_new, near.k) * m + near.indices[c_new].ravel())
        kept = np.isin((j * m + c)[alone], saved)
        lost += np.bincount(c[alone][~kept], minlength=m)
    only = np.where(held == 1, places, -1).astype(np.int64)
    return BallLoss(near.k, near.indices, held, only, shell, around, lost, gained)


def _shells(bounds: Block, near: Neighbours, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (point, centre) of the pairs at the radius or beyond, but nearer than the next neighbour; (p,) each."""
    m = len(near.radii)
    j, c = bounds.pairs_below(near.following[None, :])
    return np.divmod(np.setdiff1d(j * m + c, inside, assume_unique=True), m)


def coverage_influence(real: np.ndarray, generated: np.ndarray, k: int = 5, loss: BallLoss | None = None) -> Influence:
    """Compute the influence of every image, (m, d) real and (n, d) generated features, on the coverage.

    loss: what `ball_loss` finds with the reference as centres, if it is at hand. Raises BadFeatures as `prdc`, and for m < k + 2.
    """
    loss = _loss(real, generated, k, "reference") if loss is None else loss
    m, n = len(loss.held), len(loss.around)
    covered = loss.held > 0
    newly = loss.of_neighbours(~covered & (loss.shell > 0))
    without = (covered.sum() - covered + newly) / (m - 1)
    uniquely = np.bincount(loss.only[loss.only >= 0], minlength=n) / m
    return Influence(_centred((n - 1) * uniquely), _centred((m - 1) * (covered.mean() - without)))


def precision_influence(real: np.ndarray, generated: np.ndarray, k: int = 5, loss: BallLoss | None = None) -> Influence:
    """Compute the influence of every image, (m, d) real and (n, d) generated features, on the precision.

    loss: what `ball_loss` finds with the reference as centres, if it is at hand. Raises BadFeatures as `prdc`, and for m < k + 2.
    """
    loss = _loss(real, generated, k, "reference") if loss is None else loss
    return Influence(*_of_points_and_centres(loss))


def recall_influence(real: np.ndarray, generated: np.ndarray, k: int = 5, loss: BallLoss | None = None) -> Influence:
    """Compute the influence of every image, (m, d) real and (n, d) generated features, on the recall.

    loss: what `ball_loss` finds with the generated images as centres, if it is at hand. Raises BadFeatures as `prdc`, and for n < k + 2.
    """
    loss = _loss(generated, real, k, "generated") if loss is None else loss
    points, centres = _of_points_and_centres(loss)
    return Influence(generated=centres, reference=points)


def density_influence(real: np.ndarray, generated: np.ndarray, k: int = 5, loss: BallLoss | None = None) -> Influence:
    """Compute the influence of every image, (m, d) real and (n, d) generated features, on the density.

    loss: what `ball_loss` finds with the reference as centres, if it is at hand. Raises BadFeatures as `prdc`, and for m < k + 2.
    """
    loss = _loss(real, generated, k, "reference") if loss is None else loss
    m, n = len(loss.held), len(loss.around)
    taken = loss.held - loss.of_neighbours(loss.shell)
    return Influence(_centred(loss.around / loss.k), _centred((m - 1) * taken / (loss.k * n)))


def _of_points_and_centres(loss: BallLoss) -> tuple[np.ndarray, np.ndarray]:
    """Return the influences of (n,) points and (m,) centres on the share of points that lie in some ball."""
    m, n = len(loss.held), len(loss.around)
    return _centred(loss.around > 0), _centred((m - 1) * (loss.lost - loss.gained) / n)


def _loss(centres: np.ndarray, points: np.ndarray, k: int, what: str) -> BallLoss:
    return ball_loss(centres, points, nearest_neighbours(centres, k, what))


def _centred(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    return values - values.mean()
