"""Neighbour searches of a cell, each made once for all metrics; those of the reference once per run."""

from __future__ import annotations

import numpy as np

from scottbench import CellFeatures
from scottbench.metrics import BallLoss, BallParts, Balls, Neighbours, ball_loss, balls, balls_of_parts, nearest_neighbours

NAME = "scottbench_metrics.neighbours"


def of_cell(cell: CellFeatures, k: int) -> Balls:
    """Count the points of the cell and of the reference in each other's balls, once for all metrics of the cell."""
    key = (NAME, "balls", k)
    if key not in cell.memo:
        whole, kept = (cell, np.arange(len(cell.generated["image"]))) if cell.part_of is None else cell.part_of
        parts = parts_of(whole, k) if len(kept) > k else None
        if parts is not None:
            cell.memo[key] = parts.of(kept)
    if key not in cell.memo:
        cell.memo[key] = balls(cell.reference["image"], cell.generated["image"], k, near_real(cell, k), near_generated(cell, k))
    return cell.memo[key]


def parts_of(cell: CellFeatures, k: int) -> BallParts | None:
    """Search the cell once for all its parts; None where that would keep too much."""
    key = (NAME, "parts", k)
    if key not in cell.memo:
        cell.memo[key] = balls_of_parts(cell.reference["image"], cell.generated["image"], k, near_real(cell, k))
    return cell.memo[key]


def loss_of_real(cell: CellFeatures, k: int) -> BallLoss:
    """Count what changes in the reference's balls when one of its images is left out."""
    return ball_loss(cell.reference["image"], cell.generated["image"], near_real(cell, k))


def near_real(cell: CellFeatures, k: int) -> Neighbours:
    """Find the k nearest neighbours within the reference, once per run."""
    key = (NAME, "image", k)
    if key not in cell.reference_memo:
        cell.reference_memo[key] = nearest_neighbours(cell.reference["image"], k, "reference")
    return cell.reference_memo[key]


def near_generated(cell: CellFeatures, k: int) -> Neighbours:
    """Find the k nearest neighbours within the cell's images, once for all metrics of the cell."""
    key = (NAME, "generated", k)
    if key not in cell.memo:
        cell.memo[key] = nearest_neighbours(cell.generated["image"], k, "generated")
    return cell.memo[key]
