"""k-nearest-neighbour balls of two feature sets: precision, recall, density, coverage.

Tie rule, that of the prdc package (Naeem et al. 2020): a ball is open. A point is inside if its distance is < the radius, and the
radius is the distance to the k-th nearest other point of the same set. So k + 1 points that coincide have radius 0 and empty balls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scottbench.metrics.checks import BadFeatures, feature_matrix
from scottbench.metrics.distances import Distances
from scottbench.metrics.nearest import Neighbours, nearest_neighbours


@dataclass(frozen=True)
class Balls:
    """How the balls of m reference and n generated images hold each other's points."""

    k: int
    real_covered: np.ndarray
    """(m,) bool: the ball of reference image i holds a generated image."""
    real_inside: np.ndarray
    """(m,) bool: reference image i lies in the ball of a generated image."""
    generated_inside: np.ndarray
    """(n,) int64: the number of reference balls that hold generated image j."""


@dataclass(frozen=True)
class PRDC:
    """Fidelity and diversity of n generated images beside m real ones."""

    precision: float
    """Share 0..1 of generated images inside some reference ball (Kynkaanniemi et al. 2019, eq. 2)."""
    recall: float
    """Share 0..1 of reference images inside some generated ball (ibid.)."""
    density: float
    """Mean number of reference balls around a generated image, per k; may exceed 1 (Naeem et al. 2020, eq. 4)."""
    coverage: float
    """Share 0..1 of reference images whose ball holds a generated image (Naeem et al. 2020, eq. 5)."""
    k: int
    m: int
    n: int

    @classmethod
    def of(cls, found: Balls) -> PRDC:
        """Turn the counts of one pair of sets into the four numbers."""
        return cls(
            precision=float((found.generated_inside > 0).mean()),
            recall=float(found.real_inside.mean()),
            density=float(1 / found.k * found.generated_inside.mean()),
            coverage=float(found.real_covered.mean()),
            k=found.k,
            m=len(found.real_covered),
            n=len(found.generated_inside),
        )


def prdc(real: np.ndarray, generated: np.ndarray, k: int = 5) -> PRDC:
    """Compute precision, recall, density and coverage of generated images beside real ones.

    real, generated: (m, d) and (n, d) float features. k: the ball of a point reaches to its k-th nearest neighbour in its own set.
    The four numbers equal those of the prdc package. Memory grows with (m + n)(d + k).
    Raises BadFeatures if k >= m or k >= n, for unequal d, and for values that are not finite.
    """
    return PRDC.of(balls(real, generated, k))


def balls(
    real: np.ndarray,
    generated: np.ndarray,
    k: int,
    real_neighbours: Neighbours | None = None,
    generated_neighbours: Neighbours | None = None,
    block: int | None = None,
) -> Balls:
    """Count the points of each set, (m, d) and (n, d) features, in the balls of the other.

    real_neighbours, generated_neighbours: those of a set that was searched before. block: rows at a time.
    Raises BadFeatures as `prdc`.
    """
    real, generated = check_pair(real, generated)
    near_real = nearest_neighbours(real, k, "reference", block) if real_neighbours is None else real_neighbours
    near_generated = nearest_neighbours(generated, k, "generated", block) if generated_neighbours is None else generated_neighbours
    covered, real_inside, counts = np.zeros(len(real), bool), np.zeros(len(real), bool), np.zeros(len(generated), np.int64)
    for bounds in Distances(real, generated).blocks(block):
        i, j = bounds.pairs_below(near_real.radii[bounds.rows, None])
        covered[i] = True
        counts += np.bincount(j, minlength=len(generated))
        real_inside[bounds.pairs_below(near_generated.radii[None, :])[0]] = True
    return Balls(k, covered, real_inside, counts)


def check_pair(real: np.ndarray, generated: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Check two sets of features and return them, (m, d) and (n, d). Raises BadFeatures, also for unequal d."""
    real, generated = feature_matrix(real, "reference", least=1), feature_matrix(generated, "generated", least=1)
    if real.shape[1] != generated.shape[1]:
        raise BadFeatures(
            f"reference features have {real.shape[1]} dimensions, generated ones {generated.shape[1]}. Both must be of one extractor."
        )
    return real, generated
