"""CMMD: the squared MMD of a Gaussian kernel between CLIP ViT-L/14-336 features of unit length (Jayasumana et al. 2024)."""

from __future__ import annotations

from scottbench import CellFeatures, Influence
from scottbench.metrics import GaussianSums, gaussian_influence, gaussian_sums
from scottbench.metrics.gaussian_kernel import mmd_of
from scottbench_metrics.options import GaussianOptions

ROLE = "clip_l14_336"


def cmmd(cell: CellFeatures, options: GaussianOptions) -> float:
    """Compute the distance of the cell's CLIP features to the reference's, >= 0, with the paper's width 10 and scale 1000."""
    return options.scale * mmd_of(sums(cell, options.sigma))


def influence(cell: CellFeatures, options: GaussianOptions) -> Influence:
    """Compute the influence of every image: the derivative in the images' weights."""
    found = sums(cell, options.sigma)
    return gaussian_influence(cell.reference[ROLE], cell.generated[ROLE], options.sigma, options.scale, found)


def sums(cell: CellFeatures, sigma: float) -> GaussianSums:
    """Average the kernel over all pairs; the averages within the reference are made once per run."""
    key = ("scottbench_metrics.cmmd", sigma)
    if key not in cell.memo:
        found = gaussian_sums(cell.reference[ROLE], cell.generated[ROLE], sigma, cell.reference_memo.get(key))
        cell.reference_memo[key], cell.memo[key] = found.within_real, found
    return cell.memo[key]
