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

BLOCK_ELEMENTS = 1 << 22
"""Kernel values held at a time."""


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
    """Sum the kernel (gamma x'y + coef)^degree over all pairs of rows, in float64.

    real, generated: (m, d) and (n, d) float features. gamma: None is 1 / d. within_real: that of an earlier call with the same `real`.
    Raises BadFeatures for fewer than two rows, unequal d, NaN or infinite values.
    """
    feature_matrix(real, "reference"), feature_matrix(generated, "generated")
    real, generated = (features.astype(np.float64, copy=False) for features in check_pair(real, generated))
    kernel = (degree, 1 / real.shape[1] if gamma is None else gamma, coef)
    with np.errstate(over="ignore", invalid="ignore"):  # `distance_of` looks at what comes out
        return KernelSums(
            _row_sums(real, real, kernel)[0] - _own(real, kernel) if within_real is None else within_real,
            _row_sums(generated, generated, kernel)[0] - _own(generated, kernel),
            *_row_sums(real, generated, kernel),
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


def _row_sums(x: np.ndarray, y: np.ndarray, kernel: tuple[int, float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Sum the (m, n) kernel matrix over its columns, (m,), and over its rows, (n,), block by block."""
    degree, gamma, coef = kernel
    rows, columns = np.empty(len(x)), np.zeros(len(y))
    step = max(1, BLOCK_ELEMENTS // len(y))
    for start in range(0, len(x), step):
        part = slice(start, start + step)
        values = x[part] @ y.T
        values *= gamma
        values += coef
        values = _power(values, degree)
        rows[part] = values.sum(axis=1)
        columns += values.sum(axis=0)
    return rows, columns


def _own(x: np.ndarray, kernel: tuple[int, float, float]) -> np.ndarray:
    """Compute the kernel of every row with itself, (n,)."""
    degree, gamma, coef = kernel
    return _power(np.einsum("nd,nd->n", x, x) * gamma + coef, degree)


def _power(values: np.ndarray, degree: int) -> np.ndarray:
    """Compute values^degree by products: NumPy's own power of float64 takes many times as long."""
    result = values.copy()
    for _ in range(degree - 1):
        result *= values
    return result
