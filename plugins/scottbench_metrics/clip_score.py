"""CLIP score: mean cosine between each image's features and its own prompt's (raw; Hessel et al. 2021 without w and clamp)."""

from __future__ import annotations

import numpy as np

from scottbench.nouns import Cell, NoOptions
from scottbench.stats import BadFeatures, feature_matrix


def clip_score(cell: Cell, options: NoOptions) -> float:
    """Mean over items of cos(image features, prompt features), -1..1. Features need not be normalised."""
    if "clip" not in cell.text:
        raise BadFeatures("the 'clip' extractor of this preset has no text tower. Name an open_clip model under [extractors.clip].")
    return mean_cosine(cell.features["clip"], cell.text["clip"])


def mean_cosine(images: np.ndarray, texts: np.ndarray) -> float:
    """(n, d) and (n, d) -> mean over rows of the cosine, in float64. Raises BadFeatures for a zero row or unequal shapes."""
    if np.shape(images) != np.shape(texts):
        raise BadFeatures(
            f"image features have shape {np.shape(images)}, prompt features {np.shape(texts)}. Both must be of one extractor."
        )
    images, texts = _unit_rows(images, "image"), _unit_rows(texts, "prompt")
    return float(np.einsum("nd,nd->n", images, texts).mean())


def _unit_rows(features: np.ndarray, what: str) -> np.ndarray:
    features = np.asarray(feature_matrix(features, what, least=1), dtype=np.float64)
    # A row is first divided by its largest entry, so that squaring neither overflows nor underflows.
    largest = np.abs(features).max(axis=1, keepdims=True)
    if not largest.all():
        raise BadFeatures(
            f"{int((largest == 0).sum())} {what} feature vectors are all zero and have no direction. Check the 'clip' extractor's weights."
        )
    features = features / largest
    return features / np.linalg.norm(features, axis=1, keepdims=True)
