"""Vendi score: the effective number of different images among the generated ones (Friedman & Dieng 2023)."""

from __future__ import annotations

from scottbench.metrics import vendi_influence, vendi_score
from scottbench.registry.nouns import Cell, Influence
from scottbench_metrics.options import VendiOptions


def vendi(cell: Cell, options: VendiOptions) -> float:
    """exp of the entropy of the spectrum of the similarity matrix / n, 1..n; the reference does not enter."""
    return vendi_score(cell.features["image"], **vars(options)).value


def influence(cell: Cell, options: VendiOptions) -> Influence:
    return vendi_influence(cell.features["image"], **vars(options))
