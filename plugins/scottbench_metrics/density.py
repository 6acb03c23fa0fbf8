"""Density: how many reference balls hold a generated image, on average and per k (Naeem et al. 2020, eq. 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scottbench import CellFeatures, Influence
from scottbench.metrics import density_influence
from scottbench_metrics.neighbours import loss_of_real, of_cell
from scottbench_metrics.options import BallOptions

if TYPE_CHECKING:
    import numpy as np


def density(cell: CellFeatures, options: BallOptions) -> float:
    """Compute mean_j (number of reference balls that hold generated j) / k; 0 or more, may exceed 1."""
    return float(1 / options.k * of_cell(cell, options.k).generated_inside.mean())


def items(cell: CellFeatures, options: BallOptions) -> np.ndarray:
    """Count the reference balls around generated image j, per k; (n,) float64."""
    return of_cell(cell, options.k).generated_inside / options.k


def influence(cell: CellFeatures, options: BallOptions) -> Influence:
    """Compute the influence of every image by exact leave-one-out. Raises BadFeatures for fewer than k + 2 reference images."""
    return density_influence(cell.reference["image"], cell.generated["image"], options.k, loss_of_real(cell, options.k))
