"""Recall: the share of reference images inside the generated images' balls (Kynkaanniemi et al. 2019, eq. 2)."""

from __future__ import annotations

from scottbench.nouns import Cell
from scottbench_metrics.neighbours import of_cell
from scottbench_metrics.options import BallOptions


def recall(cell: Cell, options: BallOptions) -> float:
    """mean_i [reference i lies in the ball of some generated image], 0..1."""
    return float(of_cell(cell, options.k).real_inside.mean())
