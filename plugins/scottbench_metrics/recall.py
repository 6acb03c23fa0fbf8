"""Recall: the share of reference images inside the generated images' balls (Kynkaanniemi et al. 2019, eq. 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scottbench import CellFeatures
from scottbench_metrics.neighbours import of_cell
from scottbench_metrics.options import BallOptions

if TYPE_CHECKING:
    import numpy as np


def recall(cell: CellFeatures, options: BallOptions) -> float:
    """Compute mean_i [reference i lies in the ball of some generated image], 0..1."""
    return float(of_cell(cell, options.k).real_inside.mean())


def items(cell: CellFeatures, options: BallOptions) -> np.ndarray:
    """Return 1.0 where reference image i lies in some generated ball, else 0.0; (m,) float64."""
    return of_cell(cell, options.k).real_inside.astype(float)
