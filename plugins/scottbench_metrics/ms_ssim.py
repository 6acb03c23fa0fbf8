"""MS-SSIM within a prompt: the mean structural similarity of one prompt's images at two seeds (Odena et al. 2017); high = alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scottbench import CellFeatures, Influence, NoOptions, metrics
from scottbench.metrics import BadFeatures
from scottbench.stats.intervals import of_mean
from scottbench_metrics.once import once

if TYPE_CHECKING:
    import numpy as np

BATCH = 64
"""Prompts whose images are held at a time."""


def ms_ssim(cells: list[CellFeatures], options: NoOptions) -> float:
    """Average the similarity over prompts and pairs of seeds, 0..1. cells: one per seed, of the same items in the same order."""
    return float(items(cells, options).mean())


def items(cells: list[CellFeatures], options: NoOptions) -> np.ndarray:
    """Compute the mean similarity over pairs of seeds for each prompt, (n,) float64. Raises BadFeatures for one seed or no images."""
    import numpy as np

    readers = [cell.images for cell in cells if cell.images is not None]
    if len(readers) < len(cells):
        raise BadFeatures("structural similarity needs the generated images, and only features are at hand.")
    parts = [range(start, min(start + BATCH, cells[0].n)) for start in range(0, cells[0].n, BATCH)]

    def similarities() -> np.ndarray:
        return np.concatenate([metrics.ms_ssim_diversity(np.stack([images(part) for images in readers])).items for part in parts])

    return once(cells, "ms_ssim", similarities)


def influence(cells: list[CellFeatures], options: NoOptions) -> Influence:
    """Compute the influence of every prompt: the items are independent."""
    return of_mean(items(cells, options))
