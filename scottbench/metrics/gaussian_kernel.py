"""The squared maximum mean discrepancy of a Gaussian kernel between features of unit length; on CLIP features it is CMMD.

    k(x, y) = exp(-|x - y|^2 / (2 sigma^2))
    MMD^2 = mean_{i, i'} k(x_i, x_i') + mean_{j, j'} k(y_j, y_j') - 2 mean_{i, j} k(x_i, y_j)
                                                                (Jayasumana et al. 2024, sect. 4; Gretton et al. 2012, eq. 5)

The means take every pair, also a row with itself: the V-statistic, which is what the authors' code prints. It is never negative, and 0 for
equal sets. The unbiased estimate (eq. 3, the form that KID has in `kernel.py`) is lower by mean (1 - k) over different rows, divided by
their number, summed over the two sets: a few thousandths for CLIP features, scale 1000 and 5,000 images of each side.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scottbench.metrics.checks import BadFeatures, feature_matrix
from scottbench.metrics.clip import unit_rows
from scottbench.registry.nouns import Influence

BLOCK_ELEMENTS = 1 << 22
"""Kernel values held at a time."""


@dataclass(frozen=True)
class GaussianSums:
    """Row means of 1 - k, from which both value and influence are made.

    k is so near 1 that it would cost digits; the ones cancel in the distance.
    """

    within_real: np.ndarray
    """(m,) float64: mean over i' of 1 - k(x_i, x_i')."""
    within_generated: np.ndarray
    """(n,) float64: mean over j' of 1 - k(y_j, y_j')."""
    across_real: np.ndarray
    """(m,) float64: mean over j of 1 - k(x_i, y_j)."""
    across_generated: np.ndarray
    """(n,) float64: mean over i of 1 - k(x_i, y_j)."""


def gaussian_sums(real: np.ndarray, generated: np.ndarray, sigma: float = 10.0, within_real: np.ndarray | None = None) -> GaussianSums:
    """Average 1 - k over all pairs of rows, in float64, after scaling every row to length 1.

    real, generated: (m, d) and (n, d) float features. sigma: width of the kernel. within_real: that of an earlier call with the same
    `real` and sigma. Raises BadFeatures for fewer than two rows, unequal d, NaN or infinite values, rows of zeros, a sigma not above 0.
    """
    if not sigma > 0:
        raise BadFeatures(f"the width of the Gaussian kernel is {sigma}; it must be above 0.")
    real, generated = feature_matrix(real, "reference"), feature_matrix(generated, "generated")
    if real.shape[1] != generated.shape[1]:
        raise BadFeatures(
            f"reference features have {real.shape[1]} dimensions, generated ones {generated.shape[1]}. Both must be of one extractor."
        )
    real, generated = unit_rows(real, "reference"), unit_rows(generated, "generated")
    return GaussianSums(
        _within(real, sigma) if within_real is None else within_real,
        _within(generated, sigma),
        *_across(real, generated, sigma),
    )


def gaussian_distance(real: np.ndarray, generated: np.ndarray, sigma: float = 10.0, scale: float = 1000.0) -> float:
    """Compute the squared MMD of a Gaussian kernel between two feature sets, >= 0; on CLIP ViT-L/14-336 features it is CMMD.

    real, generated: (m, d) and (n, d) float features, each row scaled to length 1 here. sigma: width of the kernel; scale: the value is
    multiplied by it. Both are the paper's by default. Raises BadFeatures as `gaussian_sums`.
    """
    return scale * mmd_of(gaussian_sums(real, generated, sigma))


def gaussian_influence(
    real: np.ndarray, generated: np.ndarray, sigma: float = 10.0, scale: float = 1000.0, sums: GaussianSums | None = None
) -> Influence:
    """Compute the influence of every row on the `gaussian_distance`, the derivative in the rows' weights.

    That of y_j is 2 (mean_j' k(y_j, y_j') - mean_i k(x_i, y_j)), centred, and that of x_i is its mirror image.
    real, generated: (m, d) and (n, d) float features. sigma, scale: as in `gaussian_distance`. sums: what `gaussian_sums` made of them, if
    it is at hand. Raises BadFeatures as `gaussian_sums`.
    """
    sums = gaussian_sums(real, generated, sigma) if sums is None else sums
    of_generated = 2 * scale * (sums.across_generated - sums.within_generated)
    of_real = 2 * scale * (sums.across_real - sums.within_real)
    return Influence(of_generated - of_generated.mean(), of_real - of_real.mean())


def mmd_of(sums: GaussianSums) -> float:
    """Compute the squared MMD from its sums, with scale 1. Rounding below 0 becomes 0."""
    value = 2 * sums.across_real.mean() - sums.within_real.mean() - sums.within_generated.mean()
    return max(float(value), 0.0)


def _within(rows: np.ndarray, sigma: float) -> np.ndarray:
    """Average 1 - k over the columns of the (n, n) matrix of one set, (n,). Each pair is taken once."""
    n, step = len(rows), max(1, BLOCK_ELEMENTS // len(rows))
    total = np.zeros(n)
    for start in range(0, n, step):
        part = slice(start, start + step)
        own = _distances(rows[part], rows[part], sigma)
        np.fill_diagonal(own, 0.0)  # a row is at no distance from itself; the product rounds
        total[part] += own.sum(axis=1)
        if start + step < n:
            block = _distances(rows[part], rows[start + step :], sigma)
            total[part] += block.sum(axis=1)
            total[start + step :] += block.sum(axis=0)
    return total / n


def _across(x: np.ndarray, y: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Average 1 - k over the columns of the (m, n) matrix, (m,), and over its rows, (n,), block by block."""
    rows, columns = np.empty(len(x)), np.zeros(len(y))
    step = max(1, BLOCK_ELEMENTS // len(y))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        block = _distances(x[part], y, sigma)
        rows[part] = block.sum(axis=1)
        columns += block.sum(axis=0)
    return rows / len(y), columns / len(x)


def _distances(x: np.ndarray, y: np.ndarray, sigma: float) -> np.ndarray:
    """Compute 1 - k of unit rows, (m, d) and (n, d): (m, n), all >= 0."""
    values = x @ y.T
    values -= 1.0
    values *= 1 / sigma**2  # -|x - y|^2 / (2 sigma^2), as |x| = |y| = 1
    np.minimum(values, 0.0, out=values)
    np.expm1(values, out=values)
    return np.negative(values, out=values)
