"""FID: the Frechet distance between Gaussian fits of image features (Heusel et al. 2017)."""

from __future__ import annotations

from scottbench.nouns import Cell, NoOptions
from scottbench.stats import GaussianFit, frechet_distance


def fid(cell: Cell, options: NoOptions) -> float:
    """Frechet distance of the cell's image features to the reference's, >= 0; the reference is factored once per run."""
    key = ("scottbench_metrics.fid", "image")
    if key not in cell.real_memo:
        cell.real_memo[key] = GaussianFit.of(cell.real["image"], "reference")
    distance = frechet_distance(cell.real_memo[key], cell.features["image"])
    cell.memo[key] = distance
    return distance.value
