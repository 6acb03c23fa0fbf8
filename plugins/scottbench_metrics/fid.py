"""FID: the Frechet distance between Gaussian fits of image features (Heusel et al. 2017)."""

from __future__ import annotations

from scottbench import CellFeatures, Influence, NoOptions
from scottbench.metrics import frechet_distance, frechet_influence
from scottbench_metrics.frechet import fits

ROLE = "image"


def fid(cell: CellFeatures, options: NoOptions) -> float:
    """Compute the Frechet distance of the cell's image features to the reference's, >= 0; the reference is factored once per run."""
    return frechet_distance(*fits(cell, ROLE)).value


def influence(cell: CellFeatures, options: NoOptions) -> Influence:
    """Compute the influence of every image. Raises NoInfluence if the distance is rank limited."""
    return frechet_influence(*fits(cell, ROLE))
