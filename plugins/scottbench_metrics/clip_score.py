"""CLIP score: mean cosine between each image's features and its own prompt's (raw; Hessel et al. 2021 without w and clamp)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scottbench import CellFeatures, Influence, metrics
from scottbench.metrics import BadFeatures
from scottbench_metrics.options import ClipOptions

if TYPE_CHECKING:
    import numpy as np


def clip_score(cell: CellFeatures, options: ClipOptions) -> float:
    """Mean over items of cos(image features, prompt features), -1..1, times the scale. Features need not be normalised."""
    return float(items(cell, options).mean())


def items(cell: CellFeatures, options: ClipOptions) -> np.ndarray:
    """(n,) cosine of each image with its prompt, times the scale."""
    if "clip" not in cell.text:
        raise BadFeatures("the 'clip' extractor of this preset has no text tower. Name an open_clip model under [extractors.clip].")
    return options.scale * metrics.clip_score(cell.generated["clip"], cell.text["clip"]).items


def influence(cell: CellFeatures, options: ClipOptions) -> Influence:
    values = items(cell, options)
    return Influence(values - values.mean(), None)
