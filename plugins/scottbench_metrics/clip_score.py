"""CLIP score: mean cosine between each image's features and its own prompt's (raw; Hessel et al. 2021 without w and clamp)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scottbench import CellFeatures, Influence, metrics
from scottbench.metrics import BadFeatures
from scottbench.stats.intervals import of_mean
from scottbench_metrics.options import ClipOptions

if TYPE_CHECKING:
    import numpy as np


def clip_score(cell: CellFeatures, options: ClipOptions) -> float:
    """Average cos(image features, prompt features) over items, -1..1, times the scale. Features need not be normalised."""
    return float(items(cell, options).mean())


def items(cell: CellFeatures, options: ClipOptions) -> np.ndarray:
    """Compute the cosine of each image with its prompt, times the scale; (n,) float64. Raises BadFeatures, also without a text tower."""
    if "clip" not in cell.text:
        raise BadFeatures("the 'clip' extractor of this preset has no text tower. Name an open_clip model under [extractors.clip].")
    return options.scale * metrics.clip_score(cell.generated["clip"], cell.text["clip"]).items


def influence(cell: CellFeatures, options: ClipOptions) -> Influence:
    """Compute the influence of every image: the items are independent."""
    return of_mean(items(cell, options))
