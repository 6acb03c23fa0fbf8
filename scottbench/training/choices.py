"""From what the user wrote to what is meant: names looked up, text to options, numbers checked. No file is touched."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scottbench.errors import UsageError
from scottbench.plan.data import DataChoice, choose_data
from scottbench.plan.device import choose_device
from scottbench.plan.request import recorded
from scottbench.registry.nouns import Trainer
from scottbench.registry.options import make_options
from scottbench.registry.presets import Preset
from scottbench.training.request import TrainRequest
from scottbench.training.settings import MINUTES, SETTINGS, Budget, TrainSettings, make_settings

if TYPE_CHECKING:
    from scottbench.registry.loader import Plugins

HEADLINE = ("trainer", "out", "resume")
"""Fields of a request that are no settings."""


@dataclass(frozen=True)
class TrainChoices:
    """A training that is ready to be opened."""

    request: TrainRequest
    preset: Preset
    trainer: Trainer
    options: Any
    """An instance of the trainer's options."""
    settings: TrainSettings
    budget: Budget
    device: str
    out: Path
    data: DataChoice


def choose(plugins: Plugins, request: TrainRequest) -> TrainChoices:
    """Look up the names of a request and fill in the preset's values and the defaults. Raises UsageError."""
    if not 0 <= request.seed < 2**63:
        raise UsageError(f"--seed must be a whole number from 0 to {2**63 - 1}, found '{request.seed}'")
    trainer = plugins.find("trainer", request.trainer).noun
    preset = plugins.find("preset", request.preset).noun
    device = choose_device(request.device, preset)
    options = make_options(trainer.options, preset_options(preset, trainer) | request.options, f"trainer '{trainer.name}'")
    settings = make_settings(preset.train, {name: getattr(request, name) for name in SETTINGS})
    out = Path("students") / f"{preset.name}-{trainer.name}" if request.out is None else Path(request.out)
    data = choose_data(plugins, preset, request)
    return TrainChoices(request, preset, trainer, options, settings, choose_budget(request, preset), device, out, data)


def choose_budget(request: TrainRequest, preset: Preset) -> Budget:
    """Take the budget that was asked for, else the preset's minutes. Raises UsageError for one that is spent before it begins."""
    if request.minutes is not None and not request.minutes > 0:
        raise UsageError("--minutes must be above 0")
    if request.max_steps is not None and request.max_steps < 1:
        raise UsageError(f"--max-steps must be a whole number of at least 1, found '{request.max_steps}'")
    if request.passes is not None and request.passes < 1:
        raise UsageError(f"--passes must be a whole number of at least 1, found '{request.passes}'")
    if request.minutes is None and request.max_steps is None and request.passes is None:
        return Budget(preset.train.get("minutes", MINUTES), None)
    return Budget(request.minutes, request.max_steps, request.passes)


def preset_options(preset: Preset, trainer: Trainer) -> dict[str, Any]:
    """Return a preset's values for the options of a trainer."""
    return preset.train.get("options", {}).get(trainer.name, {})


def in_words(choices: TrainChoices) -> list[tuple[str, Any, str]]:
    """List (setting, value, origin) of everything that a training uses; options of the trainer are named "options.NAME"."""
    request, preset = choices.request, choices.preset
    filled = {name: preset.train[name] for name in SETTINGS if name in preset.train} | {
        "model": preset.model, "device": preset.device, "dataset": preset.dataset}
    if request.max_steps is None:
        filled["minutes"] = preset.train.get("minutes")
    found = recorded(request, preset, filled)
    defaults = asdict(choices.settings) | asdict(choices.budget)
    rows = []
    for name, entry in found.items():
        if name not in (*HEADLINE, "options"):
            value = defaults.get(name, entry["value"]) if entry["origin"] == "default" else entry["value"]
            rows.append((name, value, entry["origin"]))
    given, of_preset = request.origins.get("options", "call"), preset_options(preset, choices.trainer)
    for name, value in asdict(choices.options).items():
        origin = given if name in request.options else f"preset {preset.name}" if name in of_preset else "default"
        rows.append((f"options.{name}", value, origin))
    return rows
