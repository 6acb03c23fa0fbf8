"""Patch FID: the Frechet distance between crops of the images, not scaled down (Lin et al. 2024, SDXL-Lightning; Yin et al. 2024, DMD2)."""

from __future__ import annotations

from scottbench import CellFeatures, Influence, NoOptions
from scottbench.metrics import GaussianFit, frechet_distance, frechet_influence
from scottbench.metrics.patches import of_images, patch_fit

ROLE = "patch"
KEY = ("scottbench_metrics.patch_fid", ROLE)


def patch_fid(cell: CellFeatures, options: NoOptions) -> float:
    """Compute the Frechet distance of the crops' features, (n, crops, d), to those of the reference's crops, >= 0."""
    return frechet_distance(*fits(cell)).value


def influence(cell: CellFeatures, options: NoOptions) -> Influence:
    """Compute the influence of every image, the mean over its crops. Raises NoInfluence if the distance is rank limited."""
    return of_images(frechet_influence(*fits(cell)), len(cell.reference[ROLE]), len(cell.generated[ROLE]))


def fits(cell: CellFeatures) -> tuple[GaussianFit, GaussianFit]:
    """Fit Gaussians to the crops of the reference, once per run, and of the cell. Raises BadFeatures for features that are not of crops."""
    if KEY not in cell.reference_memo:
        cell.reference_memo[KEY] = patch_fit(cell.reference[ROLE], "reference")
    if KEY not in cell.memo:
        cell.memo[KEY] = patch_fit(cell.generated[ROLE], "generated")
    return cell.reference_memo[KEY], cell.memo[KEY]
