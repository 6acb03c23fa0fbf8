"""MIND: the sliced Wasserstein distance between image features, the Monge Inception Distance (Berthet et al. 2026)."""

from __future__ import annotations

from scottbench import CellFeatures, Influence
from scottbench.metrics import SlicedDistance, sliced_distance
from scottbench_metrics.options import SlicedOptions

ROLE = "image"


def mind(cell: CellFeatures, options: SlicedOptions) -> float:
    """Compute 3 d times the mean squared Wasserstein distance over random directions, >= 0, to the reference's image features."""
    return found(cell, options).value


def influence(cell: CellFeatures, options: SlicedOptions) -> Influence:
    """Compute the influence of every image: the derivative in the images' weights."""
    return found(cell, options).influence


def found(cell: CellFeatures, options: SlicedOptions) -> SlicedDistance:
    """Compute value and influences together: both need the same sorted projections."""
    key = ("scottbench_metrics.mind", options)
    if key not in cell.memo:
        cell.memo[key] = sliced_distance(cell.reference[ROLE], cell.generated[ROLE], options.projections, options.seed)
    return cell.memo[key]
