"""The things that a trainer may use, and how it opens an extractor of the preset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scottbench.errors import UsageError
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.models.extractors import OpenExtractor, find_extractor, open_extractor
from scottbench.plan.choices import extractor_of
from scottbench.registry.nouns import Method
from scottbench.registry.presets import Preset
from scottbench.training.data import Data
from scottbench.training.discriminator import LossScale

if TYPE_CHECKING:
    from scottbench.registry.loader import Plugins


@dataclass
class Context:
    """The frozen teacher, where it runs, and the things beside it that some trainers need."""

    teacher: DiffusionModel
    """The opened model, frozen: `Teacher` of `scottbench.models.teacher` says what it has."""
    device: str
    """Where the networks are, in torch's words; new ones go there too."""
    folder: Path | None = None
    """The training folder, for data that the trainer makes and a resumed training uses again."""
    data: Data | None = None
    """The encoded training split; `batch["indices"]` index it."""
    find_method: Callable[[str], Method] | None = None
    """Name -> the registered method, for a trainer that samples its teacher; raises UsageError for an unknown name."""
    open_extractor: Callable[[str], OpenExtractor] | None = None
    """Role ("image", "clip") -> the preset's extractor, opened; raises UsageError where the preset has none."""
    scaler: LossScale | None = None
    """float16's loss scale, for gradients that a trainer takes itself; None in other precisions."""


def preset_extractor(plugins: Plugins, preset: Preset, role: str, device: str) -> OpenExtractor:
    """Open the extractor of a preset's role. Raises UsageError for a role it lacks, MissingAsset or DamagedAsset."""
    if role not in preset.extractors:
        raise UsageError(f"preset '{preset.name}' has no extractor '{role}', which this option of the trainer needs.")
    choice = extractor_of(plugins, preset, preset.extractors[role].get("same_as", role))
    return open_extractor(find_extractor(choice.extractor, choice.spec, preset.path), device)
