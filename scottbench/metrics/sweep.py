"""Min-max harmonic mean of several scores over a sweep of guidance scales and steps (Ravishankar et al. 2026, arXiv 2603.14186).

    u_k(c) = (s_k(c) - min s_k) / (max s_k - min s_k), or (max s_k - s_k(c)) / (max s_k - min s_k) where lower is better;
    MMHM(c) = K / sum_k 1 / (eps + u_k(c)), eps = 0.001

as the authors' code has it (Harvard-AI-and-Robotics-Lab/FairBenchmarkingFlow, src/utils/composite_metric.py), where K = 4 (FID,
Inception score, CLIP score, Pick score). Here K is the number of columns: FID and CLIP score give K = 2, which is our reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scottbench.metrics.checks import BadFeatures

EPSILON = 1e-3
"""Keeps the harmonic mean finite where a cell is the worst in one score."""


@dataclass(frozen=True)
class MinMaxHarmonicMean:
    """Scores of a sweep. They compare within it, or with sweeps scored by the same bounds."""

    values: np.ndarray
    """(cells,) float64. With the sweep's own bounds and K = 2, 0.002 is about the worst in one score and 1.001 the best in all."""
    bounds: np.ndarray
    """(K, 2) float64: least and greatest score used."""
    best: int
    """Index of the cell with the greatest value, the first of equals."""


def mmhm(scores: np.ndarray, higher_is_better: Sequence[bool], bounds: np.ndarray | None = None) -> MinMaxHarmonicMean:
    """Rank the cells of a sweep by several scores together.

    scores: (cells, K), a column per metric, [[fid, clip], ...] say, with higher_is_better = (False, True). bounds: (K, 2) least and
    greatest scores of another sweep; scores beyond them are set to them. (The authors' code does not do this and would divide by 0.)
    A column in which all cells are equal counts as 1 everywhere, as in the authors' code.
    Raises BadFeatures for no cell, other shapes, NaN or infinite scores or bounds.
    """
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or scores.size == 0 or scores.shape[1] != len(higher_is_better):
        raise BadFeatures(f"scores have shape {scores.shape}; expected (cells, {len(higher_is_better)}), at least one cell.")
    if not np.isfinite(scores).all():
        raise BadFeatures(f"{int((~np.isfinite(scores)).any(axis=1).sum())} of {len(scores)} cells have a score that is NaN or infinite.")
    found = np.stack([scores.min(axis=0), scores.max(axis=0)], axis=1) if bounds is None else np.asarray(bounds, np.float64)
    if found.shape != (scores.shape[1], 2) or not np.isfinite(found).all() or (found[:, 0] > found[:, 1]).any():
        raise BadFeatures(f"bounds must be {scores.shape[1]} pairs (least, greatest) of numbers.")
    low, high = found.T
    spread = high - low
    share = np.divide(scores.clip(low, high) - low, spread, out=np.ones_like(scores), where=spread > 0)
    flip = ~np.asarray(higher_is_better, bool) & (spread > 0)
    share[:, flip] = 1 - share[:, flip]
    values = scores.shape[1] / (1 / (EPSILON + share)).sum(axis=1)
    return MinMaxHarmonicMean(values, found, int(values.argmax()))
