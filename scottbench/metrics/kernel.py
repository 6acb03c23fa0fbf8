"""Kernel distance (KID): the unbiased squared maximum mean discrepancy of a polynomial kernel.

    k(x, y) = (x'y / d + 1)^3;   MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean_{i, j} k(x_i, y_j)
                                                                          (Binkowski et al. 2018, eq. 4; Gretton et al. 2012, eq. 3)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict, Unpack

import numpy as np

from scottbench.metrics.ball_counts import check_pair
from scottbench.metrics.checks import BadFeatures, feature_matrix
from scottbench.registry.nouns import Influence

TILE = 2048
"""Rows of either set in a tile of the kernel matrix."""
SINGLE_FROM = 1 << 28
"""From so many pairs of rows on (about 16,000 x 16,000), products are taken in float32, twice as fast; sums are float64 always. Measured at
5,063 x 3,750 x 2,048 of Inception's spectrum: the distance moves by 1e-10 of the mean kernel, a row's sum by 7e-9 of itself."""


class Kernel(TypedDict, total=False):
    """The parts of (gamma x'y + coef)^degree that a call names; the others have the defaults of `kernel_sums`."""

    degree: int
    gamma: float | None
    coef: float


@dataclass(frozen=True)
class KernelDistance:
    """An unbiased estimate of the squared MMD. It may be negative; papers print it times 1000."""

    value: float
    """The estimate from the whole sets, or its mean over the subsets."""
    subset_values: np.ndarray
    """(subsets,) float64, one estimate each; (0,) for the whole sets."""
    subset_size: int | None
    """Rows of each side in a subset; None for the whole sets."""


@dataclass(frozen=True)
class KernelSums:
    """Row sums of the three kernel matrices, from which both value and influence are made."""

    within_real: np.ndarray
    """(m,) float64: sum over i' != i of k(x_i, x_i')."""
    within_generated: np.ndarray
    """(n,) float64: sum over j' != j of k(y_j, y_j')."""
    across_real: np.ndarray
    """(m,) float64: sum over j of k(x_i, y_j)."""
    across_generated: np.ndarray
    """(n,) float64: sum over i of k(x_i, y_j)."""


def kernel_sums(
    real: np.ndarray,
    generated: np.ndarray,
    *,
    degree: int = 3,
    gamma: float | None = None,
    coef: float = 1.0,
    within_real: np.ndarray | None = None,
) -> KernelSums:
    """Sum the kernel (gamma x'y + coef)^degree over all pairs of rows, in float64; from SINGLE_FROM pairs on the products are float32.

    real, generated: (m, d) and (n, d) float features. gamma: None is 1 / d. within_real: that of an earlier call with the same `real`.
    Raises BadFeatures for fewer than two rows, unequal d, NaN or infinite values.
    """
    feature_matrix(real, "reference"), feature_matrix(generated, "generated")
    number = np.float64 if len(real) * len(generated) < SINGLE_FROM else np.float32
    kernel = (degree, 1 / real.shape[1] if gamma is None else gamma, coef)
    with np.errstate(over="ignore", invalid="ignore"):  # `distance_of` looks at what comes out
        real, generated = (features.astype(number, copy=False) for features in check_pair(real, generated))
        return KernelSums(
            _sums_within(real, kernel) if within_real is None else within_real,
            _sums_within(generated, kernel),
            *_sums_across(real, generated, kernel),
        )


def kernel_distance(
    real: np.ndarray, generated: np.ndarray, *, subsets: int = 0, subset_size: int = 1000, seed: int = 0, **kernel: Unpack[Kernel]
) -> KernelDistance:
    """Compute the kernel distance (KID) between two feature sets.

    real, generated: (m, d) and (n, d) float features; m and n may differ. kernel: degree, gamma and coef, as in `kernel_sums`.
    subsets = 0 takes all rows. subsets > 0 is the mean over that many pairs of subsets of min(subset_size, m, n) rows, drawn without
    replacement by `seed`: the rule of clean-fid and torchmetrics (100 subsets of 1000), which estimates the same with more noise.
    Raises BadFeatures for fewer than two rows, unequal d, NaN or infinite values, a negative number of subsets, and an overflow.
    """
    if subsets == 0:
        return KernelDistance(distance_of(kernel_sums(real, generated, **kernel)), np.empty(0), None)
    if subsets < 0 or subset_size < 2:
        raise BadFeatures(f"{subsets} subsets of {subset_size} rows: at least 0 subsets (0 = all rows) of at least 2 rows.")
    real, generated = check_pair(real, generated)
    size, rng, values = min(subset_size, len(real), len(generated)), np.random.default_rng(seed), []
    for _ in range(subsets):
        chosen = (features[rng.choice(len(features), size, replace=False)] for features in (real, generated))
        values.append(distance_of(kernel_sums(*chosen, **kernel)))
    return KernelDistance(float(np.mean(values)), np.array(values), size)


def distance_of(sums: KernelSums) -> float:
    """Compute the unbiased squared MMD from its sums. Raises BadFeatures if it overflows."""
    m, n = len(sums.within_real), len(sums.within_generated)
    value = sums.within_real.sum() / (m * (m - 1)) + sums.within_generated.sum() / (n * (n - 1)) - 2 * sums.across_real.sum() / (m * n)
    if not np.isfinite(value):
        raise BadFeatures("the kernel distance overflows: features are out of numeric range. Check the extractor's weights.")
    return float(value)


def kernel_influence(real: np.ndarray, generated: np.ndarray, sums: KernelSums | None = None, **kernel: Unpack[Kernel]) -> Influence:
    """Compute the influence of every row on the kernel distance of the whole sets (Hajek projection).

    The influence of y_j is 2 (mean_{i != j} k(y_j, y_i) - mean_i k(x_i, y_j)), centred, and that of x_i is its mirror image.
    real, generated: (m, d) and (n, d) float features. sums: what `kernel_sums` made of them, if it is at hand. kernel: degree, gamma and
    coef, as in `kernel_sums`. Raises BadFeatures as `kernel_sums`.
    """
    sums = kernel_sums(real, generated, **kernel) if sums is None else sums
    m, n = len(sums.within_real), len(sums.within_generated)
    of_generated = 2 * (sums.within_generated / (n - 1) - sums.across_generated / m)
    of_real = 2 * (sums.within_real / (m - 1) - sums.across_real / n)
    return Influence(of_generated - of_generated.mean(), of_real - of_real.mean())


def _sums_within(x: np.ndarray, kernel: tuple[int, float, float]) -> np.ndarray:
    """Sum the (n, n) kernel matrix over its rows, without the diagonal, (n,) float64; a tile and its mirror image are made once."""
    sums = -_own(x, kernel)
    for rows in _tiles(len(x)):
        for columns in _tiles(len(x), rows.start):
            values = _values(x[rows], x[columns], kernel)
            sums[rows] += values.sum(axis=1, dtype=np.float64)
            if columns != rows:
                sums[columns] += values.sum(axis=0, dtype=np.float64)
    return sums


def _sums_across(x: np.ndarray, y: np.ndarray, kernel: tuple[int, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Sum the (m, n) kernel matrix over its columns, (m,) float64, and over its rows, (n,) float64."""
    of_x, of_y = np.zeros(len(x)), np.zeros(len(y))
    for rows in _tiles(len(x)):
        for columns in _tiles(len(y)):
            values = _values(x[rows], y[columns], kernel)
            of_x[rows] += values.sum(axis=1, dtype=np.float64)
            of_y[columns] += values.sum(axis=0, dtype=np.float64)
    return of_x, of_y


def _tiles(n: int, first: int = 0) -> list[slice]:
    """Cut first..n into slices of TILE rows."""
    return [slice(start, min(start + TILE, n)) for start in range(first, n, TILE)]


def _values(x: np.ndarray, y: np.ndarray, kernel: tuple[int, float, float]) -> np.ndarray:
    """Compute the kernel of all pairs of (a, d) and (b, d) rows, (a, b), in their own precision."""
    degree, gamma, coef = kernel
    values = x @ y.T
    values *= values.dtype.type(gamma)
    values += values.dtype.type(coef)
    return _power(values, degree)


def _own(x: np.ndarray, kernel: tuple[int, float, float]) -> np.ndarray:
    """Compute the kernel of every row with itself, (n,) float64."""
    degree, gamma, coef = kernel
    return _power(np.einsum("nd,nd->n", x, x, dtype=np.float64) * gamma + coef, degree)


def _power(values: np.ndarray, degree: int) -> np.ndarray:
    """Compute values^degree by products: NumPy's own power of float64 takes many times as long."""
    result = values.copy()
    for _ in range(degree - 1):
        result *= values
    return result
