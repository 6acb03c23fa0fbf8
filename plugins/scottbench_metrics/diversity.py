"""In-prompt diversity: the mean distance between the features of one prompt's images at two seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scottbench import CellFeatures, Influence
from scottbench.metrics import pairwise_distance
from scottbench.stats.intervals import of_mean
from scottbench_metrics.options import DistanceOptions

if TYPE_CHECKING:
    import numpy as np


def diversity(cells: list[CellFeatures], options: DistanceOptions) -> float:
    """Average the distance over prompts and pairs of seeds. cells: one per seed, of the same items in the same order."""
    return float(items(cells, options).mean())


def items(cells: list[CellFeatures], options: DistanceOptions) -> np.ndarray:
    """Compute the mean distance over pairs of seeds for each prompt, (n,) float64. Raises BadFeatures, also for one seed."""
    import numpy as np

    return pairwise_distance(np.stack([cell.generated["image"] for cell in cells]), options.distance).items


def influence(cells: list[CellFeatures], options: DistanceOptions) -> Influence:
    """Compute the influence of every prompt: the items are independent."""
    return of_mean(items(cells, options))
