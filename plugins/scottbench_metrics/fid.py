"""FID: the Frechet distance between Gaussian fits of image features (Heusel et al. 2017)."""

from __future__ import annotations

from scottbench import CellFeatures, Influence, NoOptions
from scottbench.metrics import GaussianFit, frechet_distance, frechet_influence

KEY = ("scottbench_metrics.fid", "image")


def fid(cell: CellFeatures, options: NoOptions) -> float:
    """Compute the Frechet distance of the cell's image features to the reference's, >= 0; the reference is factored once per run."""
    return frechet_distance(*fits(cell)).value


def influence(cell: CellFeatures, options: NoOptions) -> Influence:
    """Compute the influence of every image. Raises NoInfluence if the distance is rank limited."""
    return frechet_influence(*fits(cell))


def fits(cell: CellFeatures) -> tuple[GaussianFit, GaussianFit]:
    """Fit Gaussians to the reference, once per run, and to the cell, once for value and influence."""
    if KEY not in cell.reference_memo:
        cell.reference_memo[KEY] = GaussianFit.of(cell.reference["image"], "reference")
    if KEY not in cell.memo:
        cell.memo[KEY] = GaussianFit.of(cell.generated["image"], "generated")
    return cell.reference_memo[KEY], cell.memo[KEY]
