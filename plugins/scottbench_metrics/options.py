"""Options of the k-nearest-neighbour metrics; apart from their code so that listing them imports no numpy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BallOptions:
    k: int = 5
    """The ball of a point reaches to its k-th nearest neighbour in its own set; 1 or more, below the number of images."""

    def __post_init__(self):
        if self.k < 1:
            raise ValueError("k must be at least 1")
