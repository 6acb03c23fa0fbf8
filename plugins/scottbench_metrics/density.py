"""Density: how many reference balls hold a generated image, on average and per k (Naeem et al. 2020, eq. 4)."""

from __future__ import annotations

from scottbench.nouns import Cell
from scottbench_metrics.neighbours import of_cell
from scottbench_metrics.options import BallOptions


def density(cell: Cell, options: BallOptions) -> float:
    """mean_j (number of reference balls that hold generated j) / k; 0 or more, may exceed 1."""
    return float(1 / options.k * of_cell(cell, options.k).generated_inside.mean())
