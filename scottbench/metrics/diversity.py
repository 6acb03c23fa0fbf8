"""In-prompt diversity: how much the images of one prompt differ from seed to seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from scottbench.metrics.checks import BadFeatures, feature_matrix
from scottbench.metrics.clip import unit_rows


@dataclass(frozen=True)
class Diversity:
    """A mean over prompts, where each prompt has a mean over pairs of seeds."""

    value: float
    items: np.ndarray
    """(n,) float64, one per prompt."""
    seeds: int
    """S >= 2; each item is the mean of S (S - 1) / 2 pairs."""


def pairwise_distance(features: np.ndarray, distance: str = "cosine") -> Diversity:
    """Compute the mean distance between the images of one prompt at two seeds, in float64.

    features: (S, n, d) float, of n prompts at S seeds. distance: "cosine", 1 - cosine, 0..2; or "euclidean", |x - y| in feature units.
    Raises BadFeatures for S < 2, no prompt, another distance, NaN or infinite values, and rows of zeros (cosine).
    """
    features = np.asarray(features)
    if features.ndim != 3:
        raise BadFeatures(f"features of several seeds have shape {features.shape}; expected (seeds, prompts, dimensions).")
    check_seeds(len(features))
    if distance == "cosine":
        rows = [unit_rows(part, "generated") for part in features]
        # of unit vectors |x - y|^2 / 2 = 1 - cosine, without its cancellation near 0
        return mean_over_pairs(rows, lambda a, b: ((a - b) ** 2).sum(axis=1) / 2)
    if distance == "euclidean":
        rows = [feature_matrix(part, "generated", least=1).astype(np.float64) for part in features]
        return mean_over_pairs(rows, lambda a, b: np.linalg.norm(a - b, axis=1))
    raise BadFeatures(f"distance '{distance}' is unknown; known: cosine, euclidean.")


def check_seeds(seeds: int) -> None:
    """Raise BadFeatures for fewer than two seeds."""
    if seeds < 2:
        raise BadFeatures(f"in-prompt diversity compares images of one prompt at several seeds; found {seeds}, needed at least 2.")


def mean_over_pairs(parts: Sequence[np.ndarray], compare: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Diversity:
    """Average `compare` over every two of S parts. compare: two (n, ...) arrays -> (n,) float64."""
    items = np.mean([compare(a, b) for a, b in combinations(parts, 2)], axis=0)
    return Diversity(float(items.mean()), items, len(parts))
