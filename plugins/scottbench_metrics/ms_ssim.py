"""MS-SSIM within a prompt: mean structural similarity of two seeds' images of one prompt (Odena et al. 2017); high = alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scottbench import CellFeatures, Influence, NoOptions, metrics
from scottbench.metrics import BadFeatures
from scottbench_metrics.once import once

if TYPE_CHECKING:
    import numpy as np

BATCH = 64
"""Prompts whose images are held at a time."""


def ms_ssim(cells: list[CellFeatures], options: NoOptions) -> float:
    """Mean over prompts and pairs of seeds, 0..1; cells: one per seed, of the same items in the same order."""
    return float(items(cells, options).mean())


def items(cells: list[CellFeatures], options: NoOptions) -> np.ndarray:
    """(n,) mean similarity over pairs of seeds, one per prompt."""
    import numpy as np

    if any(cell.images is None for cell in cells):
        raise BadFeatures("structural similarity needs the generated images, and only features are at hand.")
    parts = [range(start, min(start + BATCH, cells[0].n)) for start in range(0, cells[0].n, BATCH)]

    def similarities() -> np.ndarray:
        return np.concatenate([metrics.ms_ssim_diversity(np.stack([cell.images(part) for cell in cells])).items for part in parts])

    return once(cells, "ms_ssim", similarities)


def influence(cells: list[CellFeatures], options: NoOptions) -> Influence:
    values = items(cells, options)
    return Influence(values - values.mean(), None)
