"""FD-DINOv2: the Frechet distance on features of DINOv2 ViT-L/14 (Stein et al. 2023), by dgm-eval's formula and protocol."""

from __future__ import annotations

from scottbench import CellFeatures, Influence, NoOptions
from scottbench.metrics import frechet_distance, frechet_influence
from scottbench_metrics.frechet import fits

ROLE = "dinov2"


def fd_dinov2(cell: CellFeatures, options: NoOptions) -> float:
    """Compute the Frechet distance of the cell's DINOv2 features to the reference's, >= 0; the reference is factored once per run."""
    return frechet_distance(*fits(cell, ROLE)).value


def influence(cell: CellFeatures, options: NoOptions) -> Influence:
    """Compute the influence of every image. Raises NoInfluence if the distance is rank limited."""
    return frechet_influence(*fits(cell, ROLE))
