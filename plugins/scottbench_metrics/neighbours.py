"""Neighbour searches of a cell, each made once for all metrics; those of the reference once per run."""

from __future__ import annotations

from scottbench.metrics import Balls, Neighbours, ball_loss, balls, nearest_neighbours
from scottbench.metrics.ball_influence import Loss
from scottbench.registry.nouns import Cell

NAME = "scottbench_metrics.neighbours"


def of_cell(cell: Cell, k: int) -> Balls:
    """Who lies in whose ball, of the cell's image features."""
    key = (NAME, "balls", k)
    if key not in cell.memo:
        cell.memo[key] = balls(cell.real["image"], cell.features["image"], k, near_real(cell, k), near_generated(cell, k))
    return cell.memo[key]


def loss_of_real(cell: Cell, k: int) -> Loss:
    """What changes in the reference's balls when one of its images is left out."""
    return ball_loss(cell.real["image"], cell.features["image"], near_real(cell, k))


def near_real(cell: Cell, k: int) -> Neighbours:
    key = (NAME, "image", k)
    if key not in cell.real_memo:
        cell.real_memo[key] = nearest_neighbours(cell.real["image"], k, "reference")
    return cell.real_memo[key]


def near_generated(cell: Cell, k: int) -> Neighbours:
    key = (NAME, "generated", k)
    if key not in cell.memo:
        cell.memo[key] = nearest_neighbours(cell.features["image"], k, "generated")
    return cell.memo[key]
