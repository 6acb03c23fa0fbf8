"""Vendi score: the effective number of different images among the generated ones (Friedman & Dieng 2023)."""

from __future__ import annotations

from scottbench import CellFeatures, Influence
from scottbench.metrics import vendi_influence, vendi_score
from scottbench_metrics.options import VendiOptions


def vendi(cell: CellFeatures, options: VendiOptions) -> float:
    """Compute exp of the entropy of the spectrum of the similarity matrix / n, 1..n; the reference does not enter."""
    return vendi_score(cell.generated["image"], **vars(options)).value


def influence(cell: CellFeatures, options: VendiOptions) -> Influence:
    """Compute the first-order influence of every generated image."""
    return vendi_influence(cell.generated["image"], **vars(options))
