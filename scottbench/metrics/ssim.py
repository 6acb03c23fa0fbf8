"""Multi-scale structural similarity of images (Wang, Simoncelli & Bovik 2003), and the diversity within a prompt that it measures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import avg_pool2d, conv2d, pad

from scottbench.metrics.checks import BadFeatures
from scottbench.metrics.diversity import Diversity, check_seeds, mean_over_pairs

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the scales, finest first (Wang et al. 2003, sect. 3.2)."""
WINDOW, SIGMA = 11, 1.5
"""Pixels and width of the Gaussian window."""
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
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
    sum. Borders are those of torchmetrics 1.9, to which the result is equal: images are reflected, contrast counts away from the border,
    the coarsest similarity everywhere. Negative terms become 0.
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
    count = scales(*a.shape[2:])
    weights = np.array(WEIGHTS[:count]) / (sum(WEIGHTS[:count]) if count < len(WEIGHTS) else 1)
    result = np.ones(len(a))
    for scale, weight in enumerate(weights):
        similarity, contrast = _ssim(a, b)
        term = similarity if scale == count - 1 else contrast
        result *= term.double().clamp(min=0).numpy() ** weight
        a, b = avg_pool2d(a, 2), avg_pool2d(b, 2)
    return result


def _ssim(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the means of the structural similarity and of its contrast term alone, (N,) each, for (N,3,H,W) pairs."""
    border = WINDOW // 2
    a, b = (pad(image, [border] * 4, mode="reflect") for image in (a, b))
    mean_a, mean_b, square_a, square_b, product = _blur(torch.cat([a, b, a * a, b * b, a * b])).chunk(5)
    variance = (square_a - mean_a**2).clamp(min=0) + (square_b - mean_b**2).clamp(min=0)
    contrast = (2 * (product - mean_a * mean_b) + C2) / (variance + C2)
    similarity = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1) * contrast
    inner = contrast[..., border:-border, border:-border]
    return similarity.flatten(1).mean(1), inner.flatten(1).mean(1)


def _blur(images: Tensor) -> Tensor:
    """Blur (N,3,H,W) images with the Gaussian window, one axis after the other, wherever it fits."""
    offsets = torch.arange(WINDOW, dtype=torch.float32) - WINDOW // 2
    window = torch.exp(-(offsets**2) / (2 * SIGMA**2))
    window = (window / window.sum()).to(images).expand(images.shape[1], 1, 1, -1)
    images = conv2d(images, window, groups=images.shape[1])
    return conv2d(images, window.transpose(2, 3), groups=images.shape[1])
