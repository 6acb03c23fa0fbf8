"""Precision: the share of generated images inside the reference's balls (Kynkaanniemi et al. 2019, eq. 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scottbench.metrics import precision_influence
from scottbench.nouns import Cell, Influence
from scottbench_metrics.neighbours import loss_of_real, of_cell
from scottbench_metrics.options import BallOptions

if TYPE_CHECKING:
    import numpy as np


def precision(cell: Cell, options: BallOptions) -> float:
    """mean_j [generated j lies in the ball of some reference image], 0..1."""
    return float((of_cell(cell, options.k).generated_inside > 0).mean())


def items(cell: Cell, options: BallOptions) -> np.ndarray:
    """(n,) 1.0 where generated image j lies in some reference ball, else 0.0."""
    return (of_cell(cell, options.k).generated_inside > 0).astype(float)


def influence(cell: Cell, options: BallOptions) -> Influence:
    return precision_influence(cell.real["image"], cell.features["image"], options.k, loss_of_real(cell, options.k))
