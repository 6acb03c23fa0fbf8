"""Precision: the share of generated images inside the reference's balls (Kynkaanniemi et al. 2019, eq. 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scottbench import CellFeatures
from scottbench_metrics.neighbours import of_cell
from scottbench_metrics.options import BallOptions

if TYPE_CHECKING:
    import numpy as np


def precision(cell: CellFeatures, options: BallOptions) -> float:
    """Compute mean_j [generated j lies in the ball of some reference image], 0..1."""
    return float((of_cell(cell, options.k).generated_inside > 0).mean())


def items(cell: CellFeatures, options: BallOptions) -> np.ndarray:
    """Return 1.0 where generated image j lies in some reference ball, else 0.0; (n,) float64."""
    return (of_cell(cell, options.k).generated_inside > 0).astype(float)
