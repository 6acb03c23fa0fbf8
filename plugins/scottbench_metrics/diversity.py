"""In-prompt diversity: mean distance between the features of two seeds' images of one prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scottbench import CellFeatures, Influence
from scottbench.metrics import pairwise_distance
from scottbench_metrics.options import DistanceOptions

if TYPE_CHECKING:
    import numpy as np


def diversity(cells: list[CellFeatures], options: DistanceOptions) -> float:
    """Mean over prompts and pairs of seeds; cells: one per seed, of the same items in the same order."""
    return float(items(cells, options).mean())


def items(cells: list[CellFeatures], options: DistanceOptions) -> np.ndarray:
    """(n,) mean distance over pairs of seeds, one per prompt."""
    import numpy as np

    return pairwise_distance(np.stack([cell.generated["image"] for cell in cells]), options.distance).items


def influence(cells: list[CellFeatures], options: DistanceOptions) -> Influence:
    values = items(cells, options)
    return Influence(values - values.mean(), None)
