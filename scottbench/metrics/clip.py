"""CLIP score: the cosine between each image's features and its own prompt's (Hessel et al. 2021, without their w = 2.5 and clamp)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scottbench.metrics.checks import BadFeatures, feature_matrix


@dataclass(frozen=True)
class ClipScore:
    """Raw cosines. Papers print them as they are, times 100, or times 2.5 with negative ones set to 0."""

    value: float
    """Mean of the items, -1..1."""
    items: np.ndarray
    """(n,) float64 cosine of each image with its prompt."""


def clip_score(images: np.ndarray, texts: np.ndarray) -> ClipScore:
    """Compute the CLIP score of images and their prompts, in float64.

    images, texts: (n, d) float features of one extractor, n >= 1; row i of `texts` is the prompt of image i. Rows need not have length 1.
    Raises BadFeatures for unequal shapes, NaN or infinite values, and rows of zeros, which have no direction.
    """
    if np.shape(images) != np.shape(texts):
        raise BadFeatures(
            f"image features have shape {np.shape(images)}, prompt features {np.shape(texts)}. Both must be of one extractor."
        )
    items = np.einsum("nd,nd->n", unit_rows(images, "image"), unit_rows(texts, "prompt"))
    return ClipScore(float(items.mean()), items)


def unit_rows(features: np.ndarray, what: str) -> np.ndarray:
    """Scale the rows of (n, d) features to length 1; float64. Raises BadFeatures for values not finite and rows of zeros."""
    features = np.asarray(feature_matrix(features, what, least=1), dtype=np.float64)
    # by the largest entry first, so that squaring neither overflows nor underflows
    largest = np.abs(features).max(axis=1, keepdims=True)
    if not largest.all():
        raise BadFeatures(
            f"{int((largest == 0).sum())} {what} feature vectors are all zero and have no direction. Check the extractor's weights."
        )
    features = features / largest
    return features / np.linalg.norm(features, axis=1, keepdims=True)
