"""pytest fixtures for authors: `pytest_plugins = "scottbench.testing"` in conftest.py makes them known."""

from __future__ import annotations

import pytest

from scottbench.models.diffusion_model import DiffusionModel
from scottbench.registry.nouns import CellFeatures
from scottbench.testing.analytic import analytic_model
from scottbench.testing.made import made_cells

__all__ = ["analytic_teacher", "feature_cells"]


@pytest.fixture
def analytic_teacher() -> DiffusionModel:
    """Give a test the analytic teacher."""
    return analytic_model()


@pytest.fixture
def feature_cells() -> list[CellFeatures]:
    """Give a test made features, a cell each of two seeds."""
    return made_cells()
