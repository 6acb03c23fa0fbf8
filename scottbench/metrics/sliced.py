"""The sliced Wasserstein distance between two feature sets; of Inception features it is MIND, the Monge Inception Distance.

    MIND = 3 d / M * sum_u W(u'x, u'y),   W = integral over q of (F_x^-1(q) - F_y^-1(q))^2                       (Berthet et al. 2026)

u are M random directions of length 1, F_x and F_y the distribution functions of the two sets projected on u. Of as many rows on both
sides W is the mean squared difference of the sorted projections. Where the numbers differ, the integral is taken exactly, with all rows;
the peer, torch-fidelity, drops rows at random. The directions are drawn as torch-fidelity draws them, with its seed by default: equal
features give its value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scottbench.metrics.checks import BadFeatures, feature_matrix
from scottbench.registry.nouns import Influence

BLOCK_ELEMENTS = 1 << 21
"""Projected features held at a time."""


@dataclass(frozen=True)
class SlicedDistance:
    """The distance, and how far it depends on the directions drawn."""

    value: float
    """3 d times the mean over the directions, in squared feature units, >= 0."""
    per_direction: np.ndarray
    """(M,) float64, 3 d W of each direction; their mean is the value."""
    influence: Influence
    """The influence of every row: the derivative of the value in the rows' weights."""


def sliced_distance(real: np.ndarray, generated: np.ndarray, projections: int = 1000, seed: int = 2020) -> SlicedDistance:
    """Compute MIND between two feature sets, and the influence of every row on it.

    The influence of y is the mean over the directions of the Kantorovich potential phi with phi'(s) = 2 (s - T(s)), T the monotone map from
    the generated projections to the real ones; at a step of T the mean of its two ends counts. That of x is the mirror image.
    real, generated: (m, d) and (n, d) float features; m and n may differ. projections: M; seed: of their directions.
    Raises BadFeatures for fewer than two rows, unequal d, NaN or infinite values, no projection, and an overflow.
    """
    real, generated = feature_matrix(real, "reference"), feature_matrix(generated, "generated")
    if real.shape[1] != generated.shape[1]:
        raise BadFeatures(
            f"reference features have {real.shape[1]} dimensions, generated ones {generated.shape[1]}. Both must be of one extractor."
        )
    if projections < 1:
        raise BadFeatures(f"{projections} projections: a sliced distance needs at least 1.")
    plan = _Coupling.of(len(real), len(generated))
    values: list[np.ndarray] = []
    of_real, of_generated = np.zeros(len(real)), np.zeros(len(generated))
    with np.errstate(over="ignore", invalid="ignore"):  # looked at below
        for (x, x_order), (y, y_order) in _projected(real, generated, directions(real.shape[1], projections, seed)):
            values.append((plan.weights[:, None] * (y[plan.generated] - x[plan.real]) ** 2).sum(axis=0))
            _add(of_generated, _potential(y, *(x[i] for i in plan.real_beside)), y_order)
            _add(of_real, _potential(x, *(y[i] for i in plan.generated_beside)), x_order)
        factor = 3.0 * real.shape[1]
        per_direction = factor * np.concatenate(values)
        value = float(per_direction.mean())
        sides = [factor / projections * side for side in (of_generated, of_real)]
    if not np.isfinite(value) or not all(np.isfinite(side).all() for side in sides):
        raise BadFeatures("the sliced distance overflows: features are out of numeric range. Check the extractor's weights.")
    return SlicedDistance(value, per_direction, Influence(*(side - side.mean() for side in sides)))


def directions(d: int, projections: int, seed: int) -> np.ndarray:
    """Draw directions uniformly from the unit sphere: (d, projections) float64, by torch's generator in float32."""
    import torch

    drawn = torch.randn(projections, d, generator=torch.Generator().manual_seed(seed))
    return (drawn / drawn.norm(dim=1, keepdim=True).clamp_min(1e-12)).double().numpy().T


@dataclass(frozen=True)
class _Coupling:
    """How the sorted rows of two sets, m and n, are matched: a function of the two numbers alone."""

    real: np.ndarray
    """(p,) int64, the real row of each piece of the monotone coupling."""
    generated: np.ndarray
    """(p,) int64, the generated row of each piece."""
    weights: np.ndarray
    """(p,) float64, the mass of each piece; sum 1."""
    real_beside: tuple[np.ndarray, np.ndarray]
    """((n - 1,), (n - 1,)) int64: the real rows just below and just above each border between two generated rows."""
    generated_beside: tuple[np.ndarray, np.ndarray]
    """((m - 1,), (m - 1,)) int64: the generated rows beside each border between two real rows."""

    @classmethod
    def of(cls, m: int, n: int) -> _Coupling:
        """Match m real and n generated rows, each of the same mass in its set."""
        # borders in units of 1 / (m n), whole numbers: no rounding decides which rows meet
        ends = np.union1d(np.arange(1, m + 1) * n, np.arange(1, n + 1) * m)
        starts = np.concatenate([[0], ends[:-1]])
        border_of_real, border_of_generated = np.arange(1, m) * n, np.arange(1, n) * m
        return cls(
            starts // n, starts // m, (ends - starts) / (m * n),
            ((border_of_generated - 1) // n, border_of_generated // n), ((border_of_real - 1) // m, border_of_real // m),
        )  # fmt: skip


Sorted = tuple[np.ndarray, np.ndarray]
"""(rows, directions) projections, each column sorted, and the rows' places in that order."""


def _projected(real: np.ndarray, generated: np.ndarray, axes: np.ndarray) -> Iterator[tuple[Sorted, Sorted]]:
    """Yield the sorted projections of both sets on (d, M) axes, some directions at a time. Both are moved by the real mean: the difference
    is what counts, and large common values would cost digits."""
    centre = real.mean(axis=0, dtype=np.float64)
    step = max(1, BLOCK_ELEMENTS // (len(real) + len(generated)))
    for start in range(0, axes.shape[1], step):
        part = axes[:, start : start + step]
        yield _sort(real @ part - centre @ part), _sort(generated @ part - centre @ part)


def _sort(values: np.ndarray) -> Sorted:
    """Sort every column of (rows, directions)."""
    order = np.argsort(values, axis=0)
    return np.take_along_axis(values, order, axis=0), order


def _potential(values: np.ndarray, below: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Sum up phi at sorted values (rows, directions), from 0 at the lowest; below, above: (rows - 1, directions), T beside each border."""
    low, high = values[:-1], values[1:]
    result = np.zeros_like(values)
    np.cumsum((high - low) * (high + low - below - above), axis=0, out=result[1:])
    return result - result.mean(axis=0)


def _add(total: np.ndarray, potentials: np.ndarray, order: np.ndarray) -> None:
    """Add (rows, directions) potentials in sorted order to the (rows,) total in the rows' own order."""
    total += np.bincount(order.ravel(), potentials.ravel(), minlength=len(total))
