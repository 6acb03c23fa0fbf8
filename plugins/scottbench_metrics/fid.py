"""FID: the Frechet distance between Gaussian fits of image features (Heusel et al. 2017)."""

from __future__ import annotations

from scottbench.metrics import GaussianFit, frechet_distance, frechet_influence
from scottbench.registry.nouns import Cell, Influence, NoOptions

KEY = ("scottbench_metrics.fid", "image")


def fid(cell: Cell, options: NoOptions) -> float:
    """Frechet distance of the cell's image features to the reference's, >= 0; the reference is factored once per run."""
    return frechet_distance(*fits(cell)).value


def influence(cell: Cell, options: NoOptions) -> Influence:
    """Raises NoInfluence where the distance is rank limited."""
    return frechet_influence(*fits(cell))


def fits(cell: Cell) -> tuple[GaussianFit, GaussianFit]:
    """Gaussian fits of the reference and of the cell."""
    if KEY not in cell.real_memo:
        cell.real_memo[KEY] = GaussianFit.of(cell.real["image"], "reference")
    if KEY not in cell.memo:
        cell.memo[KEY] = GaussianFit.of(cell.features["image"], "generated")
    return cell.real_memo[KEY], cell.memo[KEY]
