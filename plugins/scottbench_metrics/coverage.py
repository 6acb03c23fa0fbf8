"""Coverage: the share of reference images whose ball holds a generated image (Naeem et al. 2020, eq. 5)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scottbench import CellFeatures
from scottbench_metrics.neighbours import of_cell
from scottbench_metrics.options import BallOptions

if TYPE_CHECKING:
    import numpy as np


def coverage(cell: CellFeatures, options: BallOptions) -> float:
    """Compute mean_i [the ball of reference i holds some generated image], 0..1."""
    return float(of_cell(cell, options.k).real_covered.mean())


def items(cell: CellFeatures, options: BallOptions) -> np.ndarray:
    """Return 1.0 where the ball of reference image i holds a generated image, else 0.0; (m,) float64."""
    return of_cell(cell, options.k).real_covered.astype(float)
