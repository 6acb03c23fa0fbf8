"""Multi-scale structural similarity of images (Wang, Simoncelli & Bovik 2003), and the diversity within a prompt that it measures.

torchmetrics compares the images at each scale. The scales are put together here: its own function for all of them refuses images of 88
to 98 pixels, and has no exponents for images that are too small for five scales.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import avg_pool2d

from scottbench.metrics.checks import BadFeatures
from scottbench.metrics.diversity import Diversity, check_seeds, mean_over_pairs

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, finest first (Wang et al. 2003, sect. 3.2)."""
WINDOW = 11
"""Pixels of torchmetrics' Gaussian window, whose width is 1.5."""
BATCH = 16
"""Image pairs compared at a time."""


def scales(height: int, width: int) -> int:
    """Count the scales that images of this size have, 1..5: the coarsest image must not be smaller than the window, 11 pixels.

    64x64 has 3 scales (64, 32, 16); Wang's five need 176 pixels. Raises BadFeatures for images smaller than the window.
    """
    side = min(height, width)
    if side < WINDOW:
        raise BadFeatures(f"images are {width}x{height}; structural similarity needs at least {WINDOW}x{WINDOW} pixels.")
    return sum(side // 2**scale >= WINDOW for scale in range(len(WEIGHTS)))


def ms_ssim(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the multi-scale structural similarity of pairs of images, (n,) float64: 1 for equal images, lower for different ones.

    a, b: (n, H, W, 3) uint8, image i of `a` beside image i of `b`. The Gaussian window is 11x11 of width 1.5; K1 = 0.01, K2 = 0.03, range
    255. Scales halve by 2x2 means. Their exponents are `WEIGHTS`; images too small for five scales use the first few, divided by their
    sum. Borders are torchmetrics': images are reflected, contrast counts away from the border, the coarsest similarity everywhere.
    Negative terms become 0.
    Raises BadFeatures for another shape or dtype, unequal shapes, or images under 11 pixels.
    """
    a, b = np.asarray(a), np.asarray(b)
    if a.ndim != 4 or a.shape[-1] != 3 or a.dtype != np.uint8 or a.shape != b.shape or b.dtype != np.uint8 or not len(a):
        raise BadFeatures(f"images have shapes {a.shape} and {b.shape}, {a.dtype} and {b.dtype}; expected (n, H, W, 3) uint8, both alike.")
    parts = [slice(start, start + BATCH) for start in range(0, len(a), BATCH)]
    return np.concatenate([_pyramid(*(torch.from_numpy(v[part]).permute(0, 3, 1, 2).float() for v in (a, b))) for part in parts])


def ms_ssim_diversity(images: np.ndarray) -> Diversity:
    """Compute the mean similarity between the images of one prompt at two seeds (Odena et al. 2017); 1 means no diversity.

    images: (S, n, H, W, 3) uint8, of n prompts at S seeds. Raises BadFeatures as `ms_ssim`, and for S < 2.
    """
    check_seeds(len(images))
    return mean_over_pairs(list(images), ms_ssim)


def _pyramid(a: Tensor, b: Tensor) -> np.ndarray:
    """Multiply the terms of all scales, for (N,3,H,W) float32 0..255 pairs; (N,)."""
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim  # seconds to import

    count = scales(*a.shape[2:])
    weights = np.array(WEIGHTS[:count]) / (sum(WEIGHTS[:count]) if count < len(WEIGHTS) else 1)
    result = np.ones(len(a))
    for scale, weight in enumerate(weights):
        similarity, contrast = ssim(a, b, data_range=255.0, reduction="none", return_contrast_sensitivity=True)
        term = similarity if scale == count - 1 else contrast
        result *= term.double().clamp(min=0).numpy() ** weight
        a, b = avg_pool2d(a, 2), avg_pool2d(b, 2)
    return result
