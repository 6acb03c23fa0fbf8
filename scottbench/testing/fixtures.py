"""pytest fixtures for authors: `pytest_plugins = "scottbench.testing"` in conftest.py makes them known."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from scottbench.models.diffusion_model import DiffusionModel
from scottbench.registry.nouns import CellFeatures
from scottbench.testing.analytic import analytic_model
from scottbench.testing.made import MadeItems, made_cell, made_cells

if TYPE_CHECKING:
    from scottbench.registry.loader import Plugins
    from scottbench.run.notebook import Run
    from scottbench.testing.small import Trained

__all__ = [
    "analytic_teacher", "feature_cells", "sb_cell", "sb_gaussian_teacher", "sb_items", "sb_plugins", "sb_point_teacher", "sb_run",
    "sb_tiny_model", "sb_train",
]  # fmt: skip


@pytest.fixture
def sb_plugins() -> Callable[..., Plugins]:
    """Give `sb_plugins(source)`: all that is registered, with a source beside it: a path or name of a plug-in, a module with hooks, or a
    list of nouns and TOML files."""
    from scottbench.testing.sources import as_plugins

    return as_plugins


@pytest.fixture
def sb_point_teacher() -> DiffusionModel:
    """Give a teacher whose data are one point a prompt, the mean of its embedding: the exact sampler gives that point."""
    return analytic_model(spread=0.0)


@pytest.fixture
def sb_gaussian_teacher() -> DiffusionModel:
    """Give a teacher whose data are Gaussian around a mean of the prompt, with standard deviation 0.5."""
    return analytic_model()


@pytest.fixture
def sb_tiny_model() -> DiffusionModel:
    """Give a random model in Stable Diffusion's shape: images of 64x64, latents (4,8,8); each test has its own."""
    from scottbench.testing.tiny import tiny_model

    return tiny_model()


@pytest.fixture
def sb_items() -> Callable[..., MadeItems]:
    """Give `sb_items(n, **faults)`: n made pictures with prompts; faults as of `scottbench.testing.MadeItems`."""
    return MadeItems


@pytest.fixture
def sb_cell() -> Callable[..., CellFeatures]:
    """Give `sb_cell(n, d)`: a cell of n images with features (n,d) of roles "image" and "clip", images, prompts and ids."""
    return made_cell


@pytest.fixture
def sb_run(tmp_path: Path) -> Callable[..., Run]:
    """Give `sb_run(source, methods, metrics=("sb-colour",), steps=2, n=6, **more)`: a whole run of the host, on made
    pictures with a tiny random teacher and an extractor without weights; source: as of `sb_plugins`; more: students={trainer: folder}
    and fields of a RunRequest. It returns a `scottbench.Run`."""
    numbers = itertools.count()

    def run(source: Any, methods: Any, metrics: Any = ("sb-colour",), steps: Any = 2, n: int = 6, **more: Any) -> Run:
        from scottbench.testing.small import Small, names, small_run

        students, counts = more.pop("students", {}), [steps] if isinstance(steps, int) else list(steps)
        asked = Small(names(methods), names(metrics), counts, n, students, more)
        return small_run(source, asked, tmp_path / f"sb-run-{next(numbers)}")

    return run


@pytest.fixture
def sb_train(tmp_path: Path) -> Callable[..., Trained]:
    """Give `sb_train(trainer, steps=3, options=None, plugins=None, **settings)`: a training of a few steps on a tiny random teacher and
    made items, and its student, opened; settings: of `scottbench.training.settings.TrainSettings`."""
    numbers = itertools.count()

    def train(trainer: Any, steps: int = 3, options: Any = None, plugins: Any = None, **settings: Any) -> Trained:
        from scottbench.testing.small import small_training
        from scottbench.testing.sources import as_plugins

        found = as_plugins(plugins)
        noun = found.find("trainer", trainer).noun if isinstance(trainer, str) else trainer
        return small_training(noun, tmp_path / f"sb-train-{next(numbers)}", steps, options, found, **settings)

    return train


@pytest.fixture
def analytic_teacher() -> DiffusionModel:
    """Give a test the Gaussian teacher, under its older name."""
    return analytic_model()


@pytest.fixture
def feature_cells() -> list[CellFeatures]:
    """Give a test made features, a cell each of two seeds."""
    return made_cells()
