"""The things that a trainer may use, and how it opens an extractor of the preset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scottbench.errors import UsageError
from scottbench.models.diffusion_model import DiffusionModel
from scottbench.models.extractors import Extractor, find_extractor, open_extractor
from scottbench.registry.nouns import Method
from scottbench.registry.presets import Preset
from scottbench.training.data import Data


@dataclass
class Context:
    """The frozen teacher, where it runs, and the things beside it that some trainers need."""

    teacher: DiffusionModel
    device: str
    folder: Path | None = None
    """The training folder, for data that the trainer makes and a resumed training uses again."""
    data: Data | None = None
    """The encoded training split; `batch["indices"]` index it."""
    find_method: Callable[[str], Method] | None = None
    """Name -> the registered method, for a trainer that samples its teacher; raises UsageError for an unknown name."""
    open_extractor: Callable[[str], Extractor] | None = None
    """Role ("image", "clip") -> the preset's extractor, opened; raises UsageError where the preset has none."""


def preset_extractor(preset: Preset, role: str, device: str) -> Extractor:
    """Open the extractor of a preset's role. Raises UsageError for a role it lacks, MissingAsset or DamagedAsset."""
    if role not in preset.extractors:
        raise UsageError(f"preset '{preset.name}' has no extractor '{role}', which this option of the trainer needs.")
    spec = preset.extractors[role]
    return open_extractor(find_extractor(preset.extractors[spec["same_as"]] if "same_as" in spec else spec, preset.path), device)
