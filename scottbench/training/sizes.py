"""How many items go through the networks at once where a training only looks: by their size, so that 512x512 fits where 64x64 does."""

from __future__ import annotations

import math
from collections.abc import Sequence

POINTS = 2**15
"""Points of latents, height times width, of one call: 8 latents of 64x64, 128 of 16x16."""


def rows_at_once(side: Sequence[int], most: int) -> int:
    """Return how many latents of height and width `side` go through a network at once: at most `most`, at least 1."""
    return max(1, min(most, POINTS // max(1, math.prod(side))))


def weighted_means(found: Sequence[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """Return the means of {name: value} of several parts, each of which counts by its number of items; a value that a part lacks, or has
    as NaN because it had no item of the kind, is left to the others."""
    means = {}
    for name in dict.fromkeys(key for _, values in found for key in values):
        parts = [(n, values[name]) for n, values in found if name in values and not math.isnan(values[name])]
        means[name] = sum(n * value for n, value in parts) / sum(n for n, _ in parts) if parts else math.nan
    return means
