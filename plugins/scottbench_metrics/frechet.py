"""Gaussian fits of a cell's features, by extractor role: the reference's are made once per run, the cell's once for value and influence."""

from __future__ import annotations

from scottbench import CellFeatures
from scottbench.metrics import GaussianFit


def fits(cell: CellFeatures, role: str) -> tuple[GaussianFit, GaussianFit]:
    """Fit Gaussians to the reference and to the cell. Raises BadFeatures for features without a covariance."""
    key = ("scottbench_metrics.fid", role)  # FID-T takes the same fit of the cell
    if key not in cell.reference_memo:
        cell.reference_memo[key] = GaussianFit.of(cell.reference[role], "reference")
    if key not in cell.memo:
        cell.memo[key] = GaussianFit.of(cell.generated[role], "generated")
    return cell.reference_memo[key], cell.memo[key]
